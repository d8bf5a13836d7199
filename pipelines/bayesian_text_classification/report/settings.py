"""The settings of a run, as a report shows them."""

import platform
from dataclasses import asdict, dataclass
from typing import Any

from ..pipeline.rates import Dropout
from ..pipeline.versions import version_of
from ..wording import without_folder
from .recipe import Sources

_PACKAGES = (
    "bayesian-text-classification",
    "torch",
    "transformers",
    "evaluate",
    "datasets",
    "baal",
    "numpy",
    "scipy",
)


def versions() -> dict[str, str | None]:
    """Versions of the packages that the numbers depend on, and of Python."""
    return {name: version_of(name) for name in _PACKAGES} | {"python": platform.python_version()}


@dataclass(frozen=True)
class ReportSettings:
    """Where the numbers come from. None: does not apply, or is not known.

    Attributes:
        model: Name, path or Hub id of the model.
        dataset: Name, path or Hub id of the labeled texts.
        ensemble: The other models of an ensemble.
        student: Name, path or Hub id of the student.
        config: Configuration of a dataset on the Hub.
        split: Split of a dataset on the Hub.
        text_column: Column that the texts were read from.
        text_pair_column: Column that second texts were read from.
        label_column: Column that the labels were read from.
        calibration_dataset: Dataset that the scalings were fitted on.
        ood_dataset: Dataset of out-of-scope texts.
        scope_dataset: Dataset of the texts that a scope was learned from.
        scope_held_out: Dataset of the texts behind its p-values.
        coverage: Coverage of the prediction sets.
        num_samples: Forward passes of the sampled arms.
        dropout: The option `dropout` of the sampled arms.
        seed: Seed of all random draws.
        device: Device that the model ran on.
        dtype: Data type that it ran in.
        masks: Dropout masks of the Bayesian arms.
        date: Day of the run, as YYYY-MM-DD.
        fingerprint: Hash of the model (`loading.fingerprint`). A push with a report checks it.
        sources: What the run read, for the code that carries out the recommendation; None for no such code.
    """

    model: str
    dataset: str
    ensemble: tuple[str, ...] | None = None
    student: str | None = None
    config: str | None = None
    split: str | None = None
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    calibration_dataset: str | None = None
    ood_dataset: str | None = None
    scope_dataset: str | None = None
    scope_held_out: str | None = None
    coverage: float | None = None
    num_samples: int | None = None
    dropout: Dropout = None
    seed: int | None = None
    device: str | None = None
    dtype: str | None = None
    masks: str | None = None
    date: str | None = None
    fingerprint: str | None = None
    sources: Sources | None = None

    @property
    def model_name(self) -> str:
        """The name without folders of this machine."""
        return without_folder(self.model)

    @property
    def dataset_name(self) -> str:
        """The name without folders of this machine."""
        return without_folder(self.dataset)

    def as_dict(self) -> dict[str, Any]:
        """All settings but the sources, which repeat them; ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "sources"}
