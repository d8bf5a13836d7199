"""Load models and labeled texts by name. Incomplete or ambiguous ones are refused."""

from .classifiers import ModelError, available_devices, load, load_classifier
from .fingerprint import fingerprint
from .labelled_texts import LabelledTexts, Texts, load_labelled_texts, load_texts
from .labels import DataError, label_ids

__all__ = [
    "DataError",
    "LabelledTexts",
    "ModelError",
    "Texts",
    "available_devices",
    "fingerprint",
    "label_ids",
    "load",
    "load_classifier",
    "load_labelled_texts",
    "load_texts",
]
