"""Saved pipelines, also loaded where this package is not installed."""

import json
import re
import shutil
from pathlib import Path

import bayesian_text_classification
import numpy as np
import pytest
from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification.loading.classifiers import load_classifier
from bayesian_text_classification.pipeline.handler import EndpointHandler
from environments import only
from hub_server import WRITER, Hub
from pipeline_cases import TASK, TEXTS, assert_close
from pushed import environment_of
from transformers import pipeline
from transformers.dynamic_module_utils import check_imports, get_relative_import_files

LOAD = """
import json, sys
from transformers import pipeline
folder, again, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
by_name = pipeline("bayesian-text-classification", model=folder, trust_remote_code=True)
classifier = pipeline(model=folder, trust_remote_code=True)
assert type(classifier).__module__.startswith("transformers_modules.")
assert by_name(texts) == classifier(texts)
classifier.save_pretrained(again)
print(json.dumps([classifier(texts), classifier.sample_proba(texts).tolist(), classifier.temperature]))
"""


@pytest.fixture
def tuned(tiny, tokenizer):
    """A pipeline in which every option differs from its default."""
    model = tiny("bert", num_labels=3)
    ours = pipeline(TASK, model=model, tokenizer=tokenizer, num_samples=30, tolerance=0.05, masks="bernoulli")
    ours.temperature, ours.threshold = 1.5, 0.4
    return ours


def test_answers_are_the_same_without_the_package_and_after_saving_again(tuned, bare, tmp_path):
    """Options, temperature, threshold, prediction sets and scope."""
    texts = [f"{text} {word} {other}" for text in TEXTS for word in ("so", "good", "bad", "long") for other in "abcd"]
    tuned.conformalize(texts, [0, 1, 2, 1] * 12, coverage=0.7)
    tuned.learn_scope(texts)
    tuned.save_pretrained(tmp_path / "first")
    expected, folder = tuned(TEXTS), tmp_path / "first"
    kept = [([entry["label"] for entry in row["prediction_set"]], row["novelty_p_value"]) for row in expected]
    assert "abstained" in expected[0]
    for name in ("second", "third"):
        printed = bare(LOAD, folder, tmp_path / name, json.dumps(TEXTS))
        results, samples, temperature = json.loads(printed.splitlines()[-1])
        assert_close(results, expected)
        found = [([entry["label"] for entry in row["prediction_set"]], row["novelty_p_value"]) for row in results]
        assert found == kept
        np.testing.assert_allclose(samples, tuned.sample_proba(TEXTS), atol=1e-5)
        assert temperature == 1.5
        for file in ("config.json", "README.md", "handler.py", "pipeline.py", "masks.py"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "first" / file).read_bytes(), file
        assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / name).iterdir()}
        folder = tmp_path / name


def test_the_bare_interpreter_does_not_have_our_packages(bare):
    code = "import importlib.util as u; print([u.find_spec(n) is not None for n in {}])"
    names = ["torch", "transformers", "numpy", "bayesian_text_classification", "evaluate", "baal", "scipy", "peft"]
    assert bare(code.format(names)).strip() == str([True] * 3 + [False] * 5)


def test_options_are_saved_and_explicit_ones_take_precedence(tuned, tmp_path):
    tuned.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())["bayesian_text_classification"]
    options = {"num_samples": 30, "tolerance": 0.05, "masks": "bernoulli", "threshold": 0.4}
    fitted = {"calibration": {"dropout": {"temperature": 1.5}}, "spread": tuned.spread.saved()}
    assert saved == {**options, **fitted, "threshold_way": "dropout"}
    chosen = {"model": str(tmp_path), "pipeline_class": BayesianTextClassificationPipeline}
    assert_close(pipeline(TASK, **chosen)(TEXTS), tuned(TEXTS))
    plain = pipeline(TASK, **chosen, num_samples=20, tolerance=None, masks="balanced", threshold=None)(TEXTS)
    assert_close(plain, tuned(TEXTS, num_samples=20, tolerance=None, masks="balanced", threshold=None))
    assert {result["num_samples"] for result in plain} == {20} and "abstained" not in plain[0]


def test_saving_does_not_modify_the_callers_model(tuned, same_model, tmp_path):
    with same_model(tuned.model):
        tuned.save_pretrained(tmp_path)


def test_the_model_keeps_its_config_while_it_is_saved(tuned, tmp_path, monkeypatch):
    own, seen = tuned.model.config, []
    write = type(own).save_pretrained

    def look(config, *args, **kwargs):
        seen.append(tuned.model.config is own)
        return write(config, *args, **kwargs)

    monkeypatch.setattr(type(own), "save_pretrained", look)
    tuned.save_pretrained(tmp_path)
    assert seen == [True]


def test_code_of_an_earlier_version_is_removed(tuned, tmp_path):
    """Nothing would load a file that has since been renamed, but it would mislead reviewers of the code."""
    (tmp_path / "renamed_since.py").write_text("# From bayesian-text-classification 0.0.1, copied.\n")
    (tmp_path / "mine.py").write_text("HELLO = 1\n")
    tuned.save_pretrained(tmp_path)
    tuned.save_pretrained(tmp_path)
    code = {path.name for path in tmp_path.glob("*.py")}
    needed = {Path(path).name for path in get_relative_import_files(tmp_path / "pipeline.py")}
    assert code == needed | {"pipeline.py", "mine.py"}


def test_no_local_path_is_saved(classifier, tmp_path):
    """Regression test: saving the default model wrote the path of its registration into `config.json`."""
    classifier.save_pretrained(tmp_path / "saved")
    package = str(Path(bayesian_text_classification.__file__).parent)
    for path in (tmp_path / "saved").iterdir():
        content = path.read_bytes()
        assert package.encode() not in content and str(tmp_path).encode() not in content, path.name
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["custom_pipelines"] == {
        TASK: {"impl": "pipeline.BayesianTextClassificationPipeline", "pt": ["AutoModelForSequenceClassification"],
               "type": "text"}
    }  # fmt: skip


def test_all_code_is_saved_and_says_where_it_comes_from(tuned, tmp_path):
    tuned.save_pretrained(tmp_path)
    code = sorted(path.name for path in tmp_path.glob("*.py"))
    needed = {Path(path).name for path in get_relative_import_files(tmp_path / "pipeline.py")}
    assert set(code) == needed | {"pipeline.py"} and "handler.py" in code
    for name in code:
        check_imports(tmp_path / name)
        first, rest = (tmp_path / name).read_text().split("\n", 1)
        assert first.startswith("# From bayesian-text-classification ") and first.endswith("copied by save_pretrained.")
        assert rest == (Path(bayesian_text_classification.__file__).parent / "pipeline" / name).read_text()


def test_a_model_card_is_written_if_there_is_none(tuned, tmp_path):
    tuned.save_pretrained(tmp_path / "new")
    card = (tmp_path / "new" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n") and "\n# A text classifier" in card
    assert (
        "num_samples=30, tolerance=0.05, masks='bernoulli', threshold=0.4" in card
        and "sampled scores, temperature 1.5." in card
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_bytes(b"---\r\nlicense: mit\r\n---\r\n\r\n# Mine\r\n")
    (tmp_path / "mine" / "requirements.txt").write_text("numpy\n")
    for _ in range(2):
        tuned.save_pretrained(tmp_path / "mine")
    card = (tmp_path / "mine" / "README.md").read_bytes()
    assert b"license: mit\r\n" in card and b"\r\n# Mine\r\n" in card and card.count(b"## Scores with uncertainty") == 1
    assert (tmp_path / "mine" / "requirements.txt").read_text() == "numpy\ntorch>=2.5\ntransformers>=5\n"


@pytest.mark.parametrize("samples", [0, 4])
def test_the_card_explains_the_keys_of_the_answers(small, samples, tmp_path):
    ours = BayesianTextClassificationPipeline(model=small.model, tokenizer=small.tokenizer, num_samples=samples)
    ours.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    explained = [
        key for row in re.findall(r"^\| (`.+?) \| ", card, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)
    ]
    (answer,) = ours("a film")
    assert explained == list(answer) and "novelty" not in card
    assert "{" not in card.partition("### What the answers mean")[2] and "\n\n\n" not in card


@pytest.mark.parametrize(("rate", "samples"), [(0.0, 0), (0.1, 0), (0.1, 4)])
def test_the_examples_of_the_card_work(tiny, tokenizer, rate, samples, tmp_path):
    model = tiny("bert", hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
    BayesianTextClassificationPipeline(model=model, tokenizer=tokenizer, num_samples=samples).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    (code,) = re.findall(r"```python\n(from transformers import pipeline\n.*?)```", card, re.DOTALL)
    exec(code.replace("<this repository>", str(tmp_path)), {})
    request = json.loads(re.search(r'`(\{"inputs".*?\})`\.', card)[1])
    assert EndpointHandler(str(tmp_path))(request)
    assert ("mc-dropout" in card) == (rate > 0)


@pytest.mark.parametrize(
    "own", ["# Mine\n", "---\nlicense: [\n---\n# Mine\n", "---\nlicense: mit\n---\n\n# Mine\n\nÄ.\n"]
)
def test_a_models_own_card_is_kept_and_our_section_updated(own, tuned, tmp_path):
    tuned.model.save_pretrained(tmp_path / "model")
    tuned.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text(own, encoding="utf-8")
    for name, source, samples in (("a", "model", 30), ("b", "a", 40), ("b", "b", 50)):
        loaded = pipeline(TASK, model=str(tmp_path / source), num_samples=samples,
                          pipeline_class=BayesianTextClassificationPipeline)  # fmt: skip
        loaded.save_pretrained(tmp_path / name)
        card = (tmp_path / name / "README.md").read_text(encoding="utf-8")
        assert own.rpartition("---")[2].strip() in card and card.count("## Scores with uncertainty") == 1
        assert f"num_samples={samples}," in card and card.count("Saved options") == 1
        assert "license: mit\n" in card or "mit" not in own


def test_saving_to_a_file_or_with_push_to_hub_raises(tuned, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; it must be a folder"):
        tuned.save_pretrained(tmp_path / "file")
    with pytest.raises(ValueError, match=r"call classifier.push_to_hub\(repo_id\)"):
        tuned.save_pretrained(tmp_path / "folder", push_to_hub=True)
    assert not (tmp_path / "folder").exists()


@pytest.fixture
def adapted(tiny, tokenizer, saved_to, tmp_path):
    """Makes a pipeline with a LoRA adapter (its head is trained too) on a base model in a folder."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    def make(name="default"):
        still = tiny("bert", num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        folder = saved_to(tmp_path / "bäse", still)
        base = AutoModelForSequenceClassification.from_pretrained(folder)
        config = LoraConfig(task_type="SEQ_CLS", r=4, lora_dropout=0.2, target_modules=["query", "value"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = get_peft_model(base, config, adapter_name=name).eval()
            with torch.no_grad():
                for key, weight in model.named_parameters():
                    if "lora_B" in key or "modules_to_save" in key:
                        weight.normal_(0, 0.3)
        return pipeline(TASK, model=model, tokenizer=tokenizer, num_samples=10)

    return make


@pytest.fixture(scope="module")
def with_peft(tmp_path_factory):
    """What a program in the bare interpreter does to find peft too."""
    site = only(tmp_path_factory.mktemp("peft") / "environment", "peft").parents[1].glob("lib/python*/site-packages")
    return f"""
import sys
sys.path.append({str(next(site))!r})
from transformers.utils import is_peft_available
is_peft_available.cache_clear()
"""


@pytest.mark.parametrize("name", ["default", "mine"])
def test_an_adapter_is_saved_with_its_base(name, adapted, bare, with_peft, tmp_path):
    ours = adapted(name)
    assert ours.model.active_peft_config.base_model_name_or_path == str(tmp_path / "bäse")
    ours.temperature = 1.5
    ours.save_pretrained(tmp_path / "first")
    for path in (tmp_path / "first").rglob("*.json"):
        assert str(tmp_path) not in json.dumps(json.loads(path.read_text()), ensure_ascii=False), path
    printed = bare(with_peft + LOAD, tmp_path / "first", tmp_path / "again", json.dumps(TEXTS))
    results, samples, temperature = json.loads(printed.splitlines()[-1])
    assert_close(results, ours(TEXTS))
    np.testing.assert_allclose(samples, ours.sample_proba(TEXTS), atol=1e-5)
    assert np.std(samples, axis=2).max() > 1e-3 and temperature == 1.5
    first, again = (tmp_path / folder / "config.json" for folder in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()
    with_package = pipeline(TASK, model=str(tmp_path / "again"), pipeline_class=BayesianTextClassificationPipeline)
    assert_close(with_package(TEXTS), ours(TEXTS))
    assert "**without its adapter**" in (tmp_path / "first" / "README.md").read_text()
    assert "peft" in (tmp_path / "first" / "requirements.txt").read_text()


def test_an_adapter_loaded_by_load_classifier_can_be_saved(adapted, tmp_path):
    ours = adapted()
    ours.model.save_pretrained(tmp_path / "adapter")
    loaded = load_classifier(str(tmp_path / "adapter"))
    loaded.save_pretrained(tmp_path / "saved", max_shard_size="1GB")
    again = pipeline(TASK, model=str(tmp_path / "saved"), pipeline_class=BayesianTextClassificationPipeline)
    assert_close(again(TEXTS, num_samples=10), ours(TEXTS))


def test_models_that_cannot_be_saved_raise(adapted, tuned, tmp_path):
    from transformers import AutoModelForSequenceClassification

    ours = adapted()
    ours.model.save_pretrained(tmp_path / "adapter")
    native = AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=3)
    ours.model = native
    with pytest.raises(ValueError, match=r"load it as a peft\.PeftModel to save it"):
        ours.save_pretrained(tmp_path / "saved")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "encoding.py").write_text("HELLO = 1\n")
    with pytest.raises(ValueError, match=r"encoding\.py would be written by save_pretrained, but the model's own code"):
        tuned.save_pretrained(tmp_path / "own")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["encoding.py"]
    assert (tmp_path / "own" / "encoding.py").read_text() == "HELLO = 1\n"


def test_other_peoples_files_with_a_py_ending_are_kept(tuned, tmp_path):
    """A folder, and code that is not UTF-8."""
    (tmp_path / "theirs.py").mkdir()
    (tmp_path / "latin.py").write_bytes("# caf\xe9\n".encode("latin-1"))
    tuned.save_pretrained(tmp_path)
    assert (tmp_path / "theirs.py").is_dir() and (tmp_path / "latin.py").read_bytes() == b"# caf\xe9\n"
    assert (tmp_path / "pipeline.py").is_file()


def test_the_callers_adapter_is_not_changed_while_it_is_saved(adapted, tmp_path, monkeypatch):
    from peft import PeftModel

    ours, seen = adapted("default"), []
    config, save = ours.model.peft_config["default"], PeftModel.save_pretrained

    def watched(self, *args, **kwargs):
        copied = self.peft_config["default"]
        original = type(copied).save_pretrained

        def spy(one, *more, **options):
            seen.append((config.inference_mode, one.inference_mode))
            return original(one, *more, **options)

        monkeypatch.setattr(type(copied), "save_pretrained", spy)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(PeftModel, "save_pretrained", watched)
    before = config.inference_mode
    ours.save_pretrained(tmp_path / "saved")
    assert seen == [(before, True)] and before is False


def test_weights_of_an_earlier_save_are_removed(tuned, tiny, bayesian, tmp_path):
    other = bayesian(tiny("bert", num_labels=3, num_hidden_layers=1), num_samples=10)
    other.save_pretrained(tmp_path)
    expected = tuned(TEXTS)
    tuned.save_pretrained(tmp_path, max_shard_size="1MB")
    assert not (tmp_path / "model.safetensors").exists() and len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again = pipeline(TASK, model=str(tmp_path), pipeline_class=BayesianTextClassificationPipeline)
    assert_close(again(TEXTS), expected)
    again.save_pretrained(tmp_path)  # overwrites the files that it was loaded from
    again = pipeline(TASK, model=str(tmp_path), pipeline_class=BayesianTextClassificationPipeline)
    assert_close(again(TEXTS), expected)


def test_loading_an_adapter_without_peft_says_what_to_install(adapted, bare, tmp_path):
    adapted().save_pretrained(tmp_path / "saved")
    code = """
import sys
from transformers import pipeline
try:
    pipeline(model=sys.argv[1], trust_remote_code=True)
except ImportError as error:
    print(error)
"""
    printed = bare(code, tmp_path / "saved")
    assert printed.strip() == "this model has a LoRA adapter, which needs peft: pip install peft"


def test_a_models_own_code_is_saved_unless_a_name_collides(tiny, tokenizer, saved_to, bare, tmp_path):
    from transformers import AutoModelForSequenceClassification

    source = (
        "from transformers import BertForSequenceClassification\n"
        "class Mine(BertForSequenceClassification):\n"
        "    def forward(self, *args, **kwargs):\n"
        "        out = super().forward(*args, **kwargs)\n"
        "        out.logits = 2 * out.logits\n"
        "        return out\n"
    )
    for name in ("mine", "masks"):
        folder = saved_to(tmp_path / name, tiny("bert", num_labels=3))
        (folder / f"{name}.py").write_text(source)
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoModelForSequenceClassification": f"{name}.Mine"}
        (folder / "config.json").write_text(json.dumps(config))
        model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
        ours = pipeline(TASK, model=model, tokenizer=tokenizer)
        if name == "masks":
            with pytest.raises(ValueError, match=r"masks\.py would be written by save_pretrained, but the model's own"):
                ours.save_pretrained(tmp_path / "refused")
            assert not (tmp_path / "refused").exists()
        else:
            ours.save_pretrained(tmp_path / "saved")
            printed = bare(LOAD, tmp_path / "saved", tmp_path / "again", json.dumps(TEXTS))
            assert_close(json.loads(printed.splitlines()[-1])[0], ours(TEXTS))


def test_a_private_adapter_without_a_token_says_how_to_log_in(adapted, tmp_path):
    adapted().save_pretrained(tmp_path / "saved")
    files = {path.relative_to(tmp_path / "saved").as_posix(): path.read_bytes()
             for path in (tmp_path / "saved").rglob("*") if path.is_file()}  # fmt: skip
    chosen = {"model": "user/mine", "pipeline_class": BayesianTextClassificationPipeline}
    with Hub() as hub:
        hub.add("model", "user/mine", files, private=True)
        with environment_of(hub, tmp_path / "home", None), pytest.raises(OSError, match="HF_TOKEN") as error:
            pipeline(TASK, **chosen, token=WRITER)
        assert str(error.value).startswith("the adapter of user/mine did not load") and WRITER not in str(error.value)
        with environment_of(hub, tmp_path / "home2"):
            assert pipeline(TASK, **chosen).sampling.num_samples == 10


ENDPOINT = """
import importlib.util, json, sys
# Load the handler the way the inference toolkit does.
sys.path.insert(0, sys.argv[1])
spec = importlib.util.spec_from_file_location("handler.EndpointHandler", sys.argv[1] + "/handler.py")
module = importlib.util.module_from_spec(spec)
sys.modules["handler.EndpointHandler"] = module
spec.loader.exec_module(module)
handler = module.EndpointHandler(sys.argv[1])
answers = []
for request in json.load(open(sys.argv[2])):
    try:
        answers.append(handler(request))
    except ValueError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def test_the_endpoint_answers_like_the_pipeline_and_rejects_bad_requests(tuned, bare, tmp_path):
    tuned.save_pretrained(tmp_path / "saved")
    good = [
        {"inputs": TEXTS[0]},
        {"inputs": TEXTS, "parameters": {"num_samples": 4, "top_k": 2, "threshold": None, "tolerance": None}},
        {"inputs": {"text": TEXTS[0], "text_pair": TEXTS[1]}, "parameters": {"masks": "balanced", "seed": 3}},
        {"inputs": [], "options": {"wait_for_model": True}},
        {"inputs": TEXTS[0], "parameters": {"num_samples": "4", "masks": "bernoulli", "threshold": "null"}},  # in a URL
    ]
    bad = {
        "a request must be": {"parameters": {}},
        "unknown field 'input'": {"inputs": "x", "input": {}},
        "parameters is 3": {"inputs": "x", "parameters": 3},
        "unknown parameter 'samples'; the parameters are num_samples, tolerance": {
            "inputs": "x",
            "parameters": {"samples": 3},
        },
        "num_samples='many'; it must be": {"inputs": "x", "parameters": {"num_samples": "many"}},
        "2 x 60,000 passes; request at most 100,000": {"inputs": ["x", "y"], "parameters": {"num_samples": 60_000}},
        "inputs has 1,001 texts; send at most 1,000": {"inputs": ["x"] * 1_001},
        "inputs has 1,000,007 characters; send at most 1,000,000": {"inputs": ["x" * 1_000_003]},
        "parameters is []": {"inputs": "x", "parameters": []},
        "masks='[[": {"inputs": "x", "parameters": {"masks": "[" * 50}},
        "input 1 is None": {"inputs": ["x", None]},
        "the input is 5 (int)": {"inputs": 5},
    }
    (tmp_path / "requests.json").write_text(json.dumps([*good, *bad.values()]))
    printed = bare(ENDPOINT, tmp_path / "saved", tmp_path / "requests.json")
    answers = json.loads(printed.splitlines()[-1])
    for answer, request in zip(answers, good, strict=False):
        parameters = {**request.get("parameters", {})}
        if parameters.get("threshold") == "null":
            parameters = {"num_samples": 4, "masks": "bernoulli", "threshold": None}
        expected = tuned(request["inputs"], **parameters)
        if request["inputs"]:
            assert_close(answer, expected)
        else:
            assert answer == expected == []
    for answer, words in zip(answers[len(good) :], bad, strict=True):
        assert isinstance(answer, str) and answer.startswith(words) and "\n" not in answer, answer


def test_the_endpoint_limit_counts_the_saved_number_of_samples(tuned, bare, tmp_path):
    many = BayesianTextClassificationPipeline(model=tuned.model, tokenizer=tuned.tokenizer, num_samples=60_000)
    many.save_pretrained(tmp_path / "saved")
    (tmp_path / "requests.json").write_text(json.dumps([{"inputs": ["x", "y"]}]))
    printed = bare(ENDPOINT, tmp_path / "saved", tmp_path / "requests.json")
    assert json.loads(printed.splitlines()[-1])[0].startswith("2 x 60,000 passes")


def test_an_incomplete_copy_names_the_missing_file(tuned, bare, tmp_path):
    tuned.save_pretrained(tmp_path / "saved")
    shutil.move(tmp_path / "saved" / "masks.py", tmp_path / "masks.py")
    with pytest.raises(AssertionError, match=r"masks\.py"):
        bare(LOAD, tmp_path / "saved", tmp_path / "again", "[]")
