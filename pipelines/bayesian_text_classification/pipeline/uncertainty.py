"""Mean, spread and entropies of a text's samples. Pure functions of arrays; entropies are in nats.

Samples have the shape (texts, classes, samples), as in BaaL. Arithmetic is in float64.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .options import Activation
from .scaling import Scaling
from .spread import UNKNOWN, Spread

Array = NDArray[np.float64]

_PRIOR_GROUPS = 4  # weight of the naive variance in degrees of freedom; matters while groups are few
_PRIOR_SAMPLES = 2  # weight of the prior variance in degrees of freedom; benchmarks/pipeline/standard_error.py


@dataclass(frozen=True)
class Uncertainty:
    """Summary of the samples of each text.

    Entropies have the shape (texts,) for a distribution over classes, and (texts, classes) for independent labels.

    Attributes:
        mean: Averaged probabilities m. *Shape:* (texts, classes).
        std: Standard deviation over the samples (divisor T). *Shape:* (texts, classes).
        standard_error: Standard error of `mean`; NaN for one sample. On a few samples that happen to agree, it is above
            `std`. Results show at most `std`. *Shape:* (texts, classes).
        predictive_entropy: H(m), total uncertainty; None for raw outputs, which have no entropy.
        expected_entropy: mean_t H(p_t), the part that comes from the data (aleatoric).
        mutual_information: H(m) - mean_t H(p_t) >= 0, the part that comes from the model (epistemic, BALD).
        agreement: Share of the samples whose most probable class is that of their average; of one label, those on the
            same side of 0.5. None for raw outputs. *Shape:* (texts,).
    """

    mean: Array
    std: Array
    standard_error: Array
    predictive_entropy: Array | None
    expected_entropy: Array | None
    mutual_information: Array | None
    agreement: Array | None = None


def summarized(
    samples: NDArray[np.floating],
    activation: Activation,
    group_size: int = 1,
    spread: Spread | None = UNKNOWN,
    scaling: Scaling | None = None,
) -> Uncertainty:
    """Summarize samples that the activation `activation` produced, from a model whose samples vary as `spread` says.

    None as `spread` is for an ensemble: the groups are its members, and `error_of_members` is the standard error.

    With a `scaling`, everything belongs to the scaled average: spread and standard error by the delta method, and the
    two parts of the entropy share its total in the proportion that they have without it. Raw outputs have none.
    """
    if activation == "none":
        return over_outputs(samples, group_size, spread)
    over = over_labels if activation == "sigmoid" else over_classes
    return over(samples, group_size, spread, scaling)


def error_of_score(
    samples: NDArray[np.floating],
    activation: Activation,
    group_size: int = 1,
    spread: Spread | None = UNKNOWN,
    scaling: Scaling | None = None,
) -> Array:
    """The standard error compared with a tolerance: the winner's, or the largest for multi-label. *Shape:* (texts,).

    That of `summarized`, without its entropies.
    """
    p = np.asarray(samples, dtype=np.float64)
    mean = p.mean(axis=2)
    if activation == "none":
        error = over_outputs(p, group_size, spread).standard_error
    elif scaling is None:
        error = _error(p, group_size, spread)
    else:
        before, mean = mean, scaling.apply(mean)
        _, error = _moved(p, before, mean, scaling, group_size, spread)
    if activation == "sigmoid":
        return np.asarray(error.max(1))
    return np.take_along_axis(error, mean.argmax(1)[:, None], 1)[:, 0]


def over_classes(
    samples: NDArray[np.floating],
    group_size: int = 1,
    spread: Spread | None = UNKNOWN,
    scaling: Scaling | None = None,
) -> Uncertainty:
    """Compute the uncertainty of one label among the classes; `samples` sum to 1 over axis 1.

    mutual_information is BALD (Houlsby et al. 2011, arXiv:1112.5745): H(mean_t p_t) - mean_t H(p_t). It is low on few
    samples: on average 78 to 79% of its limit with 4 samples, 95 to 96% with 10 and 97 to 98% with 20, for 2 and for
    150 classes (`benchmarks/pipeline/few_samples.py`). Do not compare it between texts with different numbers of
    samples. Adding the bias of H(m) by the delta method, `sum_c Var(m_c) / (2 m_c)`, fixes the average but hurts single
    texts: with 4 samples, the root mean square error grows from 0.054 to 0.068 (300 reviews). So there is no such
    correction.
    """
    p = np.asarray(samples, dtype=np.float64)
    mean = p.mean(axis=2)
    found = _with_entropies(p, mean, _entropy(mean).sum(1), _entropy(p).sum(1).mean(-1), group_size, spread)
    if scaling is None:
        return found
    q = scaling.apply(mean)
    return _scaled(found, p, q, _entropy(q).sum(1), scaling, group_size, spread)


def over_labels(
    samples: NDArray[np.floating],
    group_size: int = 1,
    spread: Spread | None = UNKNOWN,
    scaling: Scaling | None = None,
) -> Uncertainty:
    """Compute the uncertainty of independent labels (multi-label), with entropies of Bernoulli variables."""
    p = np.asarray(samples, dtype=np.float64)
    mean = p.mean(axis=2)
    expected = (_entropy(p) + _entropy(1 - p)).mean(-1)
    found = _with_entropies(p, mean, _entropy(mean) + _entropy(1 - mean), expected, group_size, spread)
    if scaling is None:
        return found
    q = scaling.apply(mean)
    return _scaled(found, p, q, _entropy(q) + _entropy(1 - q), scaling, group_size, spread)


def over_outputs(samples: NDArray[np.floating], group_size: int = 1, spread: Spread | None = UNKNOWN) -> Uncertainty:
    """Compute mean and spread of raw outputs (regression, `function_to_apply="none"`), which have no entropy."""
    x = np.asarray(samples, dtype=np.float64)
    error = error_of_members(x, group_size) if spread is None else standard_error(x, group_size)
    return Uncertainty(x.mean(2), x.std(2), error, None, None, None)


def _scaled(
    summary: Uncertainty,
    samples: Array,
    q: Array,
    total: Array,
    scaling: Scaling,
    group_size: int,
    spread: Spread | None,
) -> Uncertainty:
    """The summary for the scaled average q with the entropy `total`."""
    moved, error = _moved(samples, summary.mean, q, scaling, group_size, spread)
    assert summary.predictive_entropy is not None and summary.mutual_information is not None
    before = summary.predictive_entropy
    model = total * np.divide(summary.mutual_information, before, out=np.zeros_like(total), where=before > 0)
    return Uncertainty(q, moved.std(2), error, total, total - model, model, summary.agreement)


def _moved(
    samples: Array, m: Array, q: Array, scaling: Scaling, group_size: int, spread: Spread | None
) -> tuple[Array, Array]:
    """The deviations of the samples from their mean m, and its standard error, on the scale of the scaled mean q.

    The derivative of the scaling maps each deviation, and the prior of `standard_error_of_probability`.
    """
    moved = scaling.moved(samples - m[:, :, None], m, q)
    most = q * np.clip(1 - q, 0, None)  # the largest variance in [0, 1]; far from m, the linear map exceeds it
    own = moved.var(2)
    moved = moved * np.sqrt(np.divide(most, own, out=np.ones_like(most), where=own > most))[:, :, None]
    if spread is None:
        return moved, error_of_members(moved, group_size)
    prior = np.clip(spread.shares(m) * scaling.moved_variance(m, q), 0, most)
    return moved, _shrunk_error(moved, prior, group_size, spread)


def standard_error_of_probability(
    samples: NDArray[np.floating], group_size: int = 1, spread: Spread = UNKNOWN
) -> Array:
    """Compute the standard error of a mean probability m from the text's own samples. *Shape:* (texts, classes).

    The samples of a confident text are skewed: nearly all agree and a rare one does not. Until that one is drawn, they
    seem to have no spread at all. Their variance s^2 is therefore shrunk toward that of a Beta distribution with the
    same mean, kappa m (1 - m), which acts as a prior with nu degrees of freedom:

        (nu kappa m (1 - m) + (T - 1) s^2) / (nu + T - 1)

    This value replaces s^2 in `standard_error`, and `spread.variance_of_mean` replaces 1 / T. kappa is
    `spread.shares(m)`. NaN for one sample.

    Args:
        samples: The samples. *Shape:* (texts, classes, samples).
        group_size: Number of samples whose masks are balanced; 1 for independent samples.
        spread: How much the samples of the model vary.
    """
    x = np.asarray(samples, dtype=np.float64)
    mean = x.mean(axis=2)
    prior = np.clip(mean * (1 - mean), 0, None)  # float32 rows may sum to 1 + 1e-7
    return _shrunk_error(x, spread.shares(mean) * prior, group_size, spread)


def _shrunk_error(x: Array, prior: Array, group_size: int, spread: Spread) -> Array:
    """The standard error of the mean of `x`, whose variance is shrunk toward `prior`. *Shape:* (texts, classes)."""
    count = x.shape[2]
    if count < 2:
        return np.full(x.shape[:2], np.nan)
    shrunk = (_PRIOR_SAMPLES * prior + (count - 1) * x.var(axis=2, ddof=1)) / (_PRIOR_SAMPLES + count - 1)
    return _pooled(x, shrunk * spread.variance_of_mean(count, group_size), group_size)


def error_of_members(samples: NDArray[np.floating], group_size: int = 1) -> Array:
    """Compute the standard error of the mean over an ensemble, s / sqrt(K), from the means of its K members.

    It is for an ensemble of infinitely many members. Noise within a member is part of s. NaN for one member.

    Args:
        samples: The samples, those of a member next to each other. *Shape:* (texts, classes, samples).
        group_size: Number of samples of each member.
    """
    x = np.asarray(samples, dtype=np.float64)
    means = x.reshape(*x.shape[:2], -1, group_size).mean(3)
    count = means.shape[2]
    if count < 2:
        return np.full(x.shape[:2], np.nan)
    return np.asarray(means.std(axis=2, ddof=1) / np.sqrt(count))


def standard_error(samples: NDArray[np.floating], group_size: int = 1) -> Array:
    """Compute the standard error of the mean over samples from the text's own samples. *Shape:* (texts, classes).

    For independent samples (`group_size` 1) it is sqrt(s^2 / T). Balanced samples are negatively correlated inside a
    group, so s^2 / T is too large. The means of the g complete groups are independent: their variance v_g / g is
    unbiased but has only g - 1 degrees of freedom. The two are pooled, the naive one as a prior with d degrees of
    freedom:

        (d s^2 / T + (g - 1) v_g / g) / (d + g - 1)

    NaN for one sample.
    """
    x = np.asarray(samples, dtype=np.float64)
    count = x.shape[2]
    if count < 2:
        return np.full(x.shape[:2], np.nan)
    return _pooled(x, x.var(axis=2, ddof=1) / count, group_size)


def _pooled(x: Array, naive: Array, group_size: int) -> Array:
    """Pool the variance `naive` with that of group means, as in `standard_error`. *Shape:* (texts, classes)."""
    variance = naive
    count = x.shape[2]
    groups = count // group_size
    if group_size > 1 and groups > 1:
        means = x[:, :, : groups * group_size].reshape(*x.shape[:2], groups, group_size).mean(3)
        between = means.var(axis=2, ddof=1) / groups
        variance = (_PRIOR_GROUPS * variance + (groups - 1) * between) / (_PRIOR_GROUPS + groups - 1)
    return np.asarray(np.sqrt(variance))


def _with_entropies(
    p: Array, mean: Array, total: Array, data: Array, group_size: int, spread: Spread | None
) -> Uncertainty:
    # H is concave, so the difference is non-negative, but rounding may put it a few 1e-17 below zero.
    model = np.maximum(total - data, 0.0)
    agreement = (_winner(p) == _winner(mean)[:, None]).mean(1)
    return Uncertainty(mean, p.std(2), _error(p, group_size, spread), total, data, model, agreement)


def _winner(p: Array) -> NDArray[Any]:
    """The most probable class, or whether the only label applies. *Shape:* (texts,) or (texts, samples)."""
    return p[:, 0] > 0.5 if p.shape[1] == 1 else p.argmax(1)


def _error(p: Array, group_size: int, spread: Spread | None) -> Array:
    """The standard error of the mean probability. *Shape:* (texts, classes)."""
    if spread is None:
        return error_of_members(p, group_size)
    return standard_error_of_probability(p, group_size, spread)


def _entropy(p: Array) -> Array:
    """Compute -p log p, which is 0 at p = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, -p * np.log(p), 0.0)
