"""What a report says of the run that it is about."""

from dataclasses import asdict, dataclass
from typing import Any

from ..wording import without_folder


@dataclass(frozen=True)
class ReportSettings:
    """Where the numbers come from; None for what does not apply or is not known.

    Attributes:
        model: name, path or Hub id.
        dataset: the same of the labelled texts.
        config: configuration of a dataset on the Hub.
        split: its split.
        text_column: that the texts were read from.
        label_column: that the labels were read from.
        calibration_dataset: that the temperatures were fitted on.
        ood_dataset: texts out of scope.
        num_samples: passes of the sampled arms.
        seed: of every random draw.
        device: that the model ran on.
        dtype: that it ran in.
        masks: of the Bayesian arms.
        fingerprint: of the model (`loading.fingerprint`); `push pipeline --report` asks for it.
    """

    model: str
    dataset: str
    config: str | None = None
    split: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    calibration_dataset: str | None = None
    ood_dataset: str | None = None
    num_samples: int | None = None
    seed: int | None = None
    device: str | None = None
    dtype: str | None = None
    masks: str | None = None
    fingerprint: str | None = None

    @property
    def model_name(self) -> str:
        """Without the folders of this machine."""
        return without_folder(self.model)

    @property
    def dataset_name(self) -> str:
        """Without the folders of this machine."""
        return without_folder(self.dataset)

    def as_dict(self) -> dict[str, Any]:
        """All of them, ready for JSON."""
        return asdict(self)
