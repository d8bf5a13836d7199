"""The ensemble arm: one ordinary pass of each of several models, averaged (Lakshminarayanan et al. 2017)."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...pipeline.pipeline import BayesianTextClassificationPipeline
from ..arms import Cost, Probabilities
from ..heads import head_of
from ..outputs import MemberOutputs, Outputs
from .nan import refuse_nan


def with_members(
    outputs: Outputs,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    calibration: Sequence[Any] | None,
    out_of_scope: Sequence[Any],
    advance: Callable[[int], None],
) -> Outputs:
    """The outputs with those of all models of an ensemble, and with a note on their memory.

    Args:
        outputs: Those of the first model.
        classifier: The ensemble.
        texts: The measured texts.
        calibration: Texts to fit the scalings on, if there are any.
        out_of_scope: Texts that the classifier was not built for.
        advance: Function that is called with the number of rows done.
    """
    models = classifier.members

    def each(texts: Sequence[Any]) -> Probabilities:
        samples = classifier.sample_proba(
            texts, num_samples=len(models), posterior="ensemble", dropout=None, progress=advance
        )
        return refuse_nan(samples)

    started = time.perf_counter()
    samples = each(texts)
    cost = Cost(len(models), seconds=time.perf_counter() - started)
    averaged = None if calibration is None else each(calibration).mean(2, dtype=np.float64)
    head, (alone, together) = head_of(outputs.labels), (weight_bytes(models[:1]), weight_bytes(models))
    note = (
        f"The ensemble averages {len(models)} models, with one ordinary pass of each. Their weights take "
        f"{together / 1e6:,.0f} MB, those of the first model {alone / 1e6:,.0f} MB. The other arms are of the first "
        "model."
    )
    return replace(
        outputs,
        members=MemberOutputs(samples, averaged, each(out_of_scope) if out_of_scope else None),
        costs={**outputs.costs, "ensemble": cost, head.scaled["ensemble"]: cost},
        notes=(*outputs.notes, note),
    )


def weight_bytes(models: Iterable[Any]) -> int:
    """Bytes of the weights and buffers of the models. What they share counts once."""
    found = {(one.data_ptr(), one.nbytes) for model in models for one in (*model.parameters(), *model.buffers())}
    return sum(size for _, size in found)
