"""Which arm to use: the cheapest that no more expensive one beats."""

from collections.abc import Sequence
from dataclasses import dataclass

from .arms import Arm, MeasuredArms, of_student
from .heads import ArmName, Head
from .statistics.intervals import Difference

MATTERS = 0.01  # the least relative gain in NLL that is worth a more expensive arm


@dataclass(frozen=True)
class Contest:
    """An arm against a cheaper one.

    Attributes:
        base: The cheaper arm.
        rival: The more expensive arm.
        nll: The NLL of the rival minus that of the base.
    """

    base: ArmName
    rival: ArmName
    nll: Difference


@dataclass(frozen=True)
class Recommendation:
    """The recommended arm, and the comparisons that decided.

    Attributes:
        arm: The cheapest arm whose NLL no more expensive arm improves significantly and by at least 1%. The cheapest
            has the fewest passes per text; of several, that of the model at hand, not of a student; of several, one
            without a scaling, then "saved".
        lost: The best cheaper arm (of those that take fewer passes, or for a student no other model, if there are any),
            and what beat it: the recommended arm if that does, or else another one. None if no arm is cheaper.
        won: The recommended arm, and the best of the more expensive ones, which does not beat it. None if there are
            none.
    """

    arm: ArmName
    lost: Contest | None = None
    won: Contest | None = None


def recommendation(measured: MeasuredArms, head: Head, arms: Sequence[Arm]) -> Recommendation:
    """The cheapest arm that no more expensive one beats in NLL: significantly, and by at least 1%."""
    by_name = {arm.name: arm for arm in arms}
    cost = {name: (arm.cost.passes, of_student(name)) for name, arm in by_name.items()}
    ways = sorted((way for way in head.scaled if way in by_name), key=cost.__getitem__)
    order = [name for way in ways for name in (way, head.scaled[way])]
    if "saved" in by_name:
        own, fitted = cost["saved"], head.scaled.values()
        more_expensive = [i for i, name in enumerate(order) if (*cost[name], name in fitted) > (*own, False)]
        order.insert(more_expensive[0] if more_expensive else len(order), "saved")

    measure = next(measure for measure in head.measures if measure.key == "nll")

    def contest(base: ArmName, rival: ArmName) -> Contest:
        return Contest(base, rival, measured.difference(measure, rival, base))

    def beats(one: Contest) -> bool:
        return one.nll.verdict == "better" and -one.nll.value >= MATTERS * nll(one.base)

    def nll(name: ArmName) -> float:
        return by_name[name].estimates["nll"].value

    contests = {base: [contest(base, rival) for rival in order[i + 1 :]] for i, base in enumerate(order)}
    best = next(base for base, ones in contests.items() if not any(map(beats, ones)))
    before = order[: order.index(best)]
    cheaper = min([name for name in before if cost[name] < cost[best]] or before, key=nll, default=None)
    lost = None
    if cheaper is not None:
        winners = [one for one in contests[cheaper] if beats(one)]
        lost = next((one for one in winners if one.rival == best), winners[0])
    return Recommendation(best, lost, min(contests[best], key=lambda one: nll(one.rival), default=None))
