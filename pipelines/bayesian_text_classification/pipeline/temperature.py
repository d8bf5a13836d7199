"""Temperature scaling of averaged probabilities (Guo et al. 2017, arXiv:1706.04599, section 4.2)."""

import numpy as np
from numpy.typing import NDArray

from .newton import Array, minimized

Probabilities = NDArray[np.floating]

LEAST, MOST = 0.01, 100.0
_FAR = 0.01  # a share of 1/T; a longer Newton step is not trusted
_GRID = 33  # values of log T, 0.29 apart; the least is the neighborhood of the global minimum
_STEPS = 36  # bisection steps between two of them, which reach 1e-11
SMALLEST = float(np.finfo(np.float32).tiny)  # stands for 0 in logarithms; float32 probabilities may be 0


def apply_temperature(probabilities: Probabilities, temperature: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute `softmax(log(p) / T)`: T > 1 lowers confidence, T < 1 raises it. The order of the classes stays.

    Args:
        probabilities: Rows that sum to 1. *Shape:* (texts, classes).
        temperature: T, positive; 1 changes nothing. One number, or one per text. *Shape:* () or (texts,).
    """
    p = np.asarray(probabilities, dtype=np.float64)
    each = np.broadcast_to(temperature, len(p))[:, None]
    return np.where(each == 1, p, softmax(_logarithms(p) / each))


def fit_temperature(probabilities: Probabilities, labels: NDArray[np.integer]) -> float:
    """Fit the most probable temperature, `argmin_T sum_i -log softmax(log(p_i) / T)[y_i] + (log T)^2 / 2`.

    The second term, a standard normal prior on log T, weighs less than one text. It keeps T away from 0 and infinity
    when the model gets a few labels all right or all wrong. The derivative by 1/T is the sum over rows of
    E[log p] - log p[y], minus T log T; the expectation is under the tempered row. T is a zero of that derivative. On
    probabilities that are nearly uniform there may be two minima, so the search starts at the best value of a grid.

    Args:
        probabilities: Rows that sum to 1. *Shape:* (texts, classes).
        labels: The true classes. *Shape:* (texts,).

    Returns:
        T in [0.01, 100]; 1 if no T is better than another (all rows are uniform).

    Raises:
        ValueError: A probability is NaN.
    """
    if np.isnan(probabilities).any():
        raise ValueError("a probability is NaN; fit the temperature on rows without NaN")
    logs = _logarithms(np.asarray(probabilities, dtype=np.float64))
    reached = float(np.take_along_axis(logs, np.asarray(labels)[:, None], 1).sum())

    def loss(log_t: float) -> float:
        return float(_log_sums(logs / np.exp(log_t)).sum() - reached / np.exp(log_t) + log_t**2 / 2)

    def too_hot(temperature: float) -> bool:
        promised = (softmax(logs / temperature) * logs).sum() - temperature * np.log(temperature)
        return bool(promised <= reached)

    grid = np.linspace(np.log(LEAST), np.log(MOST), _GRID)
    best = int(np.argmin([loss(log_t) for log_t in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if too_hot(float(np.exp(middle))) else (middle, high)
    return float(np.exp((low + high) / 2))


def fit_bias_corrected(probabilities: Probabilities, labels: NDArray[np.integer]) -> tuple[float, NDArray[np.float64]]:
    """Fit a temperature and a bias for each class, `softmax(log(p) / T + b)`.

    This is bias-corrected temperature scaling (Alexandari et al. 2020, arXiv:1901.06852). It helps where the classes
    are more frequent or rarer than in training. Log T and the biases have standard normal priors, which keep them
    finite: that of a class without a text falls only slowly.

    Args:
        probabilities: Rows that sum to 1. *Shape:* (texts, classes).
        labels: The true classes. *Shape:* (texts,).

    Returns:
        T, and the biases, whose mean is 0. *Shape:* (classes,).

    Raises:
        ValueError: A probability is NaN.
    """
    start, classes = -np.log(fit_temperature(probabilities, labels)), probabilities.shape[1]
    logs, happened = _logarithms(np.asarray(probabilities, np.float64)), np.eye(classes)[np.asarray(labels)]

    def derivatives(at: Array) -> tuple[Array, Array, Array]:
        (speed, *biases) = at[0]  # log(1 / T), b
        steep = logs * np.exp(speed)
        z = steep + biases
        q = softmax(z)
        expected = (q * steep).sum(1)
        loss = _log_sums(z).sum() - (happened * z).sum() + (at[0] ** 2).sum() / 2
        gradient = np.array([((q - happened) * steep).sum(), *(q - happened).sum(0)]) + at[0]
        curvature = np.eye(classes + 1)
        curvature[0, 0] += (q * steep**2).sum() - (expected**2).sum()
        curvature[0, 1:] += (q * (steep - expected[:, None])).sum(0)
        curvature[1:, 0] = curvature[0, 1:]
        curvature[1:, 1:] += np.diag(q.sum(0)) - q.T @ q
        return np.array([loss]), gradient[None], curvature[None]

    (best,), _ = minimized(np.array([[start, *[0.0] * classes]]), derivatives)
    return float(np.clip(np.exp(-best[0]), LEAST, MOST)), best[1:] - best[1:].mean()


def determined(probabilities: Probabilities, labels: NDArray[np.integer]) -> bool:
    """Whether the labels determine a temperature without the prior.

    They do not if the model is right in every row: the best T is then 0. They do not either if the mean log probability
    of the labels does not exceed that of all classes: the best T is then infinity.
    """
    logs, labels = _logarithms(np.asarray(probabilities, dtype=np.float64)), np.asarray(labels)
    own = np.take_along_axis(logs, labels[:, None], 1)[:, 0]
    return bool((own < logs.max(1)).any() and own.mean() > logs.mean())


def leave_one_out(
    probabilities: Probabilities,
    labels: NDArray[np.integer],
    temperature: float,
    groups: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Compute for each row the temperature that all other rows give, in [0.01, 100]. *Shape:* (texts,).

    It takes one Newton step in 1/T from the temperature of all rows (approximate leave-one-out; Rad and Maleki 2020,
    arXiv:1801.10243). For a row that moves 1/T by more than 1%, the other rows are fitted again. Each row can then be
    scored with a temperature that has not seen it. Folds would do that too, but their few temperatures differ so much
    that the order of the rows changes.

    Args:
        probabilities: Rows that sum to 1. *Shape:* (texts, classes).
        labels: The true classes. *Shape:* (texts,).
        temperature: The result of `fit_temperature(probabilities, labels)`.
        groups: Number of each row's group, from 0; a row's group is left out with it. None: only the row itself is.
            *Shape:* (texts,).
    """
    p, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    logs = _logarithms(p)
    member: NDArray[np.intp] = np.arange(len(p)) if groups is None else np.asarray(groups, np.intp)
    own, curvature = (np.bincount(member, weights=one) for one in _derivatives(logs, labels, temperature))
    slope = own.sum() - own - temperature * np.log(temperature)  # of the other rows and the prior
    others = curvature.sum() - curvature + temperature**2 * (1 + np.log(temperature))
    step = np.divide(-slope, others, out=np.full_like(others, np.inf), where=others > 0)
    found = 1 / np.clip(1 / temperature + step, 1 / MOST, 1 / LEAST)
    for group in np.flatnonzero(np.abs(step) > _FAR / temperature):
        others_of = member != group
        found[group] = fit_temperature(p[others_of], labels[others_of])
    return np.asarray(found[member])


def influence(probabilities: Probabilities, labels: NDArray[np.integer], temperature: float) -> NDArray[np.float64]:
    """Compute the influence of each row on 1/T: the mean of these values over n rows moves 1/T. *Shape:* (texts,).

    `- n g_i / (sum_j h_j + the prior's curvature)`, with the slope g_i and the curvature h_i of row i's loss by 1/T.
    The variance of 1/T is the variance of these values divided by n.

    Args:
        probabilities: Rows that sum to 1. *Shape:* (texts, classes).
        labels: The true classes. *Shape:* (texts,).
        temperature: The result of `fit_temperature(probabilities, labels)`.
    """
    logs = _logarithms(np.asarray(probabilities, dtype=np.float64))
    gradient, curvature = _derivatives(logs, np.asarray(labels), temperature)
    total = curvature.sum() + temperature**2 * (1 + np.log(temperature))
    return np.asarray(-len(logs) * (gradient - gradient.mean()) / total) if total > 0 else np.zeros(len(logs))


def _derivatives(
    logs: NDArray[np.float64], labels: NDArray[np.integer], temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and curvature of each row's loss by 1/T. *Shape:* (texts,) both."""
    tempered = softmax(logs / temperature)
    expected = (tempered * logs).sum(1)
    gradient = expected - np.take_along_axis(logs, labels[:, None], 1)[:, 0]
    return gradient, (tempered * (logs - expected[:, None]) ** 2).sum(1)


def _logarithms(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(p, SMALLEST)))


def _log_sums(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """`log sum_k exp(logits_k)` of each row. *Shape:* (texts,)."""
    most = logits.max(1)
    sums: NDArray[np.float64] = most + np.log(np.exp(logits - most[:, None]).sum(1))
    return sums


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The softmax of each row. *Shape:* (rows, classes)."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return probabilities
