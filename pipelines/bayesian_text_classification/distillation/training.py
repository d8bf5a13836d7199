"""Trains a classifier towards the probabilities of a teacher, with transformers' `Trainer`.

The loss is KL(teacher || student) (Hinton et al. 2015, arXiv:1503.02531), for independent labels the sum over the
labels. Dropout is off: the teacher has averaged over it.
"""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..pipeline.encoding import Encoder
from ..pipeline.options import Activation
from ..pipeline.randomness import unmoved_random_state
from .closeness import divergence

PASSES_OF_A_STEP = 3  # a backward pass costs as much as two forward passes
RANK = 16  # of a LoRA adapter
_TARGETS = "labels"
_WRITTEN_LAST = "trainer_state.json"  # of a checkpoint
# Arguments of `TrainingArguments` that have an argument of their own in `distill`, or that `trained` rests on.
_OF_DISTILL = {
    "num_train_epochs": "epochs",
    "learning_rate": "learning_rate",
    "per_device_train_batch_size": "batch_size",
    "seed": "seed",
    "output_dir": "checkpoints",
}
_FIXED = (
    *("eval_strategy", "save_strategy", "load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    *("prediction_loss_only", "remove_unused_columns", "label_names", "max_steps", "save_only_model", "use_cpu"),
    *("eval_on_start", "eval_delay", "label_smoothing_factor"),
)


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Attributes:
        epochs: Times that it sees every text. The epoch that is closest to the teacher on other texts is kept.
        learning_rate: The largest rate of AdamW, after a warm-up of 6% of the steps; it falls linearly to 0.
        batch_size: Texts of a step.
        seed: Of the order of the texts.
        more: Further arguments of `TrainingArguments`, such as `{"bf16": True}`.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    more: Mapping[str, Any]


class Examples(Dataset[dict[str, Any]]):
    """Encoded texts and their soft targets. Texts that cannot share a batch with the others are left out.

    Args:
        texts: The texts.
        targets: Probabilities of the teacher. *Shape:* (texts, classes).
        encoder: Tokenizes, as in a call of the classifier.
        options: Arguments of the tokenizer's call.
    """

    def __init__(
        self, texts: Sequence[Any], targets: NDArray[np.float32], encoder: Encoder, options: Mapping[str, Any]
    ) -> None:
        encoded = encoder.encode(texts, options)
        ends = encoder.end_counts(encoded)  # encoder-decoders refuse rows with unequal numbers of them
        (usual, _), *_ = Counter(ends).most_common(1)
        rows = [i for i, count in enumerate(ends) if count == usual]
        self._rows = [{name: values[i] for name, values in encoded.rows.items()} for i in rows]
        self._targets = targets[rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {**self._rows[i], _TARGETS: self._targets[i]}


def trained(
    model: Any,
    encoder: Encoder,
    examples: Examples,
    choosing: Examples,
    activation: Activation,
    settings: Settings,
    checkpoints: Path | None,
    advance: Callable[[int], None],
) -> tuple[Any, dict[str, Any]]:
    """Train `model` in place, and load the weights of the epoch that is closest to the teacher.

    Args:
        model: In float32; it is changed.
        encoder: That of the examples.
        examples: Texts to train on.
        choosing: Other texts, which choose the epoch.
        activation: How logits become probabilities.
        settings: Settings of the training.
        checkpoints: Folder of the checkpoints. A stopped training continues there. None: a temporary one.
        advance: Called with the number of passes of each batch; a training step counts as three.

    Returns:
        The model, and the chosen epoch and the divergence after each epoch, for the record. Epoch 0: it was closest
        before the training, whose result is to be left out.
    """
    with contextlib.ExitStack() as stack:
        folder = checkpoints or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(unmoved_random_state())
        trainer = _Trainer(
            model=model,
            args=_arguments(folder, settings, model.device, can_pad=encoder.can_pad),
            train_dataset=examples,
            eval_dataset=choosing,
            data_collator=_Collator(encoder),
        )
        trainer.activation, trainer.advance = activation, advance
        trainer.model_accepts_loss_kwargs = False  # as `loss_is_scaled_for_ga`, in earlier versions
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        with unmoved_random_state():  # the order of the texts stays that of the seed
            before = trainer.evaluate()["eval_loss"]
        trainer.train(resume_from_checkpoint=last_complete(folder))
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    epoch = int(np.argmin([before, *losses]))
    return model.eval(), {"epoch": epoch, "kl_of_epochs": [round(loss, 5) for loss in losses]}


def check_arguments(given: Mapping[str, Any] | None, device: torch.device) -> None:
    """Check further arguments of `TrainingArguments`.

    Raises:
        ValueError: They are no mapping, `TrainingArguments` does not take one of them, or `trained` sets it.
    """
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise ValueError(f"training={given!r}; it must be a dict of TrainingArguments, such as {{'bf16': True}}")
    known = {field.name for field in fields(TrainingArguments)}
    for name in given:
        if name in _OF_DISTILL:
            raise ValueError(f"training has {name!r}; pass {_OF_DISTILL[name]}=... to distill instead")
        if name in _FIXED:
            raise ValueError(f"training has {name!r}, which distill sets itself; leave it out")
        if name == "gradient_checkpointing":
            raise ValueError(
                "training has 'gradient_checkpointing', which models do in train() mode alone, and a student learns "
                "without dropout; to save memory, pass a smaller batch_size, or how='lora'"
            )
        if name not in known:
            raise ValueError(
                f"training has {name!r}, which transformers.TrainingArguments does not take; its documentation lists "
                "what it takes"
            )
    with tempfile.TemporaryDirectory() as folder:
        TrainingArguments(**{"output_dir": folder, "use_cpu": device.type == "cpu", "report_to": [], **given})


def last_complete(folder: Path) -> str | None:
    """The last checkpoint in a folder that was written to its end; None if there is none."""
    steps = {int(path.parent.name.split("-")[-1]): path.parent for path in folder.glob(f"checkpoint-*/{_WRITTEN_LAST}")}
    return str(steps[max(steps)]) if steps else None


def with_lora(model: Any) -> Any:
    """The model with a new adapter on all linear layers (Hu et al. 2021, arXiv:2106.09685), and a trainable head."""
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(TaskType.SEQ_CLS, r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear")
    return get_peft_model(model, config)


class _Trainer(Trainer):  # type: ignore[misc]  # untyped
    """A `Trainer` with the loss of a student."""

    activation: Activation
    advance: Callable[[int], None]
    loss_is_scaled_for_ga = False  # the loss is a mean over the batch

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        passes = PASSES_OF_A_STEP if torch.is_grad_enabled() else 1
        model.eval()  # no dropout
        outputs = model(**{name: values for name, values in inputs.items() if name != _TARGETS})
        loss = divergence(outputs.logits.float(), inputs[_TARGETS], self.activation)
        self.advance(passes * len(inputs[_TARGETS]))
        return (loss, {"logits": outputs.logits}) if return_outputs else loss


@dataclass(frozen=True)
class _Collator:
    """Makes a batch of examples."""

    encoder: Encoder

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        rows: Any = {name: [one[name] for one in examples] for name in examples[0] if name != _TARGETS}
        if self.encoder.can_pad:
            rows = self.encoder.tokenizer.pad(rows, return_tensors="pt")
        targets = torch.from_numpy(np.stack([one[_TARGETS] for one in examples]))
        return {**{name: torch.as_tensor(values) for name, values in rows.items()}, _TARGETS: targets}


def _arguments(folder: Path, settings: Settings, device: torch.device, *, can_pad: bool) -> TrainingArguments:
    rows, steps = (settings.batch_size, 1) if can_pad else (1, settings.batch_size)
    renamed = "train_sampling_strategy" in {field.name for field in fields(TrainingArguments)}
    usual = {
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": steps,
        "per_device_eval_batch_size": rows,
        "weight_decay": 0.01,
        "warmup_steps": 0.06,  # a share of all steps
        "lr_scheduler_type": "linear",
        **({"train_sampling_strategy": "group_by_length"} if renamed else {"group_by_length": True}),
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,  # and the best one
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "prediction_loss_only": True,
        "remove_unused_columns": False,
        "label_names": [_TARGETS],
        "logging_strategy": "no",
        "disable_tqdm": True,
        "report_to": [],
        "seed": settings.seed,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
    }
    return TrainingArguments(**{"output_dir": str(folder), **usual, **settings.more})
