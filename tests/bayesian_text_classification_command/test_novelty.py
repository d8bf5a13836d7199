"""The scope of a classifier on the command line: `calibrate`, `predict` and `rank`."""

import pytest
from bayesian_text_classification import load
from commands import asked, refused
from tables import read, write

pytestmark = pytest.mark.usefixtures("loud_libraries")

WHAT, HOW = ("film", "story", "plot", "cast"), ("good", "bad", "long", "dull", "fine", "odd")
TEXTS = [f"{start} {what} was {how}" for start in ("the", "that", "this", "a") for what in WHAT for how in HOW]
STRANGE = "0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 . . . ! ! !"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Labeled texts, texts of the scope, others like them, and new texts."""
    folder = tmp_path_factory.mktemp("data")
    labels = ["POSITIVE" if "good" in text or "fine" in text or "long" in text else "NEGATIVE" for text in TEXTS]
    write(folder / "labeled.csv", ["text", "label"], zip(TEXTS, labels, strict=True))
    write(folder / "scope.csv", ["text"], [[text] for text in TEXTS[:48]])
    write(folder / "held-out.csv", ["text"], [[text] for text in TEXTS[48:]])
    write(folder / "new.csv", ["text"], [[TEXTS[0]], [STRANGE], ["the plot was fine"]])
    return folder


@pytest.fixture(scope="module")
def scoped(folder):
    """The folder of the embedded model with a scope and a level, saved by the command."""
    data = ["--dataset", folder / "labeled.csv", "--num-samples", 0, "--output", folder / "model"]
    scope = ["--scope-dataset", folder / "scope.csv", "--scope-held-out", folder / "held-out.csv"]
    done = asked("calibrate", *data, *scope, "--novelty-level", 0.05)
    assert done.exit_code == 0, done
    assert "novelty: 2 classes, 48 held-out texts\n" in done.stdout
    return folder / "model"


def test_the_saved_folder_has_the_scope(scoped, folder):
    again, ours = load(scoped), load(num_samples=0)
    ours.learn_scope(TEXTS[:48], None, TEXTS[48:])
    assert again.scope.digest() == ours.scope.digest() and again.novelty_level == 0.05


def test_predict_adds_the_columns_and_says_how_many_rows_have_no_label(scoped, folder, tmp_path):
    files = ["--model", scoped, "--input", folder / "new.csv"]
    done = asked("predict", *files, "--output", tmp_path / "a.csv")
    assert done.exit_code == 0 and "3 rows, 1 of them without a label\n" in done.stderr
    rows = read(tmp_path / "a.csv")
    ours = load(scoped)
    for row, answer in zip(rows, ours([row["text"] for row in rows]), strict=True):
        assert list(row) == ["text", *sorted(answer, key=list(row).index), "error"] and set(answer) < set(row)
        assert float(row["novelty"]) == pytest.approx(answer["novelty"], rel=1e-5)
        assert float(row["novelty_p_value"]) == answer["novelty_p_value"]
    assert [row["abstained"] for row in rows] == ["False", "True", "False"] and not rows[1]["label"]
    done = asked("predict", *files, "--output", tmp_path / "b.csv", "--novelty-level", 0.03, "--scores", "all")
    assert done.exit_code == 0 and list(read(tmp_path / "b.csv")[0])[-3:] == [
        "score_NEGATIVE",
        "score_POSITIVE",
        "error",
    ]
    assert "at most 0.03" in read(tmp_path / "b.csv")[1]["reason"]


def test_rank_puts_strange_texts_first(scoped, folder, tmp_path):
    files = ["--input", folder / "new.csv", "--output", tmp_path / "ranked.csv", "--heuristic", "novelty"]
    assert asked("rank", "--model", scoped, *files).exit_code == 0
    rows = read(tmp_path / "ranked.csv")
    assert rows[0]["text"] == STRANGE and float(rows[0]["score"]) > float(rows[1]["score"]) >= float(rows[2]["score"])
    assert (
        refused(asked("rank", *files)) == "--heuristic novelty needs a scope; learn it with calibrate --scope-dataset"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--novelty-level", 0.05], "--novelty-level needs --scope-dataset, or a model with a scope"),
        (["--method", "none"], "--method none takes --dataset only with --coverage"),
        (["--scope-held-out", "held-out.csv"], "--scope-held-out needs --scope-dataset"),
        (["--scope-dataset", "nowhere.csv"], "nowhere.csv: no such file"),
        (
            ["--scope-dataset", "scope.csv", "--novelty-level", 0.01],
            "--novelty-level 0.01 needs at least 99 held-out texts",
        ),
        (["--scope-dataset", "new.csv"], "a scope needs at least 20 distinct texts"),
    ],
)
def test_what_cannot_work_is_refused(options, message, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    data = ["--dataset", "labeled.csv", "--num-samples", 0, "--output", tmp_path / "model"]
    assert message in refused(asked("calibrate", *data, *options))
    assert not (tmp_path / "model").exists()


def test_evaluate_measures_novelty(folder, tmp_path):
    write(tmp_path / "strange.csv", ["text"], [[f"{STRANGE} {i}"] for i in range(20)])
    data = ["--dataset", folder / "labeled.csv", "--num-samples", 0, "--output", tmp_path / "report"]
    scope = ["--scope-dataset", folder / "scope.csv", "--ood-dataset", tmp_path / "strange.csv"]
    said = refused(asked("evaluate", *data, *scope))
    assert said == "all 48 texts to learn the scope from are also measured; pass other ones"
    write(tmp_path / "few.csv", ["text", "label"], [[TEXTS[0], "POSITIVE"], [TEXTS[1], "NEGATIVE"]])
    data[1] = tmp_path / "few.csv"
    done = asked("evaluate", *data, *scope, "--scope-held-out", folder / "held-out.csv")
    assert done.exit_code == 0 and "by novelty, in one pass: AUROC from" in done.stdout
    for given, message in (
        (scope[:2], "--scope-dataset needs --ood-dataset"),
        (["--scope-held-out", folder / "held-out.csv"], "--scope-held-out needs --scope-dataset"),
    ):
        assert refused(asked("evaluate", *data, *given)) == message


def test_a_saved_scope_and_level_stay_unless_they_are_given(scoped, folder, tmp_path):
    common = ["--model", scoped, "--dataset", folder / "labeled.csv"]
    assert asked("calibrate", *common, "--output", tmp_path / "a").exit_code == 0
    assert load(tmp_path / "a").novelty_level == 0.05
    assert asked("calibrate", *common, "--novelty-level", 0.1, "--output", tmp_path / "b").exit_code == 0
    again = load(tmp_path / "b")
    assert again.novelty_level == 0.1 and again.scope.digest() == load(scoped).scope.digest()
    assert refused(asked("calibrate", "--model", scoped, "--method", "none", "--output", tmp_path / "c")) == (
        "--method none needs --scope-dataset, --coverage or --threshold"
    )
    done = asked("predict", STRANGE, "--model", scoped)
    assert done.exit_code == 0 and "novelty" in done.stdout


def test_predict_needs_a_scope_for_a_level(folder, tmp_path):
    files = ["--input", folder / "new.csv", "--output", tmp_path / "a.csv", "--novelty-level", 0.05]
    assert "--novelty-level 0.05 needs a scope" in refused(asked("predict", *files))
