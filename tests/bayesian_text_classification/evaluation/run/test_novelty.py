"""Novelty as a detector of out-of-scope texts, next to the other scores."""

import contextlib
import copy
import io
from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification import load
from bayesian_text_classification.evaluation import Novelty, Outputs, advice, compare, compare_outputs, verdict
from bayesian_text_classification.evaluation.recommendation import Recommendation
from bayesian_text_classification.evaluation.run import total_rows
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.report import ReportSettings, write_report
from bayesian_text_classification.report.recipe import Sources, recipe
from commands import asked
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

pytestmark = pytest.mark.usefixtures("few_resamples")

WHAT, HOW = ("film", "story", "plot", "cast"), ("good", "bad", "long", "dull", "fine", "odd")
TEXTS = [f"{start} {what} was {how}" for start in ("the", "that", "this", "a") for what in WHAT for how in HOW]
STRANGE = [f"{i} {j} . . ! SELECT * FROM t{i}" for i in range(5) for j in range(6)]


@pytest.fixture(scope="module")
def data(classifier):
    """Labels of which the model gets three quarters right."""
    answers = classifier.predict_proba(TEXTS[:24], num_samples=0).argmax(1)
    return LabeledTexts("texts", TEXTS[:24], [int(answer) ^ (i % 4 == 0) for i, answer in enumerate(answers)], [])


@pytest.fixture(scope="module")
def comparison(classifier, data):
    scope = {"scope": TEXTS[20:60], "scope_held_out": TEXTS[60:]}
    done = []
    found = compare(classifier, data, out_of_scope=STRANGE, num_samples=2, progress=done.append, **scope)
    assert sum(done) <= total_rows(classifier, data, out_of_scope=STRANGE, num_samples=2, **scope)  # four are left out
    assert classifier.scope is None  # the caller's classifier is unchanged
    return found


def test_novelty_is_that_of_the_classifier(comparison, classifier):
    ours = copy.copy(classifier)
    ours.learn_scope(TEXTS[24:60], held_out=TEXTS[60:])  # without the four measured texts
    inside, outside = ours.novelty(TEXTS[:24]), ours.novelty(STRANGE)
    one = {detection.score: detection for detection in comparison.out_of_scope if detection.arm == "scope"}
    np.testing.assert_allclose(one["novelty"].inside, inside, rtol=1e-5)
    np.testing.assert_allclose(one["novelty"].outside, outside, rtol=1e-5)
    strange = np.repeat([0, 1], [24, 30])
    both = np.concatenate([inside, outside])
    assert one["novelty"].auroc.value == pytest.approx(roc_auc_score(strange, both))
    confidence = np.concatenate(
        [classifier.predict_proba(part, num_samples=0).max(1) for part in (TEXTS[:24], STRANGE)]
    )
    mean = (rankdata(both) + rankdata(-confidence.astype(np.float64))) / 2
    rank = one["novelty and 1 - max probability"].auroc.value
    assert rank == pytest.approx(roc_auc_score(strange, mean), abs=1e-6)
    entropy = next(d for d in comparison.out_of_scope if d.score == "predictive entropy")
    change = one["novelty"].differences["auroc"].value
    assert change == pytest.approx(one["novelty"].auroc.value - entropy.auroc.value)


def with_better_novelty(comparison):
    """The comparison with a verdict for novelty, which so few texts seldom give."""
    found = [
        replace(one, differences={key: replace(change, verdict="better") for key, change in one.differences.items()})
        for one in comparison.out_of_scope
    ]
    return replace(comparison, out_of_scope=found)


def test_the_report_says_what_a_level_does(comparison, data, tmp_path):
    comparison = with_better_novelty(comparison)
    lines, p = verdict(comparison).lines, comparison.novelty
    assert "4 of the texts to learn the scope from are among the measured ones and left out." in lines
    assert any("out-of-scope texts by novelty, in one pass: AUROC from " in line for line in lines)
    assert comparison.novelty_level == 0.05
    (line,) = [line for line in advice(comparison) if "classifier.novelty_level" in line]
    shares = (
        f"refuses {(p.p_outside <= 0.05).mean():.0%} of them, and {(p.p_inside <= 0.05).mean():.1%} of the in-scope"
    )
    assert shares in line and line.startswith("Novelty detects the out-of-scope texts better than the entropy.")
    paths = write_report(tmp_path, comparison, data, ["NEGATIVE", "POSITIVE"], ReportSettings("m", "d"))
    assert "Scope: novelty and 1 - max probability" in paths[0].read_text()


def test_a_saved_scope_is_measured(classifier, data):
    ours = copy.copy(classifier)
    ours.learn_scope(TEXTS[24:60], held_out=TEXTS[60:])
    found = compare(ours, data, out_of_scope=STRANGE, num_samples=0)
    assert {one.arm for one in found.out_of_scope} == {"frequentist", "scope"} and found.novelty is not None
    assert compare(ours, data, num_samples=0).novelty is None
    assert any("by novelty, in one pass" in line for line in verdict(found).lines)


def test_novelty_that_is_no_better_is_not_deployed(comparison):
    """Novelty whose two sides are exchanged; and too few held-out texts for the level."""
    given = comparison.novelty
    wrong = Outputs(
        comparison.labels,
        comparison.arm("frequentist").probabilities,
        outside=(np.tile([0.5, 0.5], (30, 1)), None),
        novelty=Novelty(given.outside[:24], np.resize(given.inside, 30), given.p_outside[:24], np.ones(30), 36),
    )
    found = compare_outputs(wrong)
    assert found.novelty_level is None and not any("novelty_level" in line for line in advice(found))
    better = with_better_novelty(comparison)
    few = replace(better, novelty=replace(given, held_out=18))
    assert few.novelty_level is None and better.novelty_level == 0.05
    for broken, message in (
        ({"outside": None}, "outside must be given, as novelty is"),
        (
            {"novelty": replace(given, inside=given.inside[:3])},
            "novelty must hold a number for each of 24 texts inside",
        ),
        (
            {"novelty": replace(given, p_outside=np.full(30, np.nan))},
            "novelty must hold a number for each of 30 texts out",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            replace(wrong, **broken)


def test_a_scope_without_other_texts_is_refused(classifier, data):
    with pytest.raises(ValueError, match="scope needs out_of_scope: texts that the scope is to tell apart"):
        compare(classifier, data, scope=TEXTS[24:], num_samples=0)
    with pytest.raises(ValueError, match="all 2 texts to learn the scope from are also measured; pass other ones"):
        compare(classifier, data, out_of_scope=STRANGE, scope=TEXTS[:2], num_samples=0)


def test_the_code_learns_the_scope(comparison, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scope.txt.csv").write_text("text\n" + "\n".join(TEXTS[24:60]) + "\n")
    (tmp_path / "held.csv").write_text("text\n" + "\n".join(TEXTS[60:]) + "\n")
    (tmp_path / "my-texts.csv").write_text("text\n" + STRANGE[0] + "\n")
    rows = "".join(f"{text},{label}\n" for text, label in zip(data.texts, data.labels, strict=True))
    (tmp_path / "labeled.csv").write_text("text,label\n" + rows)
    comparison = with_better_novelty(comparison)
    known = replace(comparison, recommendation=Recommendation("frequentist_temperature"))
    scope = {"scope_dataset": "scope.txt.csv", "scope_held_out": "held.csv"}
    code, space = recipe(known, Sources(None, {}, "labeled.csv", {}, scope=scope)), {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code.python, space)
    expected = space["classifier"].novelty(STRANGE)
    np.testing.assert_allclose(expected, comparison.novelty.outside, rtol=1e-5)
    assert load("calibrated").novelty_level == 0.05
    sure = [
        replace(arm, differences={key: replace(one, enough=True) for key, one in arm.differences.items()})
        for arm in known.arms
    ]
    as_is = replace(known, arms=tuple(sure), recommendation=Recommendation("frequentist"))
    first, _ = recipe(as_is, Sources(None, {}, "x", {}, scope=scope)).command.splitlines()
    assert asked(*first.replace("--output calibrated", "--output plain").split()[1:]).exit_code == 0
    assert load("plain").scope.digest() == load("calibrated").scope.digest() and not load("plain").calibration
    first, second = code.command.splitlines()
    assert asked(*first.replace("--output calibrated", "--output by-command").split()[1:]).exit_code == 0
    assert load("by-command").scope.digest() == load("calibrated").scope.digest()
    assert asked(*second.replace("calibrated", "by-command").split()[1:]).exit_code == 0
