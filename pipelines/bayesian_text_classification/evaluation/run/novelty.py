"""Novelty of the measured and of the out-of-scope texts."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...pipeline.inputs import text_key
from ...pipeline.pipeline import BayesianTextClassificationPipeline
from ..outputs import Novelty, Outputs


def with_scope(
    classifier: BayesianTextClassificationPipeline,
    measured: Sequence[Any],
    scope: Sequence[Any],
    held_out: Sequence[Any] | None,
    advance: Callable[[int], None],
) -> tuple[BayesianTextClassificationPipeline, tuple[str, ...]]:
    """A copy of the classifier that has learned a scope, if there are texts for one, and what to know about it.

    Measured texts are left out of the scope: they would seem less new than others.
    """
    if not scope:
        return classifier, ()
    ours, keys = copy.copy(classifier), set(map(text_key, measured))
    given = [list(part) for part in (scope, held_out) if part is not None]
    kept = [[text for text in part if text_key(text) not in keys] for part in given]
    if given[0] and not kept[0]:
        raise ValueError(f"all {len(given[0]):,} texts to learn the scope from are also measured; pass other ones")
    ours.learn_scope(kept[0], held_out=kept[1] if len(kept) > 1 else None, progress=advance)
    left = sum(map(len, given)) - sum(map(len, kept))
    note = f"{left:,} of the texts to learn the scope from are among the measured ones and left out."
    return ours, (note,) * bool(left)


def with_novelty(
    outputs: Outputs,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    out_of_scope: Sequence[Any],
    advance: Callable[[int], None],
) -> Outputs:
    """The outputs with novelty by the classifier's scope, if it has one."""
    if classifier.scope is None:
        return outputs
    scope = classifier.scope
    inside, outside = (classifier.novelty(part, progress=advance) for part in (texts, out_of_scope))
    found = Novelty(inside, outside, scope.p_values(inside), scope.p_values(outside), len(scope.held_out))
    return replace(outputs, novelty=found)
