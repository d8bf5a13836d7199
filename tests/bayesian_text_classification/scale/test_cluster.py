"""A Ray cluster gives the answers of a single process for any number of workers, even if one is killed."""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tables
from bayesian_text_classification.files.journal import JournalError
from bayesian_text_classification.files.readers import WINDOW
from bayesian_text_classification.files.sources import SourceError, source_of
from bayesian_text_classification.loading.classifiers import load_classifier
from bayesian_text_classification.metric import load_metric_module
from bayesian_text_classification.pipeline.calibration import Calibration
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
from bayesian_text_classification.scale.cluster import Cluster
from bayesian_text_classification.scale.predict import predict_dataset, predict_file

pytestmark = pytest.mark.slow  # starts a cluster, and workers that import torch for each test
ray = pytest.importorskip("ray")

COMMAND = Path(sysconfig.get_path("scripts")) / "bayesian-text-classification"
ROWS = 2 * WINDOW + 17
OPTIONS = {"num_samples": 10, "seed": 3}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Start a cluster with four CPUs, whatever the machine has."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def rows():
    """Texts of different lengths with an id and a true label. Some are bad."""
    draw = np.random.default_rng(0)
    words = ["a", "the", "good", "bad", "film", "plot", "long", "dull", "joy", "bore", "never", "quite"]
    texts = [" ".join(draw.choice(words, draw.integers(1, 14))) for _ in range(ROWS)]
    for i in (0, 5, WINDOW - 1, ROWS - 1):
        texts[i] = ""
    return [{"id": i, "text": text, "truth": int(draw.integers(2))} for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def folder(tiny, saved_to, tmp_path_factory):
    """The folder of a tiny model."""
    return str(saved_to(tmp_path_factory.mktemp("model"), tiny("bert", num_labels=2)))


@pytest.fixture(scope="module")
def alone(folder, rows):
    """The pipeline's own answers by row id, without bad rows."""
    good = [row for row in rows if row["text"]]
    answers = load_classifier(folder)([row["text"] for row in good], **OPTIONS)
    return dict(zip((row["id"] for row in good), answers, strict=True))


def assert_same(found, rows, alone):
    """Check that each row appears once, with the answers of the pipeline."""
    assert Counter(row["id"] for row in found) == Counter(range(ROWS))
    for row in found:
        assert (row["text"], row["truth"]) == (rows[row["id"]]["text"], rows[row["id"]]["truth"])
        expected = alone.get(row["id"])
        if expected is None:
            assert row["error"] == "the text is empty" and row["label"] is None
            continue
        assert row["error"] is None
        assert row["label"] == expected["label"] or abs(expected["score"] - 0.5) < 1e-5
        for key in ("score", "score_std", "standard_error", "predictive_entropy", "mutual_information"):
            assert row[key] == pytest.approx(expected[key], abs=1e-5), key


def assert_alike(path, other):
    """Compare the cells of two csv files, numbers within 1e-5: workers may use other numbers of threads."""

    def cells(path):
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def number(cell):
        try:
            return pytest.approx(float(cell), abs=1e-5)
        except ValueError:
            return cell

    found, expected = ([[number(cell) for cell in row] for row in cells(path)] for path in (path, other))
    for row, known in zip(found, expected, strict=True):
        assert [getattr(cell, "expected", cell) for cell in row] == known


def assert_workers_agree(classifier, folder, path, kind=".csv", **options):
    """Check that workers write the cells of one process for this file, to the file "many"."""
    one, many = path.with_name(f"one{kind}"), path.with_name(f"many{kind}")
    found = predict_file(classifier, path, many, cluster=Cluster(folder), **options)
    assert found == predict_file(classifier, path, one, **options)
    assert_alike(many, one)
    return found


@pytest.mark.parametrize(("workers", "blocks"), [(1, 1), (2, 7)])
def test_each_row_appears_once_with_the_answers_of_one_process(workers, blocks, folder, rows, alone):
    dataset = ray.data.from_items(rows, override_num_blocks=blocks)
    assert_same(predict_dataset(dataset, folder, workers=workers, **OPTIONS).take_all(), rows, alone)


def workers_of_ray():
    """The process ids of Ray Data's actors."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::MapWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # the process has just ended
            pass
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to find the workers")
def test_killed_worker_loses_no_rows(folder, rows, alone):
    dataset = ray.data.from_items(rows, override_num_blocks=12)
    found, killed = [], []
    for batch in predict_dataset(dataset, folder, workers=2, **OPTIONS).iter_batches(
        batch_size=None, batch_format="pyarrow", prefetch_batches=0
    ):
        found += batch.to_pylist()
        if not killed:
            killed = workers_of_ray()[:1]
            os.kill(killed[0], signal.SIGKILL)
            assert len(found) < ROWS
    assert killed
    assert_same(found, rows, alone)


def test_merged_bin_sums_of_shards_give_the_error_of_the_whole(folder, rows):
    dataset = ray.data.from_items(rows, override_num_blocks=5)
    ece = load_metric_module()

    def sums(row_list):
        good = [row for row in row_list if row["error"] is None]
        labels = ["LABEL_0", "LABEL_1"]
        positive = [row["score"] if row["label"] == labels[1] else 1 - row["score"] for row in good]
        both = np.stack([1 - np.array(positive), positive], 1)
        return ece.bin_sums(both, [row["truth"] for row in good])

    shards = [shard.take_all() for shard in predict_dataset(dataset, folder, workers=2, **OPTIONS).split(2)]
    assert sum(map(len, shards)) == ROWS and all(shards)
    whole = sorted((row for shard in shards for row in shard), key=lambda row: row["id"])
    merged = sum(sums(shard) for shard in shards)
    assert ece.calibration_error(merged) == ece.calibration_error(sums(whole)) > 0


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_files_match_those_written_by_one_process(kind, folder, rows, tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / f"mine{kind}"
    if kind == ".csv":
        tables.write(path, ["id", "text", "truth"], [row.values() for row in rows])
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    classifier = load_classifier(folder)
    one, many = tmp_path / f"one{kind}", tmp_path / f"many{kind}"
    expected = predict_file(classifier, source_of(str(path)), one, kind, **OPTIONS)
    found = predict_file(classifier, source_of(str(path)), many, kind, cluster=Cluster(folder, workers=2), **OPTIONS)
    assert found == expected and found.errors == {"the text is empty": 4}
    a, b = (list(source_rows(path)) for path in (one, many))
    assert len(a) == len(b) == ROWS
    for left, right in zip(a, b, strict=True):
        assert {key: left[key] for key in ("id", "text", "truth", "label", "error")} == {
            key: right[key] for key in ("id", "text", "truth", "label", "error")
        }
        if left["score"] not in (None, ""):
            assert float(left["score"]) == pytest.approx(float(right["score"]), abs=1e-5)


def test_workers_load_an_ensemble(folder, tiny, saved_to, tmp_path, monkeypatch):
    saved_to(tmp_path / "other", tiny("distilbert", num_labels=2))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(f"good film {i}" for i in range(40)) + "\n")
    models = [folder, "other"]  # workers run elsewhere
    classifier, scores = load_classifier(models), []
    for name, cluster in (("one.csv", None), ("many.csv", Cluster(models, workers=2))):
        predict_file(classifier, source_of("texts.csv"), tmp_path / name, cluster=cluster)
        scores.append([float(row["score"]) for row in source_rows(tmp_path / name)])
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="the workers load a different model"):
        predict_file(classifier, source_of("texts.csv"), tmp_path / "c.csv", cluster=Cluster(folder))


def source_rows(path):
    """Yield all rows of a file."""
    from bayesian_text_classification.files.sources import Reading

    for window in Reading(source_of(str(path))).windows():
        yield from window.as_dicts()


def test_run_stopped_inside_a_window_resumes_at_the_next_row(folder, tmp_path):
    path = tmp_path / "wide.csv"  # so wide that Ray splits windows into several blocks
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", "more"), *((i, "good film", "x" * 700) for i in range(3_000))])
    classifier, seen = load_classifier(folder), []

    def stop(rows, done):
        seen.append(rows)
        if len(seen) == 2:
            raise KeyboardInterrupt

    arguments = {"cluster": Cluster(folder), "num_samples": 2}
    with pytest.raises(KeyboardInterrupt):
        predict_file(classifier, source_of(str(path)), tmp_path / "a.csv", ".csv", progress=stop, **arguments)
    assert sum(seen) % WINDOW
    with pytest.raises(JournalError, match=r"a different workers .*dtype='bfloat16'"):
        other = {**arguments, "cluster": Cluster(folder, dtype="bfloat16")}
        predict_file(classifier, source_of(str(path)), tmp_path / "a.csv", ".csv", resume=True, **other)
    found = predict_file(classifier, source_of(str(path)), tmp_path / "a.csv", ".csv", resume=True, **arguments)
    assert found.rows == 3_000
    assert [row["id"] for row in source_rows(tmp_path / "a.csv")] == [str(i) for i in range(3_000)]


def test_input_without_rows_gives_a_file_with_a_header(folder, tmp_path):
    (tmp_path / "mine.csv").write_text("text\n")
    cluster = Cluster(folder)
    found = predict_file(load_classifier(folder), source_of(str(tmp_path / "mine.csv")), tmp_path / "a.csv", ".csv",
                         cluster=cluster)  # fmt: skip
    assert found.rows == 0 and (tmp_path / "a.csv").read_text().startswith("text,label,score")


def test_ray_may_choose_the_number_of_workers_and_relative_model_paths_work(folder, monkeypatch):
    monkeypatch.chdir(Path(folder).parent)
    texts = ray.data.from_items([{"text": "good film"}, {"text": "bad film"}])
    found = predict_dataset(texts, Path(folder).name, workers=(1, 2), cpus=0.5, num_samples=2).take_all()
    assert len(found) == 2 and all(row["error"] is None and row["label"] for row in found)


def test_command_finds_the_running_cluster(folder, tmp_path):
    """With `--ray` and with `--ray ADDRESS`, from another process."""
    (tmp_path / "mine.txt").write_text("good film\nbad film\n")
    command = [COMMAND, "predict", "--input", tmp_path / "mine.txt", "--model", folder, "--num-samples", "2"]
    found = []
    for i, address in enumerate(([], [ray.get_runtime_context().gcs_address])):
        output = tmp_path / f"{i}.csv"
        done = subprocess.run([*command, "--output", output, "--ray", *address], capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr.splitlines()[-1] == "2 rows", done  # Ray takes seconds to start
        found.append(output)
    classifier = load_classifier(folder)
    predict_file(classifier, source_of(str(tmp_path / "mine.txt")), tmp_path / "a.csv", ".csv", num_samples=2, seed=0)
    for output in found:
        assert_alike(output, tmp_path / "a.csv")


def test_workers_use_the_defaults_and_calibration_of_the_pipeline(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("good film\nbad film\nnever a dull joy\n")
    classifier = load_classifier(folder, num_samples=3, seed=5, max_length=4, truncation=True)
    classifier.calibration = Calibration({"dropout": TemperatureScaling(0.3), "ordinary": TemperatureScaling(4.0)})
    classifier.threshold = 0.6
    for options in ({}, {"threshold": 0.6, "num_samples": 0}):
        assert_workers_agree(classifier, folder, tmp_path / "mine.txt", **options)
        assert b"abstained" in (tmp_path / "many.csv").read_bytes()


def test_workers_use_the_scope_of_the_pipeline(folder, rows, tmp_path):
    (tmp_path / "mine.txt").write_text("good film\nbad film\nnever a dull joy\n0 1 2 3 4 5 6 7 8 9 . ! !\n")
    classifier = load_classifier(folder, num_samples=2)
    classifier.learn_scope([row["text"] for row in rows[:200] if row["text"]])
    assert_workers_agree(classifier, folder, tmp_path / "mine.txt", novelty_level=0.1)
    assert b"novelty_p_value,abstained" in (tmp_path / "many.csv").read_bytes()


def test_workers_use_the_prediction_sets_of_the_pipeline(folder, rows, tmp_path):
    (tmp_path / "mine.txt").write_text("good film\nbad film\nnever a dull joy\n0 1 2 3 4 5 6 7 8 9 . ! !\n")
    classifier = load_classifier(folder, num_samples=2)
    texts = [row["text"] for row in rows[:200] if row["text"]]
    classifier.conformalize(texts, [i % 2 for i in range(len(texts))], coverage=0.8, score="aps")
    for options in ({}, {"coverage": 0.9}):
        assert_workers_agree(classifier, folder, tmp_path / "mine.txt", **options)
        assert b"prediction_set" in (tmp_path / "many.csv").read_bytes()


@pytest.mark.parametrize("by_call", [True, False])
def test_workers_sample_at_the_dropout_of_the_pipeline_or_the_call(by_call, folder, tmp_path):
    (tmp_path / "mine.txt").write_text("good film\nbad film\nnever a dull joy\n")
    classifier = load_classifier(folder, dropout=None if by_call else "2x")
    options = {"num_samples": 4, **({"dropout": "2x"} if by_call else {})}
    assert_workers_agree(classifier, folder, tmp_path / "mine.txt", **options)
    plain = load_classifier(folder)(["good film"], num_samples=4)[0]["score"]
    assert float(tables.read(tmp_path / "many.csv")[0]["score"]) != pytest.approx(plain, abs=1e-5)


def test_too_many_or_too_large_workers_raise_instead_of_waiting(folder, tmp_path, monkeypatch):
    def refused(message, **options):
        output, cluster = tmp_path / f"{[*options]}.csv", Cluster(folder, **options)
        with pytest.raises(ValueError, match=message):
            predict_file(load_classifier(folder), tmp_path / "mine.txt", output, cluster=cluster)

    (tmp_path / "mine.txt").write_text("good\n")
    refused(r"5 workers with 1 CPU each: the cluster has room for 4 \(its", workers=5)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}] * 4)
    refused(r"1 workers with 2 CPU each: the cluster has room for 0 .* 1 CPU; 1 CPU", cpus=2)


def test_damaged_file_gives_one_line_and_ray_settings_are_unchanged(folder, tmp_path):
    packed = gzip.compress("".join(f"film {i} was dull\n" for i in range(20_000)).encode())
    (tmp_path / "a.txt.gz").write_bytes(packed[: len(packed) // 2])
    command = [COMMAND, "predict", "--input", tmp_path / "a.txt.gz", "--model", folder, "--num-samples", "1"]
    done = subprocess.run([*command, "--output", tmp_path / "a.csv", "--ray"], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*a\.txt\.gz cannot be read after row [\d,]+: Compressed file ended.*\n", done.stderr)
    context = ray.data.DataContext.get_current()
    before = (context.target_max_block_size, context.execution_options.preserve_order)
    with pytest.raises(SourceError, match=r"a\.txt\.gz cannot be read after row"):
        predict_file(load_classifier(folder), source_of(str(tmp_path / "a.txt.gz")), tmp_path / "b.csv", ".csv",
                     cluster=Cluster(folder), num_samples=1)  # fmt: skip
    assert (context.target_max_block_size, context.execution_options.preserve_order) == before


def test_late_jsonl_field_with_the_name_of_an_added_column_is_an_error_of_its_row(folder, tmp_path):
    rows = ['{"text": "good"}'] * WINDOW + ['{"text": "bad", "label": "MINE"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    found = predict_file(load_classifier(folder), source_of(str(tmp_path / "a.jsonl")), tmp_path / "b.jsonl", ".jsonl",
                         cluster=Cluster(folder), num_samples=1)  # fmt: skip
    assert found.errors == {"the row already has a field with the name of an added column": 1}
    assert json.loads((tmp_path / "b.jsonl").read_text().splitlines()[-1])["label"] == "MINE"


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_workers_classify_pairs_of_texts(kind, folder, tmp_path):
    pairs = [{"text": f"film {i}", "other": "good" if i % 3 else ""} for i in range(30)]
    if kind == ".csv":
        tables.write(tmp_path / "in.csv", ["text", "other"], [pair.values() for pair in pairs])
    else:
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    options = {"text_pair_column": "other", **OPTIONS}
    found = assert_workers_agree(load_classifier(folder), folder, tmp_path / f"in{kind}", kind, **options)
    assert found.errors == {"the second text is empty": 10}
    dataset = ray.data.from_items([pairs[1]])
    (row,) = predict_dataset(dataset, folder, **options).take_all()
    expected = load_classifier(folder)({"text": "film 1", "text_pair": "good"}, **OPTIONS)
    assert row["score"] == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.filterwarnings("ignore:threshold=0.6 was chosen for sampled scores")
def test_saved_threshold_is_ignored_without_samples(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("good film\n")
    classifier = load_classifier(folder, threshold=0.6)
    assert_workers_agree(classifier, folder, tmp_path / "mine.txt", num_samples=0)
    assert (tmp_path / "many.csv").read_text().startswith("text,label,score,error\n")


@pytest.mark.parametrize(
    ("column", "options", "kind", "message"),
    [
        ("words", {}, SourceError, "the dataset has no column 'text'; its columns are 'words'"),
        ("label", {"text_column": "label", "prefix": ""}, SourceError, "already has a column 'label'; .* prefix"),
        ("__error__", {"text_column": "__error__"}, SourceError, "the dataset already has a column '__error__'"),
        ("text", {"top_k": 2}, TypeError, "'top_k' is not supported here"),
        ("text", {"num_samples": -1}, ValueError, "num_samples=-1"),
        ("text", {"threshold": 2}, ValueError, r"threshold=2; it must lie in \[0, 1\]"),
        ("text", {"dtype": "float23"}, ValueError, "dtype='float23'; it must be one of 'float32'"),
        ("text", {"num_sample": 3}, TypeError, "unknown option 'num_sample'; did you mean 'num_samples'"),
        *(
            ("text", {"workers": workers}, ValueError, f"workers={re.escape(repr(workers))}; it must be an integer of")
            for workers in (0, -1, 2.5, None, "2", True, (3, 2), (1, 2, 3), (1, "2"))
        ),
        *(
            ("text", {"cpus": cpus}, ValueError, f"cpus={cpus!r}; it must be a number of at least 0")
            for cpus in (-1, "1", None, float("inf"), float("nan"))
        ),
    ],
)
def test_invalid_arguments_raise_before_a_worker_starts(folder, column, options, kind, message):
    with pytest.raises(kind, match=message):
        predict_dataset(ray.data.from_items([{column: "a"}]), folder, **options)


def classify_one_text(folder, worker, output):
    """Classify a file of one text by workers that load the model `worker`."""
    source = output.with_name("a.csv")
    source.write_text("text\nfine\n")
    cluster = Cluster(str(worker))
    predict_file(load_classifier(folder), source_of(str(source)), output, ".csv", cluster=cluster, **OPTIONS)


def test_workers_that_cannot_load_their_model_raise_its_error(folder, tmp_path):
    with pytest.raises(ValueError, match=r"none: no such folder"):
        classify_one_text(folder, tmp_path / "none", tmp_path / "b.csv")


def test_workers_with_a_different_model_raise(tiny, saved_to, folder, tmp_path):
    """The journal records one model's fingerprint, so answers of another could be resumed under it."""
    saved_to(tmp_path / "other", tiny("bert", num_labels=2, num_hidden_layers=1))
    with pytest.raises(ValueError, match=r"the workers load a different model or dtype .*other"):
        classify_one_text(folder, tmp_path / "other", tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()
