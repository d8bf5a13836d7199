"""The `push` command against a local test Hub, and loading from it with the real clients."""

import contextlib
import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import forks
import pytest
from bayesian_text_classification.hub import metric_upload
from bayesian_text_classification.hub import push as push_upload
from bayesian_text_classification.loading.classifiers import load_classifier
from bayesian_text_classification.loading.fingerprint import fingerprint
from bayesian_text_classification.metric import metric_folder
from bayesian_text_classification.pipeline.publishing import files_of
from environments import only, run
from hub_server import READER, Hub
from huggingface_hub import ModelCard, get_session
from pushed import environment_of, push

pushing = sys.modules[push_upload.__module__]  # the module, which its function hides
ROWS = [[0.05, 0.95], [0.0, 1.0], [0.7, 0.3]], [1, 0, 0]


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def error_of(result):
    code, out, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and out == "" and len(lines) == 1, (code, out, err)
    assert "Traceback" not in err
    return lines[0]


def test_pushed_metrics_need_only_evaluate_to_load(hub, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= hub.environment(tmp_path / "here")
    code, out, err = forks.command("push", "metric", "user/ece", "--message", "First", **environment)
    assert code == 0, err
    repository = hub.repositories["space", "user/ece"]
    assert out.startswith(hub.endpoint) and len(out.splitlines()) == 1
    assert repository.sdk == "gradio" and not repository.private and repository.messages[-1] == "First"
    for path in metric_folder().iterdir():
        if path.is_file():
            assert repository.files[path.name] == path.read_bytes()
    name = "prediction_set_coverage"
    code, _, err = push(hub, tmp_path / "here", "metric", f"user/{name}")  # the repository's name chooses the metric
    assert code == 0, err
    files = hub.repositories["space", f"user/{name}"].files
    assert files[f"{name}.py"] == (metric_folder(name) / f"{name}.py").read_bytes() and "ece.py" not in files
    load = (
        "import evaluate, json, sys; m = evaluate.load('user/ece'); p, y = json.loads(sys.argv[1]);"
        "print(m.compute(predictions=p, references=y)['ece']);"
        f"m = evaluate.load('user/{name}', 'multilabel');"
        "print(m.compute(predictions=[[0], []], references=[[0, 1], [1]])['coverage'])"
    )
    python = only(tmp_path / "environment", "evaluate")
    printed = run(python, load, json.dumps(ROWS), **hub.environment(tmp_path / "there", None))
    ece, coverage = map(float, printed.splitlines()[-2:])
    assert ece == pytest.approx((abs(0.95 - 1 + 1 - 0) + 0.3) / 3) and coverage == 0.25


@pytest.fixture
def model(tiny, saved_to, tmp_path):
    """A folder with a model that has no card."""
    return saved_to(tmp_path / "model", tiny("bert", num_labels=2, id2label={0: "bad", 1: "good"}))


@pytest.fixture
def report(model, tmp_path):
    """A report folder for the model, as `evaluate` writes it."""
    (tmp_path / "report").mkdir()
    settings = {"model": "mine", "fingerprint": fingerprint(load_classifier(str(model)))}
    (tmp_path / "report" / "report.json").write_text(json.dumps({"settings": settings}))
    (tmp_path / "report" / "model-card.md").write_text(
        "---\nmodel-index:\n- name: mine\n  results:\n  - task:\n      type: text-classification\n    dataset:\n"
        "      name: d\n      type: d\n    metrics:\n    - type: ece\n      value: 0.05\n---\n\n## Calibration\n\nSo.\n"
    )
    return tmp_path / "report"


def metrics_of(card):
    """The metric and value of each result in a card's metadata."""
    return {(one.metric_type, one.metric_value) for one in ModelCard(card).data.eval_results}


def test_pipeline_is_pushed_with_the_results_of_its_report(hub, model, report, tmp_path):
    command = ("pipeline", "user/m", "--model", model, "--private", "--report", report)
    code, _, err = push(hub, tmp_path / "h", *command)
    assert code == 0, err
    repository = hub.repositories["model", "user/m"]
    assert repository.private
    first = repository.files["README.md"]
    card = first.decode()
    assert metrics_of(card) == {("ece", 0.05)} and "library_name: transformers" in card.split("---")[1]
    assert "## Calibration" in card and "## Scores with uncertainty" in card
    code, _, err = push(hub, tmp_path / "h", *command)  # with an existing card
    assert code == 0 and repository.files["README.md"] == first, err
    said = error_of(push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model, "--report", model))
    assert "is not a report folder of evaluate" in said
    said = error_of(push(hub, tmp_path / "h", "pipeline", "user/m", "--report", report))  # the embedded model
    assert "is the report of another model, mine" in said
    (report / "model-card.md").write_text("# A card without results\n")
    assert "has no results" in error_of(push(hub, tmp_path / "h", *command))


def test_existing_card_keeps_all_its_text(hub, model, report, tmp_path):
    mine = (
        "---\nlicense: mit\nmodel-index:\n- name: m\n  results:\n  - task:\n      type: text-classification\n"
        "    dataset:\n      name: other\n      type: other\n    metrics:\n    - type: f1\n      value: 0.9\n---\n\n"
        "# Mine\n\nAs it was.\n"
    )
    hub.add("model", "user/m", {"README.md": mine.encode()})
    files = hub.repositories["model", "user/m"]
    assert push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model)[0] == 0
    card = files.files["README.md"].decode()
    assert "# Mine\n\nAs it was.\n" in card and "license: mit" in card and metrics_of(card) == {("f1", 0.9)}
    assert "## Scores with uncertainty" in card and "mc-dropout" in ModelCard(card).data.tags
    assert push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model, "--report", report)[0] == 0
    card = files.files["README.md"].decode()
    assert "# Mine\n\nAs it was.\n" in card and "license: mit" in card and "## Calibration\n\nSo." in card
    assert metrics_of(card) == {("f1", 0.9), ("ece", 0.05)}


def test_card_of_the_model_is_kept_with_its_license(hub, model, tmp_path):
    (model / "README.md").write_text("---\nlicense: mit\ntags:\n- films\n---\n\n# My films\n\n## Limits\n\nMany.\n")
    command = ("pipeline", "user/m", "--model", model)
    assert push(hub, tmp_path / "h", *command, "--num-samples", "30")[0] == 0
    first = hub.repositories["model", "user/m"].files["README.md"].decode()
    data = ModelCard(first).data
    assert data.license == "mit" and data.tags[:2] == ["films", "bayesian-text-classification"]
    assert "# My films\n\n## Limits\n\nMany.\n\n<!-- bayesian-text-classification -->" in first
    assert "num_samples=30" in first
    assert push(hub, tmp_path / "h", *command, "--num-samples", "40")[0] == 0
    second = hub.repositories["model", "user/m"].files["README.md"].decode()
    assert second == first.replace("num_samples=30", "num_samples=40")


def test_defaults_and_calibration_are_pushed(hub, model, tmp_path):
    (tmp_path / "mine.csv").write_text("text,label\n" + "a good film,bad\nno film,bad\nthe last film,good\n" * 4)
    code, _, err = push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model, "--num-samples", 30, "--masks",
                        "bernoulli", "--tolerance", 0.02, "--threshold", 0.6, "--calibration-dataset",
                        tmp_path / "mine.csv")  # fmt: skip
    assert code == 0, err
    saved = json.loads(hub.repositories["model", "user/m"].files["config.json"])["bayesian_text_classification"]
    options = {"num_samples": 30, "tolerance": 0.02, "masks": "bernoulli", "threshold": 0.6}
    assert {name: saved[name] for name in options} == options and saved["calibration"]["dropout"]["temperature"] != 1
    assert saved["threshold_way"] == "dropout" and "warning" not in err  # chosen for the calibrated scores
    code, _, err = push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model, "--num-samples", 0, "--threshold",
                        0.7, "--calibration-dataset", tmp_path / "mine.csv")  # fmt: skip
    assert code == 0, err
    saved = json.loads(hub.repositories["model", "user/m"].files["config.json"])["bayesian_text_classification"]
    assert list(saved["calibration"]) == ["ordinary"]
    assert (saved["num_samples"], saved["threshold"], saved["threshold_way"]) == (0, 0.7, "ordinary")
    for wrong, words in (
        (("--masks", "odd"), "--masks 'odd'; it must be one of"),
        (("--tolerance", "-1"), "--tolerance -1.0; it must be"),
        (("--calibration-dataset", tmp_path / "none.csv"), "no such file"),
        (("--text-column", "words"), "--text-column words needs a --calibration-dataset"),
    ):
        assert words in error_of(push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model, *wrong))


def test_card_with_only_a_license_gets_our_section(hub, model, tmp_path):
    hub.add("model", "user/m", {"README.md": b"---\r\nlicense: mit\r\n---\r\n"})
    for _ in range(2):
        assert push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model)[0] == 0
        card = hub.repositories["model", "user/m"].files["README.md"].decode()
        assert ModelCard(card).data.license == "mit" and card.count("## Scores with uncertainty") == 1


def test_existing_code_is_not_replaced_and_requirements_are_kept(hub, model, tmp_path):
    repository = hub.add("model", "user/m", {"handler.py": b"mine = 1\n", "config.json": b"{}"})
    said = error_of(push(hub, tmp_path / "h", "pipeline", "user/m", "--model", model))
    assert "user/m was not changed: handler.py already exists and was not written by save_pretrained; rename it" in said
    assert repository.files["handler.py"] == b"mine = 1\n"
    repository = hub.add("model", "user/n", {"requirements.txt": b"numpy\ntorch==2.9.0"})
    assert push(hub, tmp_path / "h", "pipeline", "user/n", "--model", model)[0] == 0
    assert repository.files["requirements.txt"] == b"numpy\ntorch==2.9.0\ntransformers>=5\n"


def test_concurrent_commit_is_not_lost(hub, tmp_path):
    repository = hub.add("space", "user/ece", {"README.md": b"theirs"}, sdk="gradio")
    hub.fail("preupload", 0.3)  # leaves time for the other commit
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(push, hub, tmp_path, "metric", "user/ece")
        while not any("preupload" in line for line in hub.requests):
            time.sleep(0.01)
        repository.commit({"README.md": b"newer"})
        assert "somebody else changed user/ece in the meantime; try again" in error_of(pushed.result())
    assert repository.files == {"README.md": b"newer"}


def test_metric_with_another_name_is_refused(hub, tmp_path):
    assert "push it as user/ece or user/prediction_set_coverage" in error_of(
        push(hub, tmp_path, "metric", "user/calibration")
    )
    assert hub.requests == []


def test_card_that_is_not_utf8_is_named(hub, model, tmp_path):
    hub.add("model", "user/m", {"README.md": b"\xff\xfe"})
    said = error_of(push(hub, tmp_path, "pipeline", "user/m", "--model", model))
    assert "README.md in user/m is not UTF-8; fix it there" in said


def test_offline_mode_sends_no_request(hub, tmp_path):
    said = error_of(push(hub, tmp_path, "metric", "user/ece", HF_HUB_OFFLINE="1"))
    assert "HF_HUB_OFFLINE is set; unset it" in said
    assert hub.requests == []


def test_hidden_files_are_not_published(tmp_path):
    for name in ("a.py", ".env", ".git/config", "b/.ipynb_checkpoints/c.py", "b/d.py", "__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(files_of(tmp_path)) == ["a.py", "b/d.py"]


def test_card_refused_by_the_hub_gives_one_line_with_the_reason(hub, model, tmp_path):
    (model / "README.md").write_text("---\ncolorFrom: mauve\n---\n\n# Mine\n")
    said = error_of(push(hub, tmp_path, "pipeline", "user/m", "--model", model))
    assert said.startswith("error: user/m was not changed: Invalid metadata") and '"colorFrom" must be one of' in said
    assert set(hub.repositories["model", "user/m"].files) == {".gitattributes"}


def test_dry_run_lists_files_and_sizes_without_requests(hub, tmp_path):
    code, out, _ = push(hub, tmp_path, "space", "user/demo", "--dry-run", token=None)
    assert code == 0 and hub.requests == []
    listed = {name: int(size.replace(",", "")) for name, size in re.findall(r"^ (\S+) +([\d,]+) *$", out, re.MULTILINE)}
    code, _, err = push(hub, tmp_path, "space", "user/demo")
    assert code == 0, err
    files = hub.repositories["space", "user/demo"].files
    assert listed == {name: len(content) for name, content in files.items() if name != ".gitattributes"}
    assert f"{len(listed)} files" in out and f"{sum(listed.values()):,}" in out
    metrics = {f"metrics/{name}/{name}.py" for name in ("ece", "prediction_set_coverage")}
    for inside in ("embedded/model/model.safetensors", *metrics):
        assert f"bayesian_text_classification/{inside}" in listed
    assert {"app.py", "requirements.txt"} <= listed.keys()
    assert not any("__pycache__" in name or "/spaces/" in name for name in listed)


def test_dry_run_and_push_describe_changes_to_an_existing_model_alike(hub, model, tmp_path):
    hub.add("model", "user/m", {"README.md": b"# Mine\n", "notes.txt": b"kept", "adapter_config.json": b"{}"})
    _, planned, _ = push(hub, tmp_path, "pipeline", "user/m", "--model", model, "--dry-run")
    code, _, done = push(hub, tmp_path, "pipeline", "user/m", "--model", model)
    assert code == 0, done
    words = (
        ": README.md and requirements.txt are merged; other files with the same names are replaced; weights, "
        "adapters and code of an earlier push (*.safetensors, *.index.json, pytorch_model*, adapter_*, adapter/*, "
        "members/*/*, scope/scope.npz, prediction_sets/prediction_sets.npz, distillation/distillation.npz) are "
        "removed, if there are any; all other files stay\n"
    )
    assert f"If user/m already exists{words}" in planned and f"user/m already existed{words}" in done
    files = hub.repositories["model", "user/m"].files
    assert b"# Mine" in files["README.md"]
    assert "notes.txt" in files and "adapter_config.json" not in files


def test_existing_repository_is_updated_and_reported(hub, tmp_path):
    hub.add("space", "user/ece", {"ece.py": b"old", "notes.txt": b"kept"}, sdk="gradio")
    code, out, err = push(hub, tmp_path, "metric", "user/ece")
    assert code == 0 and out.startswith(hub.endpoint)
    assert "user/ece already existed: files with the same names are replaced; all other files stay\n" in err
    files = hub.repositories["space", "user/ece"].files
    assert files["notes.txt"] == b"kept" and files["ece.py"] != b"old"
    said = error_of(push(hub, tmp_path, "metric", "user/ece", "--private"))
    assert said == "error: user/ece already exists and is public; --private is only for new repositories"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (None, "no token found: log in with `hf auth login`, or set HF_TOKEN to a token with write access"),
        ("hf_" + "x" * 34, "the Hub does not accept the token; log in again"),
        (READER, "the Hub does not let this token write to user/ece (You don't have the rights to write to user/ece)"),
    ],
)
def test_token_without_write_access_writes_nothing(hub, tmp_path, token, words):
    assert words in error_of(push(hub, tmp_path, "metric", "user/ece", token=token))
    assert not hub.repositories


@pytest.mark.parametrize("name", ["ece", "user/e ce", "user/..", "a/b/c", ""])
def test_invalid_repository_id_is_refused_before_the_work(hub, tmp_path, name):
    for kind in ("metric", "pipeline"):
        assert "is not a repository id" in error_of(push(hub, tmp_path, kind, name))
    assert hub.requests == []


@pytest.mark.parametrize(
    ("path", "what", "words"),
    [
        ("repos/create", 401, "the Hub does not accept the token"),
        (
            "repos/create",
            403,
            "the Hub does not let this token write to user/ece (simulated failure); usually the token lacks the write",
        ),
        ("repos/create", 409, "unexpected answer from the Hub"),
        ("preupload", 404, "the Hub refused user/ece with status 404"),
        ("commit/main", 409, "the Hub refused user/ece with status 409: simulated failure"),
        ("commit/main", 503, "the Hub refused user/ece with status 503: simulated failure"),
        ("commit/main", 400, "the Hub refused user/ece with status 400: simulated failure"),
        ("commit/main", "cut", "the connection to the Hub failed"),
        ("GET /api/spaces/user/ece", 500, "the Hub refused user/ece with status 500"),
    ],
)
def test_failed_push_gives_one_line_and_changes_nothing_and_a_retry_works(hub, tmp_path, path, what, words):
    hub.fail(path, what)
    assert words in error_of(push(hub, tmp_path, "metric", "user/ece"))
    for repository in hub.repositories.values():
        assert set(repository.files) == {".gitattributes"}
    hub.failures.clear()
    code, out, err = push(hub, tmp_path, "metric", "user/ece")
    assert code == 0 and out.startswith(hub.endpoint), err
    assert "ece.py" in hub.repositories["space", "user/ece"].files


@pytest.mark.parametrize("path", ["GET /api/spaces/user/ece", "repos/create", "commit/main"])
def test_hanging_hub_times_out_and_a_slow_one_does_not(hub, tmp_path, path, monkeypatch):
    hub.fail(path, 60.0)  # seconds
    monkeypatch.setattr(pushing, "PATIENCE", 0.2)
    said = error_of(push(hub, tmp_path, "metric", "user/ece"))
    assert "the connection to the Hub failed (ReadTimeout" in said and "try again" in said
    for repository in hub.repositories.values():
        assert set(repository.files) == {".gitattributes"}
    monkeypatch.undo()
    hub.failures.clear()
    hub.fail(path, 0.4, times=1)
    code, out, err = push(hub, tmp_path, "metric", "user/ece")
    assert code == 0 and out.startswith(hub.endpoint), err
    assert "ece.py" in hub.repositories["space", "user/ece"].files


def test_damaged_token_is_not_printed(hub, tmp_path):
    said = error_of(push(hub, tmp_path, "metric", "user/ece", token="hf_secret\vsecret"))
    assert said == "error: the token contains invalid characters; copy it again" and hub.requests == []


def test_unreachable_hub_gives_one_line(hub, tmp_path):
    hub.endpoint = "http://127.0.0.1:9"  # nobody listens
    said = error_of(push(hub, tmp_path, "metric", "user/ece"))
    assert "the connection to the Hub failed" in said and "try again" in said


def test_push_restores_the_timeout_of_huggingface_hub(hub, tmp_path):
    """huggingface_hub has one client per process, so a changed timeout would affect other requests."""
    with environment_of(hub, tmp_path / "home"):
        before = get_session().timeout
        pushing.push(metric_upload("user/ece"), "user/ece")
        assert get_session().timeout == before


def test_two_pushes_at_once_restore_the_timeout():
    before, patient = get_session().timeout, pushing.PatientSession()
    with contextlib.ExitStack() as second:
        with patient:
            second.enter_context(patient)
            assert get_session().timeout.read == pushing.PATIENCE
        assert get_session().timeout.read == pushing.PATIENCE  # the second push is not done
    assert get_session().timeout == before


def test_push_of_the_demo_removes_code_of_an_earlier_version(hub, tmp_path):
    code, _, err = push(hub, tmp_path, "space", "user/how-sure")
    assert code == 0, err
    repository = hub.repositories["space", "user/how-sure"]
    package = "bayesian_text_classification"
    old = {f"{package}/flat.py": b"", f"{package}/pipeline/gone.py": b"", "mine.py": b"HELLO = 1\n"}
    repository.commit({**repository.files, **old})
    code, _, err = push(hub, tmp_path, "space", "user/how-sure")
    assert code == 0, err
    there = repository.files.keys()
    assert not there & {*old} - {"mine.py"} and "mine.py" in there
    assert f"{package}/__main__.py" not in there and f"{package}/pipeline/pipeline.py" in there


def test_push_removes_code_of_an_earlier_version_in_the_same_commit(hub, model, tmp_path):
    code, _, err = push(hub, tmp_path, "pipeline", "user/m", "--model", model)
    assert code == 0, err
    repository = hub.repositories["model", "user/m"]
    mark = repository.files["pipeline.py"].split(b"\n", 1)[0]
    repository.commit({**repository.files, "renamed_since.py": mark + b"\n", "mine.py": b"HELLO = 1\n"})
    code, _, err = push(hub, tmp_path, "pipeline", "user/m", "--model", model)
    assert code == 0, err
    assert "renamed_since.py" not in repository.files and "mine.py" in repository.files
