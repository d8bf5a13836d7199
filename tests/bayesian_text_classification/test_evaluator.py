import datasets
import evaluate
import numpy as np
import pytest
import torch
import transformers
from bayesian_text_classification import TASK, embedded_model
from bayesian_text_classification.evaluator import BayesianTextClassificationEvaluator
from bayesian_text_classification.metric import load_metric_module
from transformers import pipeline

TEXTS = ["A wonderful film.", "Dull and far too long.", "I loved it.", "Not good, not good at all.", "Fine."]
LABELS = [1, 0, 1, 0, 1]
DATA = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})

# A metric of label ids, like accuracy and F1, which cannot be loaded without the Hub.
SHARE = """
import datasets
import evaluate


class {name}(evaluate.Metric):
    def _info(self):
        features = {{"predictions": datasets.Value("{dtype}"), "references": datasets.Value("int32")}}
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=datasets.Features(features)
        )

    def _compute(self, predictions, references):
        assert isinstance(predictions[0], {kind}), predictions[0]
        return {{"{key}": {expression} / len(references)}}
"""
EXPRESSIONS = {
    "share": ("int32", "int", "sum(map(int.__eq__, predictions, references))"),
    "brier": ("float64", "float", "sum((p - r) ** 2 for p, r in zip(predictions, references))"),
}


@pytest.fixture(scope="module")
def ours():
    return evaluate.evaluator(TASK)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """Metrics that need label ids, the positive class' probability, and rows of probabilities."""
    found = {}
    for name, (dtype, kind, expression) in EXPRESSIONS.items():
        code = SHARE.format(name=name.title(), dtype=dtype, kind=kind, key=name, expression=expression)
        folder = tmp_path_factory.mktemp("metrics") / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(code)
        found[name] = lambda folder=folder: evaluate.load(str(folder), keep_in_memory=True)
    module = load_metric_module()
    return {**found, "ece": lambda: module.ECE(config_name="default", keep_in_memory=True)}


def test_evaluate_returns_this_evaluator(ours):
    assert type(ours) is BayesianTextClassificationEvaluator
    assert ours.default_metric_name == "ece"


def test_pipeline_instance_works_where_stock_fails(ours, classifier, metrics):
    # Evaluate's own evaluator asks for a class that transformers 5 does not have.
    assert not hasattr(transformers, "TFPreTrainedModel")
    with pytest.raises(AttributeError, match="TFPreTrainedModel"):
        evaluate.evaluator("text-classification").compute(
            pipeline("text-classification", model=classifier.model, tokenizer=classifier.tokenizer),
            DATA,
            metric=metrics["share"](),
        )
    result = ours.compute(classifier, DATA, metric=metrics["share"]())
    predicted = classifier.predict_proba(TEXTS).argmax(1)
    assert result["share"] == np.mean(predicted == LABELS)
    assert set(result) == {"share", "total_time_in_seconds", "samples_per_second", "latency_in_seconds"}
    assert result["samples_per_second"] == pytest.approx(5 / result["total_time_in_seconds"])


def test_each_metric_gets_the_predictions_it_needs(ours, classifier, metrics):
    combined = evaluate.combine([metrics["share"](), metrics["brier"](), metrics["ece"]()])
    result = ours.compute(classifier, DATA, metric=combined)
    p = classifier.predict_proba(TEXTS).astype(float)
    assert result["share"] == np.mean(p.argmax(1) == LABELS)
    assert result["brier"] == pytest.approx(np.mean((p[:, 1] - LABELS) ** 2), abs=1e-6)
    expected = load_metric_module().expected_calibration_error(p, LABELS)
    assert result["ece"] == pytest.approx(expected, abs=1e-6)


def test_ece_is_the_default_metric(ours, classifier):
    result = ours.compute(classifier, DATA)
    p = classifier.predict_proba(TEXTS)
    assert result["ece"] == pytest.approx(load_metric_module().expected_calibration_error(p, LABELS), abs=1e-6)


def test_names_models_none_and_functions_give_the_same_result(ours, classifier, metrics):
    expected = ours.compute(classifier, DATA, metric=metrics["ece"]())["ece"]
    given = {
        "name": (str(embedded_model()), {}),
        "path": (embedded_model(), {}),
        "model": (classifier.model, {"tokenizer": classifier.tokenizer}),
        "nothing": (None, {}),
        "array": (classifier.predict_proba, {"label_mapping": {"LABEL_0": 0, "LABEL_1": 1}}),
        "array, ids": (classifier.predict_proba, {}),
        "results": (lambda texts: classifier(texts, top_k=None), {"label_mapping": {"NEGATIVE": 0, "POSITIVE": 1}}),
    }
    for name, (model, options) in given.items():
        found = ours.compute(model, DATA, metric=metrics["ece"](), **options)["ece"]
        assert found == pytest.approx(expected, abs=1e-6), name


def test_frequentist_pipeline_can_be_measured(ours, classifier, stock, metrics):
    found = ours.compute(stock, DATA, metric=metrics["ece"]())["ece"]
    p = classifier.predict_proba(TEXTS, num_samples=0)
    assert found == pytest.approx(load_metric_module().expected_calibration_error(p, LABELS), abs=1e-6)


@pytest.mark.parametrize(
    "labels",
    [
        datasets.Dataset.from_dict({"text": TEXTS, "label": ["POSITIVE" if y else "NEGATIVE" for y in LABELS]}),
        datasets.Dataset.from_dict({"text": TEXTS, "label": [1 - y for y in LABELS]}).cast_column(
            "label", datasets.ClassLabel(names=["positive", "negative"])
        ),
    ],
    ids=["names", "other order"],
)
def test_references_can_be_names_in_any_order(labels, ours, classifier, metrics):
    expected = ours.compute(classifier, DATA, metric=metrics["share"]())["share"]
    assert ours.compute(classifier, labels, metric=metrics["share"]())["share"] == expected


def test_label_mapping_reorders_the_classes(ours, classifier, metrics):
    turned = datasets.Dataset.from_dict({"text": TEXTS, "label": [1 - y for y in LABELS]})
    mapping = {"NEGATIVE": 1, "POSITIVE": 0}
    for name, key in (("ece", "ece"), ("share", "share")):
        expected = ours.compute(classifier, DATA, metric=metrics[name]())[key]
        found = ours.compute(classifier, turned, metric=metrics[name](), label_mapping=mapping)[key]
        assert found == pytest.approx(expected, abs=1e-12)


def test_text_pairs_are_scored_as_pairs(ours, classifier, metrics):
    pairs = datasets.Dataset.from_dict({"a": TEXTS, "b": TEXTS[::-1], "y": LABELS})
    found = ours.compute(
        classifier, pairs, metric=metrics["ece"](), input_column="a", second_input_column="b", label_column="y"
    )
    p = classifier.predict_proba([{"text": a, "text_pair": b} for a, b in zip(TEXTS, TEXTS[::-1], strict=True)])
    assert found["ece"] == pytest.approx(load_metric_module().expected_calibration_error(p, LABELS), abs=1e-6)


def test_bootstrap_resamples_texts(ours, classifier, metrics):
    result = ours.compute(
        classifier, DATA, metric=metrics["ece"](), strategy="bootstrap", n_resamples=30, random_state=0
    )
    low, high = result["ece"]["confidence_interval"]
    assert low <= high
    assert result["ece"]["standard_error"] > 0
    assert result["ece"]["score"] == ours.compute(classifier, DATA, metric=metrics["ece"]())["ece"]


def winner_only(texts):
    return [{"label": "LABEL_1", "score": 0.9} for _ in texts]


def test_wrong_arguments_raise_with_a_precise_message(ours, classifier, metrics):
    for model, options, sentence in (
        (3, {}, "model_or_pipeline is of type int; it must be a model"),
        (
            winner_only,
            {"label_mapping": {"LABEL_0": 0, "LABEL_1": 1}},
            "ece needs probabilities, but model_or_pipeline returned only the winning label's score",
        ),
        (lambda texts: np.full((2, 2), 0.5), {}, "returned 2 results for 5 texts; it must return one for each text"),
        (lambda texts: np.full(5, 0.5), {}, "an array of shape (5,); it must contain finite probabilities"),
        (lambda texts: [0.5] * 5, {}, "an array of shape (5,); it must contain finite probabilities"),
        (
            lambda texts: [[0.5, 0.5], [1.0]] * 2,
            {},
            "returned [[0.5, 0.5], [1.0], [0.5, 0.5], [1.0]]; it must return an",
        ),
        (lambda texts: None, {}, "an array of shape (1,); it must contain finite probabilities"),
        (lambda texts: ["good"] * 5, {}, "returned ['good', 'good', 'good', 'good', 'good']; it must return an array"),
        (lambda texts: [], {}, "an array of shape (0,); it must contain finite probabilities"),
        (lambda texts: [{"label": 1, "score": 0.9}] * 5, {}, "it must return an array (texts, classes)"),
        (lambda texts: [{"label": "LABEL_1"}] * 5, {}, "it must return an array (texts, classes)"),
        (lambda texts: [{"label": "LABEL_01", "score": 0.9}] * 5, {}, "whose ids are unknown; pass label_mapping="),
        (classifier, {"label_mapping": {0: 0, 1: 1}}, "it must map names to integers"),
        (classifier, {"metric": len}, "metric is of type builtin_function_or_method; it must be an Evaluate metric"),
        (classifier, {"strategy": "bootstrp"}, "strategy is 'bootstrp'; it must be 'simple' or 'bootstrap'"),
        (lambda texts: np.full((5, 2), np.nan), {}, "an array of shape (5, 2); it must contain finite probabilities"),
        (
            classifier,
            {"label_mapping": {"NEG": 0, "POS": 1}},
            "it must map the labels NEGATIVE, POSITIVE to the ids 0 to 1",
        ),
    ):
        with pytest.raises((ValueError, TypeError)) as error:
            ours.compute(model, DATA, **{"metric": metrics["ece"](), **options})
        assert sentence in str(error.value)
    strange = datasets.Dataset.from_dict({"text": TEXTS, "label": [5] * 5})
    with pytest.raises(ValueError, match=r"label 5 is not one of the model's labels 0 \(NEGATIVE\), 1 \(POSITIVE\)"):
        ours.compute(classifier, strange, metric=metrics["ece"]())
    nothing = datasets.Dataset.from_dict({"text": [], "label": []})
    with pytest.raises(ValueError, match="data has no rows; it must have at least one"):
        ours.compute(classifier, nothing, metric=metrics["ece"]())
    three = lambda texts: np.full((5, 3), 1 / 3)  # noqa: E731
    with pytest.raises(ValueError, match="brier needs the positive class' probability, but the model has 3 classes"):
        ours.compute(three, DATA, metric=metrics["brier"]())


def test_label_10_sorts_after_label_2(ours, metrics):
    texts = [str(i) for i in range(12)]
    data = datasets.Dataset.from_dict({"text": texts, "label": list(range(12))})

    def right(items):
        return [
            [{"label": f"LABEL_{k}", "score": 0.45 if str(k) == item else 0.05} for k in range(12)] for item in items
        ]

    assert ours.compute(right, data, metric=metrics["share"]())["share"] == 1.0
    assert ours.compute(right, data, metric=metrics["ece"]())["ece"] == pytest.approx(0.55)


def test_label_that_is_never_predicted_keeps_its_id(ours, metrics):
    none = datasets.Dataset.from_dict({"text": TEXTS, "label": [0] * 5})
    assert ours.compute(winner_only, none, metric=metrics["share"]())["share"] == 0.0
    first = lambda texts: [{"label": "LABEL_0", "score": 0.9} for _ in texts]  # noqa: E731
    assert ours.compute(first, DATA, metric=metrics["share"]())["share"] == 0.4


def test_labels_with_unknown_ids_raise(ours, metrics):
    def named(texts):
        return [[{"label": "low", "score": 0.3}, {"label": "high", "score": 0.7}] for _ in texts]

    with pytest.raises(ValueError, match="labels high, low, whose ids are unknown; pass label_mapping="):
        ours.compute(named, DATA, metric=metrics["share"]())
    found = ours.compute(named, DATA, metric=metrics["share"](), label_mapping={"low": 0, "high": 1})
    assert found["share"] == 0.6


def test_label_mapping_names_the_columns_of_an_array(ours, classifier, metrics):
    names = datasets.Dataset.from_dict({"text": TEXTS, "label": ["POSITIVE" if y else "NEGATIVE" for y in LABELS]})
    expected = ours.compute(classifier, DATA, metric=metrics["ece"]())["ece"]
    mapping = {"NEGATIVE": 0, "POSITIVE": 1}
    tensor = lambda texts: torch.tensor(classifier.predict_proba(texts), requires_grad=True)  # noqa: E731
    for function in (classifier.predict_proba, tensor):
        found = ours.compute(function, names, metric=metrics["ece"](), label_mapping=mapping)["ece"]
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "turned",
    [
        lambda p: list(p),
        lambda p: p.tolist(),
        lambda p: [torch.tensor(row) for row in p],
        lambda p: p.astype(np.float16),
        lambda p: torch.tensor(p).bfloat16(),
        lambda p: list(torch.tensor(p).bfloat16()),
    ],
    ids=["arrays", "lists", "tensors", "float16", "bfloat16", "bfloat16 rows"],
)
def test_probabilities_can_have_many_types(turned, ours, metrics):
    random = np.random.default_rng(0)
    texts = [str(i) for i in range(400)]
    data = datasets.Dataset.from_dict({"text": texts, "label": random.integers(0, 3, 400)})
    p = random.dirichlet(np.ones(3), 400)
    found = ours.compute(lambda _: turned(p), data, metric=metrics["ece"]())["ece"]
    assert found == pytest.approx(load_metric_module().expected_calibration_error(p, data["label"]), abs=0.01)


def test_labels_without_scores_are_enough_for_label_metrics(ours, metrics):
    mapping = {"LABEL_0": 0, "LABEL_1": 1}
    result = ours.compute(winner_only, DATA, metric=metrics["share"](), label_mapping=mapping)
    assert result["share"] == 0.6
