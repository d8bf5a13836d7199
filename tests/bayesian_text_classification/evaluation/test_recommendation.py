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
    order = [name for way in ("frequentist", "bayesian", "ensemble") for name in (way, ONE_LABEL.scaled[way])]
    passes = {name: 20 if "bayesian" in name else models for name in order if "frequentist" not in name}
    values = dict(zip(order, nll, strict=True))
    assert recommendation(Measured(values), ONE_LABEL, with_values(values, passes)).arm == expected


@pytest.mark.parametrize(
    ("nll", "expected", "lost", "won"),
    [
        # As good as sampling, and better than the temperature: one pass of the student.
        (
            (1.0, 0.95, 0.93, 0.9, 0.91, 0.8995),
            "student_temperature",
            ("frequentist_temperature", "student_temperature"),
            ("student_temperature", "bayesian_temperature"),
        ),
        (
            (1.0, 0.95, 0.9, 0.9, 0.91, 0.9),
            "student",
            ("frequentist_temperature", "student"),
            ("student", "student_temperature"),
        ),
        # A tie goes to the model at hand.
        (
            (1.0, 0.9, 0.9, 0.8995, 0.91, 0.9),
            "frequentist_temperature",
            ("frequentist", "frequentist_temperature"),
            ("frequentist_temperature", "student_temperature"),
        ),
        ((1.0, 0.999, 0.996, 0.9945, 0.995, 0.995), "frequentist", None, ("frequentist", "student_temperature")),
        # Better than the temperature, but sampling beats it.
        (
            (1.0, 0.95, 0.93, 0.92, 0.91, 0.9),
            "bayesian_temperature",
            ("student_temperature", "bayesian_temperature"),
            None,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("saved", [None, 1, 20])
def test_a_student_costs_as_much_as_the_model_at_hand_and_comes_after_it(nll, expected, lost, won, saved):
    order = [name for way in ("frequentist", "student", "bayesian") for name in (way, ONE_LABEL.scaled[way])]
    passes, values = {"bayesian": 20, "bayesian_temperature": 20}, dict(zip(order, nll, strict=True))
    if saved is not None:  # worse than all others
        values["saved"], passes["saved"] = 1.2, saved
    found = recommendation(Measured(values), ONE_LABEL, with_values(values, passes))
    assert found.arm == expected
    for contest, pair in ((found.lost, lost), (found.won, won)):
        if saved is None:
            assert (contest and (contest.base, contest.rival)) == pair


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
