"""The command as users run it, in a separate process: output, files and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import commands
import forks
import huggingface_hub
import pandas
import pytest
from bayesian_text_classification import __version__
from bayesian_text_classification.loading.classifiers import load_classifier
from bayesian_text_classification.loading.fingerprint import fingerprint
from bayesian_text_classification.pipeline.options import Options
from bayesian_text_classification_command import app
from bayesian_text_classification_command.console import for_shell, with_flags
from typer.main import get_command

pytestmark = pytest.mark.usefixtures("loud_libraries")
COMMAND = str(Path(sysconfig.get_path("scripts")) / "bayesian-text-classification")


def run(*arguments, before="", **variables):
    """Run the command in a forked process that has the libraries imported. `before` is code that runs first."""
    return forks.command(*arguments, before=before, **{**os.environ, **variables})


def asked(*arguments):
    """Run the command in this process, with a result like that of `run`."""
    return forks.Done(*commands.asked(*arguments))


def started(*arguments, **variables):
    """Run the installed command."""
    environment = {**os.environ, **variables}
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment)


def error_line(done):
    """The single error line of a refused run."""
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "few.csv").write_text(
        "text,label,kind\na wonderful film,POSITIVE,a\ndull,0,b\nI want my money back,negative,b\n"
    )
    (folder / "other.csv").write_text("text\n2 + 2 = 4\ntake the second left\n")
    done = run(
        "evaluate", "--dataset", folder / "few.csv", "--num-samples", 3, "--seed", 7, "--output", folder / "out",
        "--ood-dataset", folder / "other.csv", HF_HUB_OFFLINE="1", COLUMNS="40",
    )  # fmt: skip
    return done, folder


def test_evaluate_prints_only_the_table_the_verdict_and_the_paths_to_stdout(small_run):
    done, folder = small_run
    assert done.returncode == 0, done.stderr
    early = [line.partition(": ECE 0.")[0] for line in done.stderr.splitlines()]
    assert early == ["Frequentist", "Frequentist + temperature", "BaaL (patch_module)"]  # while others were sampled
    lines = done.stdout.splitlines()
    assert lines[0].strip() == "3 texts, 3 samples"
    assert lines[3].split() == ["ECE", "accuracy", "NLL", "Brier", "sites", "seconds"]
    names = ("reliability", "samples", "risk-coverage", "confidence", "out-of-scope")
    pictures = [f"{name}.{ending}" for name in names for ending in ("png", "svg")]
    files = ("report.html", "report.json", "model-card.md", *pictures)
    assert lines[-13:] == [str(folder / "out" / name) for name in files]
    assert any(line.startswith("No recommendation on 3 texts: ") for line in lines)
    assert any(line.startswith("- On 3 texts, the Bayesian model is not significantly worse calib") for line in lines)
    assert "In Python:" not in lines  # nothing is recommended
    assert any(line.startswith("- Detecting 2 out-of-scope texts by predictive entropy: ") for line in lines)


def test_numbers_are_not_cut_in_a_narrow_terminal(small_run):
    done, folder = small_run
    arms = json.loads((folder / "out" / "report.json").read_text())["arms"]
    rows = [line.split() for line in done.stdout.splitlines()]
    titles = ["Frequentist", "Frequentist + temperature", "BaaL (patch_module)", "Bayesian", "Bayesian + temperature"]
    for title, arm in zip(map(str.split, titles), arms.values(), strict=True):
        numbers = [f"{arm[measure]['value']:.4f}" for measure in ("ece", "accuracy", "nll", "brier")]
        assert [*title, *numbers, str(arm["dropout_sites"]), f"{arm['seconds']:.1f}"] in rows
    assert re.search(r"^ b +\d+\.0% +\d+\.0%", done.stdout, re.MULTILINE)
    assert "…" not in done.stdout


def test_report_json_has_all_numbers_and_settings(small_run):
    _, folder = small_run
    report = json.loads((folder / "out" / "report.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", report["settings"].pop("date"))
    assert report["settings"] | {"device": "cpu"} == {
        "model": "embedded classifier", "dataset": str(folder / "few.csv"), "config": None, "split": None,
        "text_column": "text", "text_pair_column": None, "label_column": "label", "num_samples": 3, "seed": 7,
            "dropout": None, "ensemble": None, "student": None,
        "device": "cpu", "dtype": "float32", "n_bins": 10, "masks": "balanced", "calibration_dataset": None,
        "ood_dataset": str(folder / "other.csv"), "scope_dataset": None, "scope_held_out": None,
        "coverage": None,
        "fingerprint": fingerprint(load_classifier()),
    }  # fmt: skip
    assert report["data"]["rows"] == 3
    assert list(report["arms"]) == [
        "frequentist", "frequentist_temperature", "baal", "bayesian", "bayesian_temperature",
    ]  # fmt: skip
    assert [(one["arm"], one["texts"]) for one in report["out_of_scope"]] == [("frequentist", 2)] * 2 + [
        ("bayesian", 2)
    ] * 3
    for arm in report["arms"].values():
        assert {
            "passes",
            "dropout_sites",
            "dropout_calls",
            "seconds",
            "accuracy",
            "ece",
            "nll",
            "brier",
            "reliability",
        } <= set(arm)
        assert sum(arm["reliability"]["counts"]) == 3
    assert [arm["dropout_sites"] for arm in report["arms"].values()] == [0, 0, 14, 20, 20]
    assert report["arms"]["frequentist"]["error_rate_by_kind"].keys() == {"a", "b"}
    assert (report["sweep"]["texts"], report["sweep"]["all_texts"]) == (3, 3)
    assert len(report["sweep"]["ece"]) == 3
    assert len(report["sweep"]["ece"][1]) == len(report["sweep"]["distances"]) == 3  # samples
    assert report["versions"]["transformers"].startswith("5")


def test_pictures_are_valid_image_files(small_run):
    _, folder = small_run
    from matplotlib.image import imread

    for name in ("reliability.png", "samples.png"):
        pixels = imread(folder / "out" / name)
        assert pixels.shape[1] > 1000
        assert pixels.std() > 0.1


EMPTY = "it is empty; pass a value or leave the option out"
USAGE = [
    (["evalute"], "No such command 'evalute'."),
    (["evaluate", "--num-sample", "3"], "No such option: --num-sample"),
    (
        ["evaluate", "--model", "a", "--ensemble", "b", "c"],
        "Got unexpected extra argument(s) (c); quote a value with spaces, and repeat an option for each value",
    ),
    (["predict", "--input", "-", "--input-format", ""], f"Invalid value for '--input-format': {EMPTY}"),
    (["evaluate", "--num-samples", "-1"], "Invalid value for '--num-samples': "),
    (["evaluate", "--target-error", "5"], "Invalid value for '--target-error': 5.0; it must lie between 0 and 1"),
    *(
        (["evaluate", option, value], f"Invalid value for '{option}': {EMPTY}")
        for option in ("--model", "--dataset", "--config", "--split", "--text-column", "--label-column", "--output")
        for value in ("", " ")
    ),
    *(
        (["evaluate", "--device", value], f"Invalid value for '--device': {value!r}; this machine has only cpu")
        for value in ("", "-1", "nonsense", "meta", "cuda", "cuda:99")  # conftest hides all GPUs
    ),
    *(
        (["evaluate", "--dtype", value], f"Invalid value for '--dtype': {value!r}; it must be one of float32, bfloat16")
        for value in ("", "float17", "int8", "float64")
    ),
]


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_usage_errors_are_one_line_and_name_the_option(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bayesian-text-classification", *arguments])
    with pytest.raises(SystemExit, match="2"):
        app.run()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "missing.csv"], "missing.csv: no such file"),
        (["--model", "no-such-folder/model"], "cannot load 'no-such-folder/model': "),
        (["--split", "test"], "--split test is for datasets on the Hub, and "),
        (
            ["--dataset", "d.csv"],
            "d.csv, row 1 (the first text is row 1): label 'maybe' is not one of the model's labels 0 (",
        ),
    ],
)
def test_bad_input_gives_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    Path("d.csv").write_text("text,label\nfine,maybe\n")
    assert error_line(asked("evaluate", *arguments)).startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--dataset", "none.csv"],
        ["evaluate", "--calibration-dataset", "none.jsonl"],
        ["evaluate", "--ood-dataset", "folder/none.parquet"],
        ["calibrate", "--output", "out", "--dataset", "none.tsv.gz"],
        ["predict", "--input", "none.txt", "--output", "a.csv"],
        ["predict", "--input", "*.csv", "--output", "a.csv"],
        ["rank", "--input", "none.CSV", "--output", "a.csv"],
        ["push", "pipeline", "me/mine", "--calibration-dataset", "none.csv"],
    ],
)
def test_a_missing_file_is_reported_before_the_libraries_are_imported(arguments):
    *_, name = [argument for argument in arguments if "none" in argument or "*" in argument]
    done = run(*arguments, before="import sys; sys.modules['transformers'] = sys.modules['torch'] = None; ")
    assert error_line(done) == f"{name}: no such file"


@pytest.mark.parametrize("address", ["https://example.com/a.csv", "hf://datasets/me/mine/a.csv"])
def test_addresses_are_refused_with_what_works(address):
    words = f"{address} is an address; pass a local file, or the id of a dataset on the Hub (user/name)"
    assert error_line(asked("evaluate", "--dataset", address)) == words


@pytest.mark.parametrize("option", ["--model", "--dataset"])
def test_an_unreachable_hub_gives_one_line(option, tmp_path):
    """huggingface_hub retries five times with increasing delays, and logs each try."""
    hasty = "import time; time.sleep = lambda seconds: None; "
    done = run("evaluate", option, "some/where", "--output", tmp_path / "out", before=hasty,
               HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")  # fmt: skip
    assert re.match("cannot load 'some/where': .*connect|dataset 'some/where' .*reach", error_line(done))


def test_an_unwritable_output_is_refused_before_the_work(tmp_path):
    (tmp_path / "out").write_text("")
    message = error_line(asked("evaluate", "--output", tmp_path / "out"))
    assert message == f"cannot write to --output {tmp_path / 'out'}: {tmp_path / 'out'} is a file; choose a folder"
    message = error_line(asked("evaluate", "--output", "/proc/self"))  # not even root can create files in this folder
    assert message.startswith("cannot write to --output /proc/self: ")


def test_a_run_that_fails_leaves_no_folder(tmp_path):
    error_line(asked("evaluate", "--dataset", tmp_path / "none.csv", "--output", tmp_path / "out" / "deep"))
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_package():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"bayesian-text-classification {__version__}\n")


def test_an_unwritable_report_gives_one_line_after_the_table(tmp_path):
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    (tmp_path / "out" / "report.json").write_text("{}")  # of an earlier report
    (tmp_path / "d.csv").write_text("text,label\nfine,1\n")
    done = asked("evaluate", "--dataset", tmp_path / "d.csv", "--num-samples", 1, "--output", tmp_path / "out")
    *_, error = done.stderr.splitlines()
    assert (done.returncode, error) == (2, f"error: cannot write to {tmp_path / 'out'}: Is a directory")
    assert "1 text, 1 sample" in done.stdout


def test_a_failing_comparison_gives_one_line(tmp_path, tiny, tokenizer, saved_to):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<odd>"]})
    saved_to(tmp_path / "m", tiny("bert"))
    (tmp_path / "d.csv").write_text("text,label\nan <odd> film,1\n")
    done = asked("evaluate", "--model", tmp_path / "m", "--dataset", tmp_path / "d.csv", "--output", tmp_path / "out")
    assert error_line(done) == "input 0: the model cannot run on it: index out of range in self"


TEXTS = ["a wonderful film", "dull", "I would have to say that it has its moments, and hours", 'so, "so"']


@pytest.mark.parametrize(
    "ending", ["csv", *(pytest.param(one, marks=pytest.mark.slow) for one in ("jsonl", "parquet"))]
)
def test_rank_orders_rows_by_the_pipelines_uncertainty(ending, tmp_path, classifier):
    rows = pandas.DataFrame({"id": [10, 11, 12, 13], "sentence": TEXTS, "note": ["x", "ü", "", "\n"]})
    rows.to_csv(tmp_path / "in.csv", index=False)
    done = asked("rank", "--input", tmp_path / "in.csv", "--output", tmp_path / f"out.{ending}")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{tmp_path / f'out.{ending}'}\n")
    read = {
        "csv": pandas.read_csv,
        "jsonl": lambda path: pandas.read_json(path, lines=True),
        "parquet": pandas.read_parquet,
    }
    found = read[ending](tmp_path / f"out.{ending}")
    assert list(found.columns) == ["rank", "score", "id", "sentence", "note"]
    expected = [result["mutual_information"] for result in classifier(TEXTS)]
    order = sorted(range(4), key=lambda i: -expected[i])
    assert found["rank"].tolist() == [1, 2, 3, 4]
    assert found["sentence"].tolist() == [TEXTS[i] for i in order]
    assert found["score"].tolist() == pytest.approx([expected[i] for i in order], abs=1e-5)


def test_rank_refuses_bad_input_in_one_line(tmp_path, monkeypatch, capsys, loud_libraries):
    (tmp_path / "in.csv").write_text("text\nfine\n")
    (tmp_path / "scored.csv").write_text("text,score\nfine,1\n")
    given = ["rank", "--input", tmp_path / "in.csv", "--output"]
    for arguments, words in (
        ([*given, tmp_path / "out.xls"], "cannot write .xls files; use .csv, .jsonl, .parquet"),
        ([*given, tmp_path / "no" / "out.csv"], "cannot be written: No such file or directory"),
        ([*given, tmp_path / "out.csv", "--heuristic", "bold"], "'bold' is not one of 'bald', 'entropy', 'margin'"),
        (["rank", "--input", tmp_path / "no.csv", "--output", tmp_path / "out.csv"], "no.csv: no such file"),
        (["rank", "--input", tmp_path / "scored.csv", "--output", tmp_path / "o.csv"], "already has a column 'score'"),
        (["rank", "--input", tmp_path / "in.csv"], "Missing option '--output'"),
        ([*given, tmp_path / "in.csv"], "in.csv is the input file; choose another output file"),
    ):
        monkeypatch.setattr(sys, "argv", ["bayesian-text-classification", *map(str, arguments)])
        with pytest.raises(SystemExit, match="2"):
            app.run()
        out, (line,) = (text.splitlines() for text in capsys.readouterr())
        assert not out and line.startswith("error: ") and words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "scored.csv"]


@pytest.mark.parametrize("moment", ["torch", pytest.param("matplotlib", marks=pytest.mark.slow), "baal"])
def test_ctrl_c_gives_one_line_at_any_moment(moment, tmp_path):
    """While the package is imported, while the command imports its dependencies, and while it samples."""
    (tmp_path / f"{moment}.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    (tmp_path / "d.csv").write_text("text,label\nfine,1\n")
    process = subprocess.Popen(
        [COMMAND, "evaluate", "--dataset", tmp_path / "d.csv", "--output", tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # the test process may ignore SIGINT
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=50)
    *before, last = err.splitlines()
    assert (process.returncode, last) == (130, "interrupted")
    # Sampling begins after the ordinary model's results.
    assert [line.partition(":")[0] for line in before] == ["Frequentist", "Frequentist + temperature"] * (
        moment == "baal"
    )


def test_the_command_ignores_an_unwritable_evaluate_cache(tmp_path):
    (tmp_path / "file").touch()
    done = started("--help", HF_HOME=str(tmp_path / "file" / "home"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_without_dropout_is_evaluated_without_samples(tmp_path, tiny, saved_to):
    saved_to(tmp_path / "m", tiny("llama", attention_dropout=0.0))
    rows = "".join(f"film {i},LABEL_{i % 2}\n" for i in range(60))
    (tmp_path / "d.csv").write_text(f"text,label\n{rows}")
    data = ("--model", tmp_path / "m", "--dataset", tmp_path / "d.csv")
    done = asked("evaluate", *data, "--target-error", 0.97, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for words in ("60 texts\n", "Recommended: ", "In Python:", "below 97%", "Nothing was sampled: the model has no"):
        assert words in done.stdout
    assert json.loads((tmp_path / "out" / "report.json").read_text())["settings"]["num_samples"] == 0
    (tmp_path / "t.csv").write_text("text\nfilm\n")
    for command in ("rank", "predict"):
        refused = asked(command, *data[:2], "--input", tmp_path / "t.csv", "--output", tmp_path / "o.csv")
        assert "has no active dropout" in error_line(refused)
    assert not (tmp_path / "o.csv").exists()
    predicted = asked("predict", *data[:2], "--num-samples", 0, "A film.")
    assert predicted.returncode == 0 and "LABEL_" in predicted.stdout


def test_help_lists_the_commands():
    done = started("--help")
    assert done.returncode == 0
    assert "evaluate" in done.stdout


def test_predict_shows_the_defaults_of_the_pipeline():
    shown = {one.name: str(one.show_default) for one in get_command(app.app).commands["predict"].params}
    defaults = Options()
    assert defaults.tolerance is None and defaults.threshold is None
    for name, value in (
        ("num_samples", defaults.num_samples), ("masks", defaults.masks), ("tolerance", "none"), ("threshold", "none")
    ):  # fmt: skip
        assert shown[name].startswith(f"{value}, ") and shown[name].endswith("or the value saved with the model")


def test_no_arguments_show_the_help():
    done = started()
    assert done.returncode == 2
    assert "error" not in done.stderr.lower().split()


def test_rank_keeps_file_modes_and_follows_symbolic_links(tmp_path, monkeypatch, loud_libraries):
    """If other users cannot read the file, or a link was replaced, later steps of a workflow fail."""
    (tmp_path / "in.csv").write_text("text\nfine\n")
    real, link, new = tmp_path / "real.csv", tmp_path / "link.csv", tmp_path / "new.csv"
    real.write_text("before\n")
    real.chmod(0o640)
    link.symlink_to(real)
    before = os.umask(0o027)
    try:
        for output in (link, new):
            arguments = ["rank", "--input", tmp_path / "in.csv", "--output", output, "--num-samples", "2"]
            monkeypatch.setattr(sys, "argv", ["bayesian-text-classification", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                app.run()
            assert not ended.value.code
    finally:
        os.umask(before)
    assert link.is_symlink() and real.read_text().startswith("rank,score,text")
    assert [path.stat().st_mode & 0o777 for path in (real, new)] == [0o640, 0o640]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "link.csv", "new.csv", "real.csv"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("choose with text_column=)", "choose with --text-column)"),
        ("resume=True continues it", "--resume continues it"),
        ("num_samples=-1; it must be", "--num-samples -1; it must be"),
        ("use prefix='mine_'", "use --prefix 'mine_'"),
        ("my_seed=3 and seeds=4", "my_seed=3 and seeds=4"),
        ("num_samples=1 or more, or prefix=None", "--num-samples 1 or more, or no --prefix"),
        ("data/seed=1/part.csv: no such file", "data/seed=1/part.csv: no such file"),
        ("label 'a seed=3 b' is not \"seed=3\"", "label 'a seed=3 b' is not \"seed=3\""),
        ("the model's seed=3 isn't 'seed=4'", "the model's --seed 3 isn't 'seed=4'"),
    ],
)
def test_argument_names_are_shown_as_flags(said, shown):
    assert with_flags(said, ["text_column", "resume", "num_samples", "prefix", "seed"]) == shown


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("call classifier.learn_scope(texts), or pass", "learn it with calibrate --scope-dataset, or pass"),
        (
            "only sampled scores are; call classifier.calibrate(texts, labels, num_samples=0)",
            "only sampled scores are; run calibrate --num-samples 0",
        ),
        (
            "call classifier.conformalize(texts, labels, score='aps', num_samples=2)",
            "fit them with calibrate --coverage --coverage-score aps --num-samples 2",
        ),
        ("call classifier.conformalize with more, or", "fit them on more texts with calibrate --coverage, or"),
        ("it must lie between 0 and 1 (try 0.95), or be None", "it must lie between 0 and 1 (try 0.95)"),
        ("call classifier.push_to_hub(repo_id)", "call classifier.push_to_hub(repo_id)"),
    ],
)
def test_calls_of_a_classifier_become_commands(message, shown):
    assert for_shell(message) == shown
