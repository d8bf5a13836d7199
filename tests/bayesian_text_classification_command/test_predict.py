"""`bayesian-text-classification predict`: its arguments, output and files, with valid and invalid input."""

import gzip
import io
import json
import lzma
import os
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import commands
import forks
import pyarrow
import pyarrow.parquet
import pytest
import tables
from bayesian_text_classification.scale import cluster
from bayesian_text_classification_command import predict
from commands import refused

pytestmark = pytest.mark.usefixtures("loud_libraries")
COMMAND = str(Path(sysconfig.get_path("scripts")) / "bayesian-text-classification")


def run(*arguments, **options):
    """Run the command in a separate process."""
    return subprocess.run([COMMAND, "predict", *map(str, arguments)], capture_output=True, check=False, **options)


def asked(*arguments):
    """Run the command in this process."""
    return commands.asked("predict", *arguments)


@pytest.mark.filterwarnings("always::UserWarning")
def test_warnings_are_one_line(tmp_path, classifier):
    ours = classifier.uncalibrated()
    ours.temperature = 1.3
    ours.save_pretrained(tmp_path)
    done = asked("A film.", "--num-samples", 0, "--model", tmp_path)
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"warning: ordinary scores \(--num-samples 0\) are not calibrated, only sampled scores are; to calibrate them "
        r"too, run calibrate --num-samples 0",
        line,
    )


def test_long_texts_are_truncated_without_samples():
    done = asked("good " * 700, "--num-samples", 0)
    assert done.exit_code == 0 and "POSITIVE" in done.stdout


def test_file_names_that_are_too_long_give_one_line(tmp_path):
    name = "x" * 300 + ".csv"
    assert refused(asked("--input", name, "--output", tmp_path / "a.csv")) == f"{name}: no such file"
    (tmp_path / "mine.txt").write_text("good\n")
    line = refused(asked("--input", tmp_path / "mine.txt", "--output", tmp_path / name, "--num-samples", 1))
    assert line == f"{tmp_path / name} cannot be written: File name too long"


def test_texts_are_classified_in_a_table():
    done = asked("A wonderful film.", "<b>[red]Dull[/red]</b>\x1b[31m", "--num-samples", 10)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("A wonderful film." in line and "POSITIVE" in line for line in lines)
    assert any(r"<b>[red]Dull[/red]</b>\x1b[31m" in line for line in lines) and "\x1b" not in done.stdout


def test_predict_reads_stdin_and_writes_stdout():
    done = run("--input", "-", "--output", "-", "--num-samples", 2, input=b"a wonderful film\n\ndull\n")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["text"], row["label"], row["error"]) for row in found] == [
        ("a wonderful film", "POSITIVE", None),
        ("", None, "the text is empty"),
        ("dull", "NEGATIVE", None),
    ]
    assert done.returncode == 3
    assert done.stderr.decode() == "3 rows, 1 of them with an error: the text is empty\n"


def test_empty_stdin_gives_empty_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    done = asked("--input", "-", "--output", "-", "--output-format", "csv", "--num-samples", 2)
    assert done.exit_code == 0 and done.stdout.startswith("text,label,score,")
    assert len(done.stdout.splitlines()) == 1 and done.stderr == "0 rows\n"


@pytest.mark.parametrize(
    ("stdout", "code", "said"),
    [
        ("reader, stdout = os.pipe(); os.close(reader)", 141, []),  # as after `| head`
        ("stdout = os.open('/dev/full', os.O_WRONLY)", 2, ["error: cannot write stdout: No space left on device"]),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is full is Linux's")
def test_a_stdout_that_takes_nothing_ends_the_run(stdout, code, said, tmp_path):
    (tmp_path / "mine.txt").write_text("good\n" * 20)
    arguments = ("predict", "--input", tmp_path / "mine.txt", "--output", "-", "--num-samples", "0")
    done = forks.command(*arguments, before=f"import os; {stdout}; os.dup2(stdout, 1); ", **os.environ)
    assert done.returncode == code and done.stderr.splitlines() == said, done


# Bad rows of every kind, by file, with the expected value of the column `error`.
BAD_ROWS = {
    "csv": {
        b'""': "the text is empty",
        b'"  \t "': "the text is empty",
        b'"' + b"long " * 2_000_000 + b'"': "the text has 10,000,000 characters; the limit is 1,000,000",
        b"caf\xe9": "is not UTF-8 (byte 0xe9 at character 4)",
        b"a,b": "has 2 fields but the header has 1; the rest is 'b'",
        b'"a" b': "is not valid csv: ',' expected after '\"'; it begins '\"a\" b\\n'",
    },
    "jsonl": {
        b'{"text": null}': "the text is missing",
        b"{}": "the text is missing",
        b'{"text": 5}': "unreadable: 5 (int)",
        b'{"text": ["a"]}': "unreadable: ['a'] (list)",
        b'{"text": "a"': "is not valid JSON: Expecting ',' delimiter at character 14; it begins '{\"text\": \"a\"\\n'",
        b'"a"': "is not a JSON object; it begins '\"a\"\\n'",
        b'{"text": "a", "text": "b"}': "cannot be read: duplicate column name 'text'; names must be unique; it",
        b'{"text": "\\ud83d"}': "unreadable:",
        b"[" * 100_000: "is nested too deeply; it begins '[[[",
        b'{"text": "caf\xe9"}': "is not UTF-8 (byte 0xe9 at character 14)",
    },
    "txt": {b"": "the text is empty", b"\xff": "is not UTF-8 (byte 0xff at character 1)"},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_get_an_error_and_do_not_stop_the_run(kind, tmp_path):
    bad, good = BAD_ROWS[kind], b'{"text": "good film"}' if kind == "jsonl" else b"good film"
    lines = [b"text"] * (kind == "csv") + [line for row in bad for line in (row, good)]
    path, output = tmp_path / f"mine.{kind}", tmp_path / "answers.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    done = asked("--input", path, "--output", output, "--num-samples", 0)
    assert done.exit_code == 3, done
    assert done.stderr.startswith(f"{2 * len(bad)} rows, {len(bad)} of them with an error: ")
    assert done.stdout == f"{output}\n"
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 2 * len(bad)
    for row, words in zip(rows[::2], bad.values(), strict=True):
        assert row["error"].startswith(words), row["error"]
        assert row["label"] is None and row["score"] is None
    assert {(row["text"], row["label"], row["error"]) for row in rows[1::2]} == {("good film", "POSITIVE", None)}


def test_nulls_in_parquet_files_get_an_error(tmp_path):
    table = pyarrow.table(
        {"id": [1, 2, 3], "text": ["good film", None, ""], "when": pyarrow.array([0, 1, 2], "date32")}
    )
    pyarrow.parquet.write_table(table, tmp_path / "mine.parquet")
    done = asked("--input", tmp_path / "mine.parquet", "--output", tmp_path / "a.parquet", "--num-samples", 0)
    assert done.exit_code == 3
    found = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert found.select(["id", "text", "when"]).equals(table)
    assert found["label"].to_pylist() == ["POSITIVE", None, None]
    assert found["error"].to_pylist() == [None, "the text is missing", "the text is empty"]


@pytest.mark.parametrize(("ending", "pack", "unpack"), [(".gz", gzip.compress, gzip.decompress),
                                                        (".xz", lzma.compress, lzma.decompress)])  # fmt: skip
def test_compressed_input_and_output_are_supported(tmp_path, ending, pack, unpack):
    (tmp_path / f"mine.csv{ending}").write_bytes(pack(b"id,text\n7,good film\n"))
    output = tmp_path / f"answers.tsv{ending}"
    done = asked("--input", tmp_path / f"mine.csv{ending}", "--output", output, "--num-samples", 0)
    assert refused(done).startswith("cells of ") and "may contain tabs" in done.stderr
    output = tmp_path / f"answers.csv{ending}"
    assert asked("--input", tmp_path / f"mine.csv{ending}", "--output", output, "--num-samples", 0).exit_code == 0
    assert unpack(output.read_bytes()).splitlines()[1].startswith(b"7,good film,POSITIVE,0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "pass texts or --input"),
        (["a", "--input", "mine.csv"], "pass texts or --input, not both"),
        (["--input", "mine.csv"], "--input needs --output: a file, or - for stdout"),
        (["--input", "mine.csv", "--output", "a.doc"], "a.doc: unknown file extension; use .csv, .tsv, .jsonl,"),
        (["--input", "mine.csv", "--output", "a.txt"], "a.txt: unknown file extension; use .csv, .tsv, .jsonl,"),
        (["--input", "mine.csv", "--output", "-", "--resume"], "--resume needs an output file"),
        (["--input", "mine.csv", "--output", "-", "--output-format", "parquet"], "a parquet file cannot be written to"),
        (["--input", "mine.csv", "--output", "a.parquet.gz"], "a.parquet.gz: parquet files are compressed internally"),
        (["--input", "mine.csv", "--output", "a.csv", "--input-format", "xls"], "'xls' is not a format; it must be"),
        (["--input", "none.csv", "--output", "a.csv"], "none.csv: no such file"),
        (["--input", "mine.csv", "--output", "none/a.csv"], "none/a.csv cannot be written: No such file or directory"),
        (["--input", "mine.csv", "--output", "a.csv", "--text-column", "x"], "mine.csv has no column 'x'; its columns"),
        (["--input", "mine.csv", "--output", "mine.csv"], "mine.csv is the input file"),
        (["--input", "mine.csv", "--output", "a.csv", "--tolerance", "-1"], "--tolerance -1.0"),
        (["--input", "mine.csv", "--output", "a.csv", "--masks", "none"], "--masks 'none'"),
        (["--input", "mine.csv", "--output", "a.csv", "--model", "./none"], "./none: no such folder"),
        (["a", "--tolerance", "nan"], "--tolerance nan"),
        (["good film", " "], "text 2: the text is empty"),
        (["a", "--output-format", "csv"], "--output-format needs --input"),
        (["a", "--input-format", "csv"], "--input-format needs --input"),
        (["a", "--output", "a.csv"], "--output needs --input"),
        (["a", "--prefix", "x"], "--prefix needs --input"),
        (["a", "--workers", "2"], "--workers, --cpus and --gpus need --ray"),
        (["--input", "-", "--output", "a.csv", "--resume"], "--resume and --ray need a file"),
        (["--input", "-", "--output", "a.csv", "--ray", "local"], "--resume and --ray need a file"),
        (["--input", "mine.csv", "--output", "a.csv", "--ray", "127.0.0.1:1"], "no Ray cluster at '127.0.0.1:1'"),
        (["--input", "mine.csv", "--output", "a.csv", "--ray", "ray://[::1]:1"], "no Ray cluster at 'ray://[::1]:1'"),
        (["--input", "mine.csv", "--output", "a.csv", "--ray", "x:99999"], "no Ray cluster at 'x:99999': nothing"),
        (["--input", "mine.csv", "--output", "a.csv", "--ray", "nonsense"], "no Ray cluster at 'nonsense': "),
    ],
)  # fmt: skip
def test_refusals_are_one_line_and_change_nothing(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("mine.csv").write_text("text\ngood film\n")
    done = asked(*arguments, "--num-samples", 2)
    assert refused(done).startswith(words)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]
    assert Path("mine.csv").read_text() == "text\ngood film\n"


def test_an_empty_prefix_means_no_prefix(tmp_path):
    """For example from an unset variable in a script."""
    (tmp_path / "mine.txt").write_text("good film\n")
    done = asked("--input", tmp_path / "mine.txt", "--output", tmp_path / "a.csv", "--prefix", "", "--num-samples", 0)
    assert done.exit_code == 0 and list(tables.read(tmp_path / "a.csv")[0])[:2] == ["text", "label"]


@pytest.mark.parametrize(("name", "output"), [("stdin", "a.csv"), ("stdout", "-")])
def test_closed_streams_are_reported(name, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("good film\n")
    read = "-" if name == "stdin" else "mine.txt"
    close = f"import sys; sys.{name} = None; "  # Python sets it to None if the caller closed it
    code, out, err = forks.command("predict", "--input", read, "--output", output, before=close, **os.environ)
    assert (code, out, err) == (2, "", f"error: {name} is closed\n")


def test_missing_ray_gives_one_line_with_the_install_command(tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("good\n")
    monkeypatch.setitem(sys.modules, "ray", None)
    done = asked("--input", tmp_path / "mine.txt", "--output", tmp_path / "a.csv", "--ray", "local")
    assert refused(done) == "this needs Ray: pip install 'ray[data]'"


@pytest.mark.parametrize(
    ("arguments", "address"),
    [(["--ray"], "auto"), (["--ray", "--workers", "2"], "auto"), (["--ray", "a:1"], "a:1"), (["--ray=a:1"], "a:1")],
)
def test_ray_without_an_address_uses_the_running_cluster(arguments, address, tmp_path, monkeypatch):
    def connect(given):
        raise ValueError(f"asked for {given}")

    monkeypatch.setattr(cluster, "connect", connect)
    (tmp_path / "mine.txt").write_text("good\n")
    done = asked("--input", tmp_path / "mine.txt", "--output", tmp_path / "a.csv", *arguments)
    assert refused(done) == f"asked for {address}"


def test_a_text_may_look_like_an_option(monkeypatch):
    heard = []
    monkeypatch.setattr(predict, "_print_answers", lambda texts, answers: heard.extend(texts))
    assert asked("--num-samples", 1, "--", "--ray", "-x").exit_code == 0 and heard == ["--ray", "-x"]


def test_ray_address_is_read_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    (tmp_path / "mine.txt").write_text("good\n")
    done = asked("--input", tmp_path / "mine.txt", "--output", tmp_path / "a.csv", "--ray")
    assert refused(done).startswith("no Ray cluster at '127.0.0.1:1': nothing answers there")


@pytest.mark.skipif(os.name != "posix", reason="signals of another system")
@pytest.mark.parametrize(("name", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_interrupts_work_while_connecting_to_a_cluster(name, code, word):
    """Ray's own stderr output is suppressed while connecting; ours must still appear."""
    program = f"""if True:
        import os, signal, sys, types
        import bayesian_text_classification_command as command
        from bayesian_text_classification.scale.cluster import connect
        from bayesian_text_classification_command import app
        def init(**options):
            print("a line of Ray's", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.{name})
            signal.pause()
        sys.modules["ray"] = types.SimpleNamespace(init=init)
        app.run = lambda: connect("local")
        command.main()
    """
    done = forks.run(textwrap.dedent(program), **os.environ)
    assert (done.returncode, done.stderr) == (code, f"{word}\n")


def test_columns_depend_on_threshold_and_samples(tmp_path):
    (tmp_path / "mine.txt").write_text("a wonderful film\nSo bad that it is almost good.\n")
    common = ("--input", tmp_path / "mine.txt", "--output")
    done = asked(*common, tmp_path / "a.csv", "--threshold", 0.9, "--num-samples", 20)
    assert done.exit_code == 0
    assert "2 rows, 1 of them without a label\n" in done.stderr
    sure, unsure = tables.read(tmp_path / "a.csv")
    assert (sure["label"], sure["abstained"], sure["reason"]) == ("POSITIVE", "False", "")
    assert (unsure["label"], unsure["abstained"]) == ("", "True") and unsure["reason"] and unsure["candidate"]
    assert asked(*common, tmp_path / "b.csv", "--num-samples", 0, "--prefix", "stock_").exit_code == 0
    assert list(tables.read(tmp_path / "b.csv")[0]) == ["text", "stock_label", "stock_score", "stock_error"]


def test_an_interrupted_run_says_how_to_resume(tmp_path):
    path, output = tmp_path / "mine.txt", tmp_path / "answers.csv"
    path.write_text("".join(f"film number {i} was dull\n" for i in range(6_000)))
    command = [COMMAND, "predict", "--input", path, "--output", output, "--num-samples", "10", "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    progress = tmp_path / "answers.csv.progress"
    while not progress.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate()
    assert process.returncode == 130 and out == b""
    assert said.endswith(b"interrupted; run the same command with --resume to continue\n")
    assert not output.exists() and (tmp_path / "answers.csv.partial").exists()
    left = refused(asked("--input", path, "--output", output, "--num-samples", 10))
    assert "answers.csv.partial is left from an earlier run; --resume continues it" in left


def test_messages_contain_no_texts(tmp_path):
    secret = "a secret that nobody may read"
    (tmp_path / "mine.jsonl").write_text(
        f'{{"text": ["{secret}"]}}\n{{"text": "{secret}", "x"\n{{"text": "{secret}"}}\n'
    )
    done = asked("--input", tmp_path / "mine.jsonl", "--output", tmp_path / "a.jsonl", "--num-samples", 2)
    assert done.exit_code == 3 and secret not in done
