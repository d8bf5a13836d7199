"""The base class for checkpoints whose single ordinary pass is all that a server needs: `distill` and `export`."""

import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .conformal import ConformalPipeline
from .distillation import STUDENT, Distillation, How
from .errors import in_one_line
from .inputs import text_hash, text_key
from .options import Options
from .progress import Progress
from .saved_arrays import UNREADABLE, file_of, read_arrays, write_arrays
from .saving import saved_options

_PACKAGE = "bayesian_text_classification"
_HASHES = "hashes"


class OnePassPipeline(ConformalPipeline):
    """A pipeline that makes checkpoints for servers that sample nothing."""

    _distillation: Distillation | None = None
    _distilled_on: frozenset[int] = frozenset()

    @property
    def distillation(self) -> Distillation | None:
        """What made this classifier, if `distill` did; None for any other."""
        return self._distillation

    @property
    def distilled_on(self) -> frozenset[int]:
        """Hashes (`text_hash`) of the texts that a student and its teachers were made from; empty if not known."""
        return self._distilled_on

    def set_distillation(self, made_by: Distillation, hashes: frozenset[int]) -> None:
        """Note what made this classifier, and the hashes of the texts."""
        self._distillation, self._distilled_on = made_by, hashes

    def distill(
        self,
        texts: Sequence[Any],
        *,
        how: How = "weights",
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        training: Mapping[str, Any] | None = None,
        checkpoints: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make a student: a classifier of the same architecture whose single ordinary pass gives this one's scores.

            student = argmin_f  mean_x KL( score(x) || softmax(f(x)) )      (Hinton et al. 2015, arXiv:1503.02531)

        The scores are those of this classifier on the texts: averages over its samples, calibrated if they are. No
        labels are needed. A tenth of the distinct texts chooses the epoch, and another one measures how close the
        student is; see `distillation`. Do not measure a student on any of the texts.

        The student answers with one ordinary pass (`num_samples=0`). `save_pretrained` writes it as an ordinary
        checkpoint, which any server loads. It has no calibration, threshold, scope and prediction sets: fit them anew.
        `evaluate --student` compares it with this classifier.

        Args:
            texts: At least 100 distinct texts like those that the student will classify; 5,000 or more are best.
            how: What is trained: "weights" (all of them), "lora" (an adapter, which is then merged into the weights;
                less memory; needs `peft`) or "head" (the last linear layer alone, by regression from its inputs: it
                takes seconds, and helps models with few classes).
            epochs: Times that training sees every text; None: 3. The weights of the best epoch are kept.
            learning_rate: None: 3e-5, or 5e-4 for "lora".
            batch_size: Texts of a training step; None: 32.
            training: Further arguments of transformers' `TrainingArguments`, such as `{"bf16": True}`.
            checkpoints: Folder for the teacher's scores and the checkpoints. The same call continues there after it was
                stopped, and a call with another `how` uses the same scores. None: nothing is kept.
            progress: Called after each batch with the number of passes in it; a training step counts as three.
            **kwargs: Options of the scores, as in a call: `num_samples`, `tolerance`, `seed`, `masks`, `dropout` and
                `posterior`.

        Returns:
            The student, a pipeline of the same class.

        Raises:
            ValueError: There are too few texts, the scores are those of one pass, the model predicts numbers, is
                quantized or has no dropout to sample, its outputs are not finite, or `checkpoints` belongs to another
                training.
            TypeError: Another option is given.
            ImportError: `accelerate` (for training) or `peft` is not installed, or only the code of a saved folder is.
        """
        asked: dict[str, Any] = {"how": how, "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
        asked |= {"training": training, "checkpoints": checkpoints}
        module = _module("distill")
        return module.student_of(module.planned(self, texts, **asked, **kwargs), progress)

    def export(
        self,
        folder: str | os.PathLike[str],
        to: Literal["transformers", "onnx"] = "transformers",
        *,
        uncalibrated: bool = False,
    ) -> None:
        """Write an ordinary checkpoint without code of this package, whose one ordinary pass has calibrated scores.

        The calibration of the ordinary scores, which `calibrate(texts, labels, num_samples=0)` fits, goes into the
        weights and the bias of the last linear layer. Any server that reads the weights then gives calibrated scores.
        Several texts are run to prove it, before and after writing. Weights are float32, and a LoRA adapter is merged.
        A threshold, a scope, prediction sets, samples and tokenizer options are left out, with one warning.

        Args:
            folder: A new or empty folder. If the export fails, it is not created.
            to: "transformers" for what `pipeline("text-classification", model=folder)` loads. "onnx" for a graph with
                free batch size and length, and its tokenizer; it needs
                `pip install "bayesian-text-classification[onnx]"`.
            uncalibrated: Export the model as it is, without a calibration.

        Raises:
            ValueError: The folder is not empty, the ordinary scores are not calibrated, the classifier is an ensemble
                or quantized, its logits do not come from a linear layer alone, or that layer has no bias for an offset.
            ImportError: The package or its extra `onnx` is not installed.
        """
        _module("export").export(self, folder, to, uncalibrated=uncalibrated)

    def saved_options(self) -> dict[str, Any]:
        """The options that are saved with the model, as JSON values."""
        made = {} if self._distillation is None else {STUDENT: self._distillation.saved()}
        return super().saved_options() | made

    def save_distilled_on(self, folder: str | os.PathLike[str]) -> None:
        """Write the hashes of `distilled_on` into a saved folder, if there are any."""
        if self._distilled_on:
            write_arrays(folder, STUDENT, {_HASHES: np.array(sorted(self._distilled_on), dtype=np.uint64)})

    def _save_arrays(self, folder: Any) -> None:
        super()._save_arrays(folder)
        self.save_distilled_on(folder)

    def _load_distillation(self, saved: Mapping[str, Any]) -> None:
        """Take over what was saved with a student, or the texts of students that are members of an ensemble.

        Warn if the texts of a student are not known.
        """
        if saved.get(STUDENT):
            self._distillation = Distillation.of_saved(saved[STUDENT])
        for model in self.members:
            if saved_options(model.config).get(STUDENT):
                self._distilled_on |= _texts_of(model)

    def _warn_of_samples(self, options: Options) -> None:
        if self._distillation is not None and options.num_samples and options.posterior == "dropout":
            self._warn_once(
                f"num_samples={options.num_samples} samples the student's own dropout, which is not what it learned "
                "from its teacher; its ordinary pass is: num_samples=0",
                about="samples of a student",
            )

    def _warn_of_learned(self, texts: Sequence[Any], consequence: str) -> None:
        learned = sum(text_hash(text_key(text)) in self._distilled_on for text in texts) if self._distilled_on else 0
        if learned:
            warnings.warn(
                f"{learned:,} of {len(texts):,} texts are among those that the student was distilled on, so "
                f"{consequence}; pass other texts",
                UserWarning,
                stacklevel=3,
            )


def _texts_of(student: Any) -> frozenset[int]:
    """Hashes of the texts that a loaded student was made from; empty, with a warning, if they cannot be read."""
    try:
        return frozenset(read_arrays(student, STUDENT)[_HASHES].tolist())
    except UNREADABLE as error:
        reason = in_one_line(error)
        warnings.warn(
            f"the texts of the student did not load from {file_of(STUDENT)} ({reason}), so evaluate cannot tell "
            "whether it measures on them; copy that file from the folder that distill wrote",
            UserWarning,
            stacklevel=4,
        )
        return frozenset()


def _module(name: str) -> Any:
    """A module of the package's folder `distillation`, which `save_pretrained` does not copy.

    Raises:
        ImportError: The package is not installed: this code runs from a saved folder.
    """
    try:
        return importlib.import_module(f"{_PACKAGE}.distillation.{name}")
    except ModuleNotFoundError as error:
        if error.name not in (_PACKAGE, f"{_PACKAGE}.distillation"):
            raise
        raise ImportError(
            "this needs the installed package, not the code of a saved folder alone: pip install "
            "bayesian-text-classification"
        ) from error
