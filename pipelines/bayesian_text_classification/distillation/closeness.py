"""How close the probabilities of a student are to those of its teacher."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, logsigmoid

from ..pipeline.distillation import Closeness
from ..pipeline.options import Activation

_SMALLEST = 1e-12  # a probability of 0 in float32 would make the divergence infinite


def closeness(teacher: NDArray[np.floating], student: NDArray[np.floating], activation: Activation) -> Closeness:
    """Compare two arrays of probabilities; see `Closeness`. *Shape:* (texts, classes) both."""
    p, q = (np.clip(np.asarray(one, np.float64), _SMALLEST, 1) for one in (teacher, student))
    independent = activation == "sigmoid"
    kl = (p * np.log(p / q)).sum(1)
    if independent:
        other, another = (np.clip(1 - np.asarray(one, np.float64), _SMALLEST, 1) for one in (teacher, student))
        kl += (other * np.log(other / another)).sum(1)
        apart, same = p - q, (p >= 0.5) == (q >= 0.5)
    else:
        best = p.argmax(1)
        apart, same = (p - q)[np.arange(len(p)), best], best == q.argmax(1)
    return Closeness(float(kl.mean()), float(np.sqrt(np.mean(apart**2))), float(np.mean(same)))


def divergence(logits: Tensor, targets: Tensor, activation: Activation) -> Tensor:
    """Mean over the texts of KL(targets || probabilities of `logits`), in nats. *Shape:* (texts, classes) both."""
    targets = targets.to(logits)
    if activation == "sigmoid":
        both = torch.stack([targets, 1 - targets])
        found = torch.stack([logsigmoid(logits), logsigmoid(-logits)])
        return kl_div(found, both, reduction="sum") / len(logits)
    return kl_div(log_softmax(logits, -1), targets, reduction="sum") / len(logits)
