"""A new last linear layer: regression from its inputs to the probabilities of a teacher, near the old weights.

    min over D, d:  mean_i KL(p_i || softmax(x_i + D h_i + d)) + penalty / 2 |D|^2

x_i are the logits of text i, h_i the standardized inputs of the layer. The problem is convex; L-BFGS solves it in
seconds. The penalty is chosen on other texts. A large one keeps the old layer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..pipeline.forward import Forward
from ..pipeline.options import Activation
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.twin import allow_batches, shared_copy
from .affine import Affine, ExportError
from .closeness import divergence
from .export import probe_inputs
from .last_layer import last_layers

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
_STEPS = 200

Array = NDArray[np.float64]
Part = tuple[Sequence[Any], NDArray[np.float32]]  # texts, and the probabilities of the teacher


def with_new_head(
    classifier: BayesianTextClassificationPipeline,
    model: Any,
    training: Part,
    choosing: Part,
    advance: Callable[[int], None],
) -> tuple[Any, dict[str, Any]]:
    """Change the last linear layer of `model`, a float32 copy of the classifier's, toward the teacher.

    Args:
        classifier: It encodes the texts.
        model: The copy.
        training: Texts to fit on, and the teacher's probabilities. *Shape:* (texts, classes).
        choosing: Other texts, which choose the penalty.
        advance: Called with the number of passes of each batch.

    Returns:
        The model, and the chosen penalty, for the record; None if the old layer was closest.

    Raises:
        ExportError: The logits do not come from one linear layer.
    """
    labels, activation = model.config.num_labels, classifier.activation
    different = Affine(2.0 ** torch.arange(labels).remainder(3), torch.zeros(labels, dtype=torch.float64))
    head = last_layers(model.cpu(), different, probe_inputs(classifier))
    if head is None or len(head.layers) > 1:
        name = type(model).__name__
        raise ExportError(f"the logits of {name} do not come from one linear layer; pass how='weights'")
    layer: Any = head.layers[0]
    running = shared_copy(model.to(classifier.device))
    allow_batches(running)
    reader = running, running.get_submodule(head.names[0])
    features, logits = _inputs(classifier, *reader, training[0], advance)
    center = features.mean(0) if head.has_bias else np.zeros(features.shape[1])
    scale = np.maximum(features.std(0), 1e-8)
    others, logits_of_others = _inputs(classifier, *reader, choosing[0], advance)
    features, others = (features - center) / scale, (others - center) / scale

    def loss_of(change: Array) -> float:
        return _loss(_moved(change, others, logits_of_others), choosing[1], activation)

    change = np.zeros((labels, len(scale) + head.has_bias))
    found, best, chosen = change, loss_of(change), None
    for penalty in PENALTIES:
        change = _fitted(change, features, logits, training[1], penalty, activation)  # from the last one on
        if loss_of(change) < best:
            found, best, chosen = change, loss_of(change), penalty
    weights = found[:, : len(scale)] / scale
    _add(layer, weights, found[:, -1] - weights @ center if head.has_bias else None)
    return model.eval(), {"penalty": chosen}


def _inputs(
    classifier: BayesianTextClassificationPipeline,
    model: nn.Module,
    layer: nn.Module,
    texts: Sequence[Any],
    advance: Callable[[int], None],
) -> tuple[Array, Array]:
    """The layer's inputs that give the logits, and the logits. *Shape:* (texts, width), (texts, labels)."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    features: list[Any] = [None] * len(texts)
    logits: list[Any] = [None] * len(texts)
    forward = Forward(model)
    try:
        for rows, batch in classifier.batches(texts):
            found = forward.logits(batch)
            inputs, outputs = seen.pop()
            if inputs.ndim == 3:  # every token has logits, and those of one of them count
                apart = (outputs - found[:, None]).abs().amax(-1)
                inputs = inputs[torch.arange(len(inputs), device=inputs.device), apart.argmin(1)]
            for i, one, numbers in zip(rows, inputs.double().cpu().numpy(), found.double().cpu().numpy(), strict=True):
                features[i], logits[i] = one, numbers
            advance(len(rows))
    finally:
        handle.remove()
    return np.stack(features), np.stack(logits)


def _moved(change: Array, features: Array, logits: Array) -> Array:
    """Logits after a change of the layer: of the weights, with a last column for the bias if it has one."""
    width = features.shape[1]
    moved: Array = logits + features @ change[:, :width].T + change[:, width:].sum(1)
    return moved


def _loss(logits: Array, targets: NDArray[np.floating], activation: Activation) -> float:
    return float(divergence(torch.from_numpy(logits), torch.from_numpy(targets), activation))


def _fitted(
    start: Array, features: Array, logits: Array, targets: NDArray[np.floating], penalty: float, activation: Activation
) -> Array:
    """The best change of the layer at one penalty, from `start` on."""
    width = features.shape[1]

    def objective(flat: Array) -> tuple[float, Array]:
        change = flat.reshape(start.shape)
        moved = _moved(change, features, logits)
        numbers = torch.from_numpy(moved)
        p = (numbers.softmax(1) if activation == "softmax" else numbers.sigmoid()).numpy()
        slope = (p - targets) / len(p)
        gradient = np.zeros_like(change)
        gradient[:, :width] = slope.T @ features + penalty * change[:, :width]
        gradient[:, width:] = slope.sum(0)[:, None]
        loss = _loss(moved, targets, activation)
        return loss + penalty / 2 * float((change[:, :width] ** 2).sum()), gradient.ravel()

    solved = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    found: Array = solved.x.reshape(start.shape)
    return found


def _add(layer: Any, weights: Array, bias: Array | None) -> None:
    """Add to the parameters of the layer. *Shape:* (labels, width), (labels,)."""
    change = torch.from_numpy(weights)
    if isinstance(layer, Conv1D):  # holds the transpose
        change = change.T
    with torch.no_grad():
        layer.weight.add_(change.reshape(layer.weight.shape).to(layer.weight))
        if bias is not None:
            layer.bias.add_(torch.from_numpy(bias).to(layer.bias))
