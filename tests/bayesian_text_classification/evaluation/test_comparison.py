"""Comparisons from arrays: the statistics need no model."""

from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.evaluation import compare_outputs, verdict
from bayesian_text_classification.evaluation.comparison import GrowingComparison
from bayesian_text_classification.evaluation.outputs import Calibration, MemberOutputs, Outputs, StudentOutputs
from bayesian_text_classification.evaluation.statistics.measures import MEASURES
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.loading import LabeledTexts
from bayesian_text_classification.pipeline.temperature import apply_temperature, fit_temperature, leave_one_out
from bayesian_text_classification.report import ReportSettings, write_report
from interval_cases import chances, truth

pytestmark = pytest.mark.usefixtures("few_resamples")


def drawn(rows=600, samples=20, seed=0):
    """An overconfident model and samples around it with a calibrated mean; labels follow the true probabilities."""
    random, z, labels = truth(rows, seed)
    return labels, chances(2 * z), chances((2 * z)[:, None] + random.normal(0, 3, (rows, samples)))


@pytest.fixture(scope="module")
def comparison():
    labels, ordinary, samples = drawn()
    return compare_outputs(Outputs(labels, ordinary, samples))


def test_arms_have_the_measures_of_their_arrays(comparison):
    labels, ordinary, samples = drawn()
    assert [arm.name for arm in comparison.arms] == [
        "frequentist", "frequentist_temperature", "bayesian", "bayesian_temperature",
    ]  # fmt: skip
    for name, p in (("frequentist", ordinary), ("bayesian", samples.mean(2))):
        for measure in MEASURES:
            found = comparison.arm(name).estimates[measure.key].value
            assert found == pytest.approx(measure.value(Predictions.of(p, labels)), abs=1e-12), measure.key
    assert comparison.arm("bayesian").cost.passes == 20 and comparison.sweep.pool == 20
    assert comparison.arm("bayesian").differences["nll"].verdict == "better"
    assert comparison.recommended != "frequentist"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("members", {"samples": drawn()[2][:5]}, r"members.samples has the shape \(5, 2, 20\)"),
        ("members", {"averaged": drawn()[1]}, "members.averaged must be None, as calibration is"),
        ("members", {"outside": drawn()[2]}, "members.outside must be None, as outside is"),
        ("members", {"samples": -drawn()[2]}, "members.samples must hold probabilities"),
        ("student", {"ordinary": drawn()[1][:5]}, r"student.ordinary has the shape \(5, 2\)"),
        ("student", {"calibration": drawn()[1]}, "student.calibration must be None, as calibration is"),
        ("student", {"outside": drawn()[1]}, "student.outside must be None, as outside is"),
        ("student", {"ordinary": -drawn()[1]}, "student.ordinary must hold probabilities"),
    ],
)
def test_arrays_of_members_and_of_a_student_are_checked(name, changes, message):
    labels, ordinary, samples = drawn()
    p, kind = samples.mean(2), MemberOutputs if name == "members" else StudentOutputs
    own = {"samples": samples} if name == "members" else {"ordinary": p}
    with pytest.raises(ValueError, match=message):
        Outputs(labels, ordinary, **{name: kind(**{**own, **changes})})
    given, (first,) = {"calibration": Calibration(labels, ordinary), "outside": (ordinary, None)}, own.values()
    found = compare_outputs(Outputs(labels, ordinary, **{name: kind(first, p, first)}, **given))
    assert found.arm("ensemble" if name == "members" else "student").cost.passes == (20 if name == "members" else 1)
    for lacking in (kind(first, p), kind(first, None, first)):
        with pytest.raises(ValueError, match="must be given, as "):
            Outputs(labels, ordinary, **{name: lacking}, **given)


def test_a_comparison_without_samples_has_two_arms():
    labels, ordinary, samples = drawn()
    others, p, q = drawn(seed=1)
    found = compare_outputs(Outputs(labels, ordinary, calibration=Calibration(others, p), outside=(p[:120], None)))
    assert [arm.name for arm in found.arms] == ["frequentist", "frequentist_temperature"] and not found.sampled
    assert found.recommended == "frequentist_temperature" and found.rival.name == "frequentist_temperature"
    both = compare_outputs(Outputs(labels, ordinary, samples))
    assert found.arms[0].estimates == both.arms[0].estimates
    for wrong in ({"calibration": Calibration(others, p, q.mean(2))}, {"outside": (p, q)}):
        with pytest.raises(ValueError, match="must be None, as samples is"):
            Outputs(labels, ordinary, **wrong)
    with pytest.raises(ValueError, match="must be given, as samples is"):
        Outputs(labels, ordinary, samples, outside=(p, None))


def test_calibration_texts_determine_the_temperatures():
    labels, ordinary, samples = drawn()
    others, p, q = drawn(seed=1)
    known = Calibration(others, p, q.mean(2))
    found = compare_outputs(Outputs(labels, ordinary, samples, calibration=known))
    assert found.arm("frequentist_temperature").temperature == fit_temperature(p, others)
    assert found.arm("bayesian_temperature").temperature == fit_temperature(q.mean(2), others)
    assert found.calibrated_on == 600


@pytest.mark.parametrize("known", [False, True])
def test_outputs_may_come_one_after_the_other(known):
    labels, ordinary, samples = drawn(60)
    others, p, q = drawn(40, seed=1)
    members, baal, saved = MemberOutputs(samples[:, :, :3], q.mean(2) if known else None), samples.mean(2), ordinary
    first = Outputs(labels, ordinary)
    stages = [first]
    if known:
        stages.append(replace(first, calibration=Calibration(others, p)))
    stages.append(replace(stages[-1], baal=baal))
    averaged = Calibration(others, p, q.mean(2)) if known else None
    stages.append(replace(stages[-1], samples=samples, calibration=averaged))
    stages.append(replace(stages[-1], members=members))
    stages.append(replace(stages[-1], saved=saved))
    growing = GrowingComparison(0, others=known)
    arms = [[arm.name for arm in growing.add(outputs)] for outputs in stages]
    assert [name for names in arms for name in names] == [arm.name for arm in growing.whole().arms]
    assert arms[0] == ["frequentist"] + ["frequentist_temperature"] * (not known)
    assert arms[-3:] == [["bayesian", "bayesian_temperature"], ["ensemble", "ensemble_temperature"], ["saved"]]
    found, once = growing.whole(), compare_outputs(stages[-1])
    assert repr(found.arms) == repr(once.arms) and repr(found.beyond_temperature) == repr(once.beyond_temperature)
    assert repr(found.sweep) == repr(once.sweep) and found.recommended == once.recommended
    assert (found.calibrated_on, found.determined) == (once.calibrated_on, once.determined)


def test_entropy_detects_out_of_scope_texts():
    labels, ordinary, samples = drawn()
    doubt, doubts = np.full((200, 2), 0.5), np.full((200, 2, 20), 0.5)
    found = compare_outputs(Outputs(labels, ordinary, samples, outside=(doubt, doubts))).out_of_scope
    assert [one.score for one in found].count("predictive entropy") == 2
    assert min(one.auroc.value for one in found if one.score == "predictive entropy") > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ordinary": np.log(drawn()[1])}, "ordinary must hold probabilities"),
        ({"samples": drawn()[2] * np.nan}, "samples must hold probabilities"),
        ({"samples": drawn()[2].transpose(0, 2, 1)}, r"samples has the shape \(600, 20, 2\); .* \(600, 2, samples\)"),
        ({"labels": drawn()[0] + 0.9}, r"labels must hold 600 class ids, integers from 0 to 1; .* dtype float64"),
        ({"labels": drawn()[0] * 0 + 2}, r"integers from 0 to 1; labels\[0\] is 2"),
        ({"samples": drawn()[2][:, :, :0]}, r"samples has the shape \(600, 2, 0\), so it is empty"),
        ({"labels": drawn()[0][1:]}, "labels must hold 600 class ids"),
        ({"ordinary": np.empty((0, 2)), "labels": []}, r"ordinary has the shape \(0, 2\), so it is empty"),
        ({"baal": drawn()[2]}, r"baal has the shape \(600, 2, 20\)"),
        ({"pool": drawn()[2][:, :, :1]}, "pool holds 1 sample of each text; it must hold at least 2, or be None"),
        ({"outside": (drawn()[1], drawn()[1])}, r"outside\[1\] has the shape"),
        ({"calibration": Calibration(drawn()[0] + 5, drawn()[1], drawn()[1])}, "calibration.labels must hold"),
    ],
)
def test_arrays_that_are_not_probabilities_or_labels_raise(changes, message):
    labels, ordinary, samples = drawn()
    with pytest.raises(ValueError, match=message):
        Outputs(**{"labels": labels, "ordinary": ordinary, "samples": samples, **changes})


@pytest.mark.parametrize(("rows", "right"), [(60, 47), (500, 399)])
def test_tied_confidences_next_to_an_edge_stay_in_one_bin(rows, right):
    """A wrong row's own temperature, fitted on the others, gives it more confidence than a right row's."""
    labels = (np.arange(rows) >= right).astype(int)
    ordinary = np.tile([0.9, 0.1], (rows, 1))
    arm = compare_outputs(Outputs(labels, ordinary, ordinary[:, :, None])).arm("frequentist_temperature")
    each = leave_one_out(ordinary, labels, arm.temperature)
    assert apply_temperature(ordinary, each)[:, 0].min() < 0.8 < apply_temperature(ordinary, each)[:, 0].max()
    assert sum(count > 0 for count in arm.reliability.counts) == 1
    # On fresh rows, the share of right ones and the fitted confidence differ by their separate noise.
    noise = np.sqrt(0.8 * 0.2 / rows)
    assert noise / 2 < arm.estimates["ece"].value < 2 * noise


def test_lists_are_accepted():
    labels, ordinary, samples = drawn(rows=40)
    known = Calibration(labels, ordinary, samples.mean(2))
    arrays = compare_outputs(Outputs(labels, ordinary, samples, calibration=known))
    lists = compare_outputs(Outputs(labels.tolist(), ordinary.tolist(), samples.tolist(), calibration=known))
    for arm in arrays.arms:
        assert lists.arm(arm.name).temperature == arm.temperature
        found, expected = lists.arm(arm.name).estimates["nll"], arm.estimates["nll"]
        assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


def test_report_leaves_out_what_was_not_measured(comparison, tmp_path):
    """Without BaaL's arm and the sample sweep, the verdict, the page and the figures leave them out."""
    assert any("samples are enough" in line for line in verdict(comparison).advice)
    comparison = replace(comparison, sweep=None)
    assert not any("samples are enough" in line for line in verdict(comparison).advice)
    data = LabeledTexts("mine", [f"text {i}" for i in range(600)], comparison.labels.tolist(), [])
    paths = write_report(tmp_path, comparison, data, ["no", "yes"], ReportSettings("mine", "mine"))
    assert {path.name for path in paths} >= {"report.html", "reliability.png"}
    assert not (tmp_path / "samples.png").exists() and "BaaL" not in (tmp_path / "report.html").read_text()
