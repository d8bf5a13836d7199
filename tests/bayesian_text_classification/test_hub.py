"""`push`, from the command to a Hub of the tests' own, and what users then load from it with the real clients."""

import json
import os
import re
import subprocess
import sys

import pytest
from bayesian_text_classification.metric import metric_folder
from environments import only, run
from hub_server import READER, WRITER, Hub

ROWS = [[0.05, 0.95], [0.0, 1.0], [0.7, 0.3]], [1, 0, 0]


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def push(hub, home, *arguments, token=WRITER):
    """The command in a fresh process: exit code, stdout, stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", **hub.environment(home, token)}
    code = "from bayesian_text_classification_command import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "push", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    for secret in (WRITER, READER):
        assert secret not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def error_of(result):
    code, out, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and out == "" and len(lines) == 1, (code, out, err)
    assert "Traceback" not in err
    return lines[0]


def test_the_metric_is_loaded_from_the_hub_with_evaluate_alone(hub, tmp_path):
    code, out, err = push(hub, tmp_path / "here", "metric", "user/ece", "--message", "First")
    assert code == 0, err
    repository = hub.repositories["space", "user/ece"]
    assert out.startswith(hub.endpoint) and len(out.splitlines()) == 1
    assert repository.sdk == "gradio" and not repository.private and repository.messages[-1] == "First"
    for path in metric_folder().iterdir():
        if path.is_file():
            assert repository.files[path.name] == path.read_bytes()
    load = (
        "import evaluate, json, sys; m = evaluate.load('user/ece'); p, y = json.loads(sys.argv[1]);"
        "print(m.compute(predictions=p, references=y)['ece'])"
    )
    python = only(tmp_path / "environment", "evaluate")
    printed = run(python, load, json.dumps(ROWS), **hub.environment(tmp_path / "there", None))
    assert float(printed.splitlines()[-1]) == pytest.approx((abs(0.95 - 1 + 1 - 0) + 0.3) / 3)


def test_a_pipeline_goes_with_the_results_of_its_report(hub, tiny, tokenizer, tmp_path):
    for part in (tiny("bert", num_labels=2), tokenizer):
        part.save_pretrained(tmp_path / "model")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "model-card.md").write_text(
        "---\nmodel-index:\n- name: mine\n  results:\n  - task:\n      type: text-classification\n    dataset:\n"
        "      name: d\n      type: d\n    metrics:\n    - type: ece\n      value: 0.05\n---\n\n## Calibration\n\nSo.\n"
    )
    code, _, err = push(hub, tmp_path / "h", "pipeline", "user/m", "--model", tmp_path / "model", "--private",
                        "--report", tmp_path / "report")  # fmt: skip
    assert code == 0, err
    repository = hub.repositories["model", "user/m"]
    assert repository.private
    card = repository.files["README.md"].decode()
    assert "value: 0.05" in card and "## Calibration" in card and "## How to use it" in card
    assert "model-index" in card.split("---")[1] and "library_name: transformers" in card.split("---")[1]
    said = error_of(
        push(hub, tmp_path / "h", "pipeline", "user/m", "--model", tmp_path / "model", "--report", tmp_path / "model")
    )
    assert "has no model-card.md that evaluate wrote" in said


def test_the_dry_run_lists_every_file_with_its_bytes_and_asks_nobody(hub, tmp_path):
    code, out, _ = push(hub, tmp_path, "space", "user/demo", "--dry-run", token=None)
    assert code == 0 and hub.requests == []
    listed = {name: int(size.replace(",", "")) for name, size in re.findall(r"^ (\S+) +([\d,]+) *$", out, re.MULTILINE)}
    code, _, err = push(hub, tmp_path, "space", "user/demo")
    assert code == 0, err
    files = hub.repositories["space", "user/demo"].files
    assert listed == {name: len(content) for name, content in files.items() if name != ".gitattributes"}
    assert f"{len(listed)} files" in out and f"{sum(listed.values()):,}" in out
    for needed in ("app.py", "requirements.txt", "bayesian_text_classification/embedded/model/model.safetensors",
                   "bayesian_text_classification/metrics/ece/ece.py"):  # fmt: skip
        assert needed in listed
    assert not any("__pycache__" in name or "/spaces/" in name for name in listed)


def test_a_repository_that_is_there_is_updated_and_that_is_said(hub, tmp_path):
    hub.add("space", "user/ece", {"ece.py": b"old", "notes.txt": b"kept"}, sdk="gradio")
    code, out, err = push(hub, tmp_path, "metric", "user/ece")
    assert code == 0 and out.startswith(hub.endpoint)
    assert "user/ece was there; its files of these names were replaced" in err
    files = hub.repositories["space", "user/ece"].files
    assert files["notes.txt"] == b"kept" and files["ece.py"] != b"old"
    said = error_of(push(hub, tmp_path, "metric", "user/ece", "--private"))
    assert said == "error: user/ece is there and public; --private is for a repository that is made"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (None, "there is no token: log in with `hf auth login`, or set HF_TOKEN to one that may write"),
        ("hf_" + "x" * 34, "the Hub does not know the token; log in again"),
        (READER, "the token may not write to user/ece; use one with the role write"),
    ],
)
def test_without_a_token_that_may_write_nothing_is_written(hub, tmp_path, token, words):
    assert words in error_of(push(hub, tmp_path, "metric", "user/ece", token=token))
    assert not hub.repositories


@pytest.mark.parametrize("name", ["ece", "user/e ce", "user/..", "a/b/c", ""])
def test_a_name_that_is_none_is_refused_before_the_work(hub, tmp_path, name):
    for kind in ("metric", "pipeline"):
        assert "is no repository" in error_of(push(hub, tmp_path, kind, name))
    assert hub.requests == []


@pytest.mark.parametrize(
    ("path", "what", "words"),
    [
        ("repos/create", 401, "the Hub does not know the token"),
        ("repos/create", 403, "the token may not write to user/ece"),
        ("preupload", 404, "the Hub refused user/ece with status 404"),
        ("commit/main", 409, "the Hub refused user/ece with status 409: told to fail"),
        ("commit/main", 503, "the Hub refused user/ece with status 503: told to fail"),
        ("commit/main", 400, "the Hub refused user/ece with status 400: told to fail"),
        ("commit/main", "cut", "the connection to the Hub failed"),
        ("GET /api/spaces/user/ece", 500, "the Hub refused user/ece with status 500"),
    ],
)
def test_a_failure_is_one_line_leaves_no_half_and_is_mended_by_a_second_run(hub, tmp_path, path, what, words):
    hub.fail(path, what)
    assert words in error_of(push(hub, tmp_path, "metric", "user/ece"))
    for repository in hub.repositories.values():
        assert set(repository.files) == {".gitattributes"}
    hub.failures.clear()
    code, out, err = push(hub, tmp_path, "metric", "user/ece")
    assert code == 0 and out.startswith(hub.endpoint), err
    assert "ece.py" in hub.repositories["space", "user/ece"].files


def test_a_slow_hub_is_waited_for(hub, tmp_path):
    hub.fail("repos/create", 2.0, times=1)
    hub.fail("commit/main", 2.0, times=1)
    code, out, err = push(hub, tmp_path, "metric", "user/ece")
    assert code == 0 and out.startswith(hub.endpoint), err
    assert "ece.py" in hub.repositories["space", "user/ece"].files


def test_a_damaged_token_is_not_shown(hub, tmp_path):
    said = error_of(push(hub, tmp_path, "metric", "user/ece", token="hf_secret\vsecret"))
    assert said == "error: the token holds characters that no token has; copy it again" and hub.requests == []


def test_a_hub_that_is_not_there(hub, tmp_path):
    hub.endpoint = "http://127.0.0.1:9"  # nobody listens
    said = error_of(push(hub, tmp_path, "metric", "user/ece"))
    assert "the connection to the Hub failed" in said and "run the same command again" in said
