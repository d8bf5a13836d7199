"""The recommendation, from arms whose NLL is known."""

from types import SimpleNamespace

import pytest
from bayesian_text_classification.evaluation.arms import Cost
from bayesian_text_classification.evaluation.heads import ONE_LABEL
from bayesian_text_classification.evaluation.recommendation import recommendation


class Measured:
    """Arms whose NLL is known; differences of at least .001 are significant."""

    def __init__(self, nll):
        self.nll = nll

    def difference(self, measure, name, base):
        assert measure.key == "nll"
        gap = self.nll[name] - self.nll[base]
        return SimpleNamespace(value=gap, verdict="better" if gap <= -0.001 else "cannot tell")


@pytest.mark.parametrize(
    ("nll", "expected"),
    [
        ((1.0, 0.995, 0.993, 0.991), "frequentist"),  # nothing gains 1%
        ((1.0, 0.98, 0.97, 0.955), "bayesian_temperature"),
        ((1.0, 0.993, 0.987, 0.9865), "frequentist_temperature"),  # sampling gains 1% only on the ordinary model
        ((1.0, 1.1, 0.98, 0.9799), "bayesian"),
        ((1.0, 0.5, 1.0, 0.49999), "frequentist_temperature"),
    ],
)
@pytest.mark.parametrize("saved", [None, 1, 20])
def test_the_cheapest_arm_that_no_other_beats_by_a_percent_isrecommendation(nll, expected, saved):
    names = ["frequentist", "frequentist_temperature", "bayesian", "bayesian_temperature"]
    values = dict(zip(names, nll, strict=True))
    if saved is not None:  # it equals the arm with a temperature and as many passes, but is there already
        values["saved"] = values["frequentist_temperature" if saved == 1 else "bayesian_temperature"]
        same = "frequentist_temperature" if saved == 1 else "bayesian_temperature"
        expected = "saved" if expected == same else expected
    passes = {"saved": saved or 1, "bayesian": 20, "bayesian_temperature": 20}
    assert recommendation(Measured(values), ONE_LABEL, with_values(values, passes)).arm == expected


def with_values(nll, passes):
    return [
        SimpleNamespace(name=name, estimates={"nll": SimpleNamespace(value=value)}, cost=Cost(passes.get(name, 1)))
        for name, value in nll.items()
    ]


@pytest.mark.parametrize(
    ("nll", "models", "expected"),
    [
        ((1.0, 0.98, 0.9, 0.895, 0.903, 0.895), 3, "ensemble"),  # as good as sampling, for fewer passes
        ((1.0, 0.98, 0.9, 0.89, 0.91, 0.86), 3, "ensemble_temperature"),
        ((1.0, 0.98, 0.9, 0.85, 0.91, 0.86), 3, "bayesian_temperature"),
        ((1.0, 0.98, 0.9, 0.91, 0.9, 0.91), 30, "bayesian"),  # as good as the ensemble, for fewer passes
        ((1.0, 0.995, 0.995, 0.995, 0.992, 0.992), 3, "frequentist"),
    ],
)
def test_an_ensemble_is_as_expensive_as_its_models(nll, models, expected):
    names = [*ONE_LABEL.scaled, *ONE_LABEL.scaled.values()]
    order = [names[i] for i in (0, 3, 1, 4, 2, 5)]
    passes = {name: 20 if "bayesian" in name else models for name in names if "frequentist" not in name}
    values = dict(zip(order, nll, strict=True))
    assert recommendation(Measured(values), ONE_LABEL, with_values(values, passes)).arm == expected


@pytest.mark.parametrize(
    ("nll", "lost", "won"),
    [
        # Of the cheaper ones, frequentist + temperature is the best that takes fewer passes.
        ((1.0, 0.98, 0.97, 0.955), ("frequentist_temperature", "bayesian_temperature"), None),
        (
            (1.0, 0.98, 0.985, 0.975),
            ("frequentist", "frequentist_temperature"),
            ("frequentist_temperature", "bayesian_temperature"),
        ),
        ((1.0, 0.995, 0.993, 0.991), None, ("frequentist", "bayesian_temperature")),
        ((1.0, 1.1, 0.98, 0.96), ("frequentist", "bayesian_temperature"), None),
        ((1.0, 1.1, 0.98, 0.975), ("frequentist", "bayesian"), ("bayesian", "bayesian_temperature")),
        # Bayesian does not beat the temperature by 1%, but Bayesian + temperature beats all before it.
        (
            (1.0, 0.98, 0.975, 0.9699),
            ("frequentist_temperature", "bayesian_temperature"),
            ("bayesian", "bayesian_temperature"),
        ),
    ],
)  # fmt: skip
def test_a_recommendation_has_the_comparisons_that_decided(nll, lost, won):
    names = ["frequentist", "frequentist_temperature", "bayesian", "bayesian_temperature"]
    values = dict(zip(names, nll, strict=True))
    found = recommendation(
        Measured(values), ONE_LABEL, with_values(values, {"bayesian": 20, "bayesian_temperature": 20})
    )
    for contest, expected in ((found.lost, lost), (found.won, won)):
        assert (contest and (contest.base, contest.rival)) == expected
        if contest is not None:
            assert contest.nll.value == pytest.approx(values[contest.rival] - values[contest.base])
