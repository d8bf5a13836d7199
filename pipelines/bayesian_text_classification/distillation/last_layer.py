"""Folds a line for each label into the last linear layer of a classifier, and proves it by running the model.

An ordinary pass shows which linear layers run, and in which order. Each of them, from the last to the first, is changed
for a trial. If the logits of several texts change exactly as the weights did, also by factors far from 1, they come
from that layer alone. A mean of two layers, or a limit such as tanh, does not pass.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..pipeline.forward import Forward, Inputs
from .affine import Affine, ExportError

TOLERANCE = 1e-5  # of the largest logit
_FACTORS = (64.0, 1 / 64)  # powers of 2, which float32 multiplies exactly
_OFFSETS = 8.0
_WITH_ONNX = "pass to='onnx', whose graph scales the logits themselves"


@dataclass(frozen=True)
class Head:
    """Layers whose outputs, side by side, have one number for each label.

    Attributes:
        layers: One layer, or one for each label.
        names: Their paths in the model.
    """

    layers: tuple[nn.Module, ...]
    names: tuple[str, ...]

    @property
    def has_bias(self) -> bool:
        """Whether each layer adds something."""
        return all(getattr(layer, "bias", None) is not None for layer in self.layers)

    def set(self, line: Affine, before: Sequence[tuple[Any, Any]]) -> None:
        """Give the layers their parameters `before`, changed by a line."""
        share = len(line.slopes) // len(self.layers)
        for number, (layer, (weight, bias)) in enumerate(zip(self.layers, before, strict=True)):
            part = slice(number * share, (number + 1) * share)
            slopes, offsets = line.slopes[part], line.offsets[part]
            shape = [1] * weight.ndim
            shape[_output_dim(layer)] = share
            layer.weight = _parameter(weight.double() * slopes.view(shape), weight)
            if bias is not None:
                layer.bias = _parameter(bias.double() * slopes + offsets, bias)

    def parameters(self) -> list[tuple[Any, Any]]:
        """Weight and bias of each layer."""
        return [(layer.weight, getattr(layer, "bias", None)) for layer in self.layers]


def fold(model: nn.Module, line: Affine, inputs: Sequence[Inputs]) -> str:
    """Change the last linear layer so that the logits x become `slope_k x_k + offset_k`.

    Args:
        model: A private copy of a classifier, in float32. Its layers get new parameters; none is changed in place.
        line: The slopes and offsets.
        inputs: Several encoded texts, each as a batch.

    Returns:
        Path of the layer, or of several with commas.

    Raises:
        ExportError: There is no such layer, it has no bias and there are offsets, or it shares its weights.
    """
    forward, name = Forward(model), type(model).__name__
    labels = len(line.slopes)
    if len({tuple(logits.shape[1:]) for logits in _all_logits(forward, inputs)} - {(labels,)}):
        raise ExportError(f"{name}'s logits do not have the shape (texts, {labels}); {_WITH_ONNX}")
    head = last_layers(model, line, inputs)
    if head is None:
        raise ExportError(
            f"{name}'s logits do not come from a linear layer alone, so no weights give the calibrated ones; "
            f"{_WITH_ONNX}"
        )
    if line.has_offsets and not head.has_bias:
        _add_biases(model, head, line)
    _check_apart(model, head)
    if line.has_offsets and not _moves(forward, head, inputs, _trial(line, 1.0, _OFFSETS)):
        raise ExportError(f"{name} does not add the bias of its last linear layer to its logits; {_WITH_ONNX}")
    expected = [line(logits) for logits in _all_logits(forward, inputs)]
    head.set(line, head.parameters())
    if not are_close(_all_logits(forward, inputs), expected):
        raise ExportError(f"{name}'s logits with the calibration in {head.names[0]} are not exact; {_WITH_ONNX}")
    return ", ".join(head.names)


def last_layers(model: nn.Module, line: Affine, inputs: Sequence[Inputs]) -> Head | None:
    """The layers that the logits come from; None if they come from no linear layer alone.

    Args:
        model: A private copy of a classifier, in float32. It is as before afterwards.
        line: One slope for all labels, or another one for each: which changes the layers must pass on.
        inputs: Several encoded texts, each as a batch.
    """
    forward, heads = Forward(model), _candidates(model, inputs[0], len(line.slopes))
    return next((head for head in heads if _is_last(forward, head, inputs, line)), None)


def are_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = TOLERANCE) -> bool:
    """Whether all logits are equal up to a share of the largest one. *Shape:* (texts, labels) each."""
    a, b = torch.cat([one.double() for one in found]), torch.cat([one.double() for one in expected])
    return bool(a.isfinite().all()) and float((a - b).abs().max()) <= tolerance * float(b.abs().max())


def _all_logits(forward: Forward, inputs: Sequence[Inputs]) -> list[Tensor]:
    return [forward.logits(one) for one in inputs]


def _candidates(model: nn.Module, inputs: Inputs, labels: int) -> list[Head]:
    """What may give the logits, the last one first: a layer with all labels, or the last layers with one output."""
    names = {module: name for name, module in model.named_modules()}
    called: list[nn.Module] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if module in called:
            called.remove(module)
        called.append(module)

    linear = [module for module in names if isinstance(module, (nn.Linear, nn.Conv1d, Conv1D))]
    handles = [module.register_forward_hook(note) for module in linear]
    try:
        Forward(model).logits(inputs)
    finally:
        for handle in handles:
            handle.remove()
    found = [Head((module,), (names[module],)) for module in reversed(called) if _outputs(module) == labels]
    single = [module for module in called if _outputs(module) == 1][-labels:]
    if labels > 1 and len(single) == labels:
        found.append(Head(tuple(single), tuple(names[module] for module in single)))
    return found


def _output_dim(layer: nn.Module) -> int:
    return 1 if isinstance(layer, Conv1D) else 0  # transformers' Conv1D holds the transpose


def _outputs(layer: nn.Module) -> int:
    weight: Any = layer.weight
    return int(weight.shape[_output_dim(layer)])


def _is_last(forward: Forward, head: Head, inputs: Sequence[Inputs], line: Affine) -> bool:
    """Whether the logits change by the factors that the weights change by."""
    return all(_moves(forward, head, inputs, _trial(line, factor, 0.0)) for factor in _FACTORS)


def _trial(line: Affine, factor: float, offset: float) -> Affine:
    """One factor for all labels if the line has one slope, else another one for each; and likewise the offsets."""
    powers = torch.arange(len(line.slopes), dtype=torch.float64) % 3
    same = bool((line.slopes == line.slopes[0]).all())
    factors = torch.full_like(line.slopes, factor) * (1 if same or factor == 1 else 2**powers)
    return Affine(factors, offset * (1 + powers))


def _moves(forward: Forward, head: Head, inputs: Sequence[Inputs], line: Affine) -> bool:
    """Whether a change of the head changes the logits in the same way. The head is then as before."""
    expected = [line(logits) for logits in _all_logits(forward, inputs)]
    before = head.parameters()
    try:
        head.set(line, before)
        return are_close(_all_logits(forward, inputs), expected)
    finally:
        for layer, (weight, bias) in zip(head.layers, before, strict=True):
            layer.weight = weight
            if bias is not None:
                layer.bias = bias


def _check_apart(model: nn.Module, head: Head) -> None:
    """Raise ExportError if a parameter of the head also belongs to another module: it is saved once."""
    own = {id(parameter) for pair in head.parameters() for parameter in pair if parameter is not None}
    for name, module in model.named_modules():
        if module not in head.layers and any(id(one) in own for one in module.parameters(recurse=False)):
            raise ExportError(
                f"{type(model).__name__} uses the weights of {head.names[0]} in {name} too, so they cannot be "
                f"changed; {_WITH_ONNX}"
            )


def _add_biases(model: nn.Module, head: Head, line: Affine) -> None:
    """Add biases of 0 where the config can ask for them (ModernBERT's decoder).

    Raises:
        ExportError: It cannot.
    """
    config: Any = copy.deepcopy(model.config)
    if getattr(config, "classifier_bias", None) is False:
        config.classifier_bias = True
        with torch.device("meta"):
            complete = type(model)(config)
        for name, module in complete.named_modules():
            mine: Any = model.get_submodule(name)
            if getattr(module, "bias", None) is not None and getattr(mine, "bias", None) is None:
                mine.bias = nn.Parameter(torch.zeros(module.bias.shape))
        if head.has_bias:
            model.config = config
            return
    biased = len(line.slopes) > 1 and bool((line.slopes == line.slopes[0]).all())  # a temperature and biases
    instead = "call classifier.calibrate(texts, labels, num_samples=0, method='temperature'), or " if biased else ""
    raise ExportError(
        f"the last linear layer of {type(model).__name__} ({head.names[0]}) has no bias, so its weights cannot add the "
        f"offset of this calibration; {instead}{_WITH_ONNX}"
    )


def _parameter(values: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(like.dtype), requires_grad=like.requires_grad)
