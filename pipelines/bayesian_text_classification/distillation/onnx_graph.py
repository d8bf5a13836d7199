"""An ONNX graph of a classifier whose output `logits` is calibrated, checked against ONNX Runtime.

PyTorch's own exporter (`torch.onnx.export(dynamo=True)`, with onnxscript) writes it: it is part of PyTorch, and it has
no list of architectures. optimum-onnx (0.1.0) has one, and it requires transformers 4.
"""

import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..pipeline.forward import Forward, Inputs
from .affine import Affine, ExportError

GRAPH = "model.onnx"
TOLERANCE = 1e-4  # between ONNX Runtime and PyTorch
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_LARGEST_FILE = 1_500_000_000  # bytes of weights in the graph itself; protobuf ends at 2 GiB


class _Graph(nn.Module):
    """The calibrated logits, as a function of the inputs in a fixed order."""

    def __init__(self, model: Any, line: Affine, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names, self.changes_nothing = model, tuple(names), line.changes_nothing
        self.options = Forward(model).options
        self.slopes: Tensor
        self.offsets: Tensor
        self.register_buffer("slopes", line.slopes.float())
        self.register_buffer("offsets", line.offsets.float())

    def forward(self, *values: Tensor) -> Tensor:
        """The calibrated logits. *Shape:* (texts, labels)."""
        outputs = self.model(**dict(zip(self.names, values, strict=True)), **self.options)
        logits: Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        return logits if self.changes_nothing else logits * self.slopes + self.offsets


def check_packages() -> None:
    """Raise ImportError if a package is missing."""
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise ImportError(f"to='onnx' needs {', '.join(missing)}: pip install \"bayesian-text-classification[onnx]\"")


def write_graph(model: Any, tokenizer: Any, line: Affine, inputs: Sequence[Inputs], folder: Path) -> None:
    """Write `model.onnx` and the config of the model, and check them.

    Args:
        model: A private copy of a classifier, in float32 on the CPU.
        tokenizer: Its tokenizer, to pad a batch for the check.
        line: The slopes and offsets.
        inputs: Several encoded texts, each as a batch.
        folder: An existing folder.

    Raises:
        ExportError: PyTorch cannot export the model, its batches need a padding token, or ONNX Runtime gives other
            logits.
    """
    import onnxruntime

    model.config.save_pretrained(folder)
    _use_plain_operators(model)
    twice = {name: values.repeat(2, 1) for name, values in inputs[0].items()}
    _check_batches(model, tokenizer, twice)
    names = list(inputs[0])
    graph = _Graph(model, line, names).eval()
    _convert(graph, names, twice, folder / GRAPH)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, too
    session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])
    batches = [*inputs, twice, *_padded(tokenizer, inputs)]
    for batch in batches:
        expected = line(Forward(model).logits(batch))
        try:
            (found,) = session.run(["logits"], {one.name: batch[one.name].numpy() for one in session.get_inputs()})
        except Exception as error:  # what ONNX Runtime raises
            _refuse(model, f"ONNX Runtime cannot run its graph for another length or batch size ({_line(error)})")
        away = float((torch.from_numpy(found).double() - expected).abs().max())
        if not away <= TOLERANCE * max(1.0, float(expected.abs().max())):
            _refuse(model, f"the logits of its graph in ONNX Runtime are {away:.2g} away from PyTorch's")


def _use_plain_operators(model: Any) -> None:
    """Choose implementations that ONNX has operators for, where the model has a choice: T5's `sdpa` has none."""
    for setting, value in (("attn", "eager"), ("experts", "batched_mm")):
        with suppress(AttributeError, ValueError):  # an older transformers, or a model without experts
            getattr(model, f"set_{setting}_implementation")(value)


def _convert(graph: _Graph, names: Sequence[str], example: Inputs, path: Path) -> None:
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    size = sum(weight.numel() * weight.element_size() for weight in graph.parameters())
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                graph,
                tuple(example.values()),
                dynamo=True,
                dynamic_shapes=((axes,) * len(names),),
                input_names=list(names),
                output_names=["logits"],
                verbose=False,
            )
            program.save(path, external_data=size > _LARGEST_FILE)
    except Exception as error:  # any error of the exporter, or of the model's code while it is traced
        _refuse(graph.model, f"PyTorch cannot export it to ONNX ({_line(error)})")


def _check_batches(model: Any, tokenizer: Any, twice: Inputs) -> None:
    """Raise ExportError if the model rejects two texts because it does not know the padding token."""
    try:
        Forward(model).logits(twice)
    except ValueError as error:
        if getattr(model.config.get_text_config(), "pad_token_id", None) is not None:
            raise
        number = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        raise ExportError(
            f"{type(model).__name__} has no pad_token_id, so it accepts one text at a time, and a graph is for "
            f'batches; set "pad_token_id": {number} in the config.json of the model, and load it again'
        ) from error


def _padded(tokenizer: Any, inputs: Sequence[Inputs]) -> list[Inputs]:
    """All texts as one padded batch; nothing if the tokenizer cannot pad."""
    if tokenizer.pad_token_id is None:
        return []
    rows = {name: [one[name][0].tolist() for one in inputs] for name in inputs[0]}
    return [dict(tokenizer.pad(rows, padding=True, return_tensors="pt"))]


def _refuse(model: Any, reason: str) -> None:
    raise ExportError(
        f"{type(model).__name__} has no ONNX graph: {reason}; pass to='transformers', which writes a checkpoint"
    )


def _line(error: Exception) -> str:
    """The root of an error, as one short line."""
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # the exporter colors its messages
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:150]}" if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's advice about optional packages."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
