"""Load models and labeled texts by name. Incomplete or ambiguous ones are refused."""

from .classifiers import ModelError, available_devices, load, load_classifier
from .fingerprint import fingerprint
from .labeled_texts import LabeledTexts, Texts, load_labeled_texts, load_texts
from .labels import DataError, label_ids

__all__ = [
    "DataError",
    "LabeledTexts",
    "ModelError",
    "Texts",
    "available_devices",
    "fingerprint",
    "label_ids",
    "load",
    "load_classifier",
    "load_labeled_texts",
    "load_texts",
]
