"""Every code block of the README and of the documentation runs as it is written, page by page and in order.

Blocks that need the Hub run in `test_hub.py` and `test_experiments.py`, those of a server in `test_tutorial.py`.
"""

import json
import re
import shlex
from importlib.metadata import metadata

import pytest
from bayesian_text_classification import load
from commands import asked
from documents import PAGES, README, ROOT, blocks
from tables import write

NAMES = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}}
LABELS = {"id2label": {0: "joy", 1: "anger", 2: "fear"}, "label2id": {"joy": 0, "anger": 1, "fear": 2}}
MODEL_OF = {"without-dropout": "my-model-without-dropout", "ensembles": "run-1"}  # of pages without my-model
MADE_BY = {"one-pass": "my-student"}  # what a page makes itself
SEPARATE = {"tutorial"}  # runs on the embedded model, in a test of its own
NOT_RUN = ("mkdocs serve", "python -m pytest")  # what runs this test, and a server
THINGS = ["film", "story", "end", "actor", "scene", "song", "joke", "plot", "cast", "book", "hotel", "phone"]
THINGS += ["meal", "room", "stay", "price", "color", "sound", "game", "trip"]
TEXTS = [f"{adjective} {thing}" for adjective in ("a fine", "a dull", "not a bad") for thing in THINGS]
PYTHON_PAGES = [page for page in PAGES if blocks(page) and page.stem not in SEPARATE]


@pytest.fixture(scope="session")
def models(tiny, tokenizer, tmp_path_factory):
    """A folder with a tiny model of each kind that the pages name."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("models")
    several = {"problem_type": "multi_label_classification", **LABELS}
    made = {
        "my-model": tiny("bert", **NAMES),
        "my-model-without-dropout": tiny("llama", attention_dropout=0.0, pad_token_id=0, **NAMES),
        "my-multi-label-model": tiny("bert", **several),
        "my-reranker": tiny("bert", num_labels=1),
        "my-student": tiny("distilbert", **NAMES),
        **dict.fromkeys(["run-1", "run-2", "run-3", "base"], tiny("bert", **NAMES)),
    }
    for name, model in made.items():
        for part in (model, tokenizer):
            part.save_pretrained(folder / name)
    for name in ("lora-1", "lora-2"):
        config = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"])
        get_peft_model(tiny("bert", **NAMES), config).save_pretrained(folder / name)
    return folder


@pytest.fixture
def workplace(models, tmp_path, monkeypatch):
    """Builds the folder in which the code of a page runs: the models, and texts whose labels are mostly right."""

    def build(page):
        for path in models.iterdir():
            if path.name != MADE_BY.get(page.stem):
                (tmp_path / path.name).symlink_to(path, target_is_directory=True)
        answers = load(models / MODEL_OF.get(page.stem, "my-model")).predict_proba(TEXTS, num_samples=0).argmax(1)
        labels = [NAMES["id2label"][int(answer) ^ (i % 5 == 0)] for i, answer in enumerate(answers)]
        write(tmp_path / "my-labeled-texts.csv", ["text", "label"], zip(TEXTS, labels, strict=True))
        write(tmp_path / "my-training-texts.csv", ["text"], [[f"{text} then"] for text in TEXTS])
        write(tmp_path / "my-held-out-texts.csv", ["text"], [[f"{text} again"] for text in TEXTS])
        some = [[f"{text} {more}"] for text in TEXTS for more in ("now", "later")]
        write(tmp_path / "my-unlabeled-texts.csv", ["text"], some)
        (tmp_path / "texts").mkdir()
        for name in ("my-texts.csv", "texts/1.csv", "texts/2.csv"):
            write(tmp_path / name, ["text"], [[text] for text in TEXTS[:3]])
        cells = ["joy,anger" if i % 3 else "fear" for i in range(len(TEXTS))]
        write(tmp_path / "my-multi-label-texts.csv", ["text", "label"], zip(TEXTS, cells, strict=True))
        pairs = [[text, text[::-1], i % 2] for i, text in enumerate(TEXTS)]
        write(tmp_path / "my-pairs.csv", ["query", "passage", "label"], pairs)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return build


def run_lines(code):
    """Run the commands of a block. What is installed by pip must be an extra of this project."""
    extras = metadata("bayesian-text-classification").get_all("Provides-Extra")
    for line in code.replace("\\\n", " ").splitlines():
        for command in line.split("  #")[0].split("&&"):
            words = shlex.split(command)
            if words[:3] == ["pip", "install", "."] or not words:
                continue
            if words[:2] == ["pip", "install"]:
                assert re.fullmatch(r"\.\[(\w+)\]", words[2])[1] in extras, line
            elif words == ["bayesian-text-classification", "evaluate"]:
                continue  # `test_experiments.py` runs it
            elif words[0] == "bayesian-text-classification":
                done = asked(*words[1:])
                assert done.exit_code == 0, done.stderr
            else:
                assert command.strip().startswith(NOT_RUN), line


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page != README)) for page in PYTHON_PAGES],
    ids=lambda page: str(page.relative_to(ROOT)),
)
@pytest.mark.usefixtures("loud_libraries")
@pytest.mark.filterwarnings("ignore:.*are few for a student")
@pytest.mark.filterwarnings("ignore:the student is no closer")
def test_the_blocks_of_a_page_run_in_order(page, workplace):
    workplace(page)
    namespace = {}
    for block in blocks(page):
        if block.language == "python":
            code = compile(block.code, str(page), "exec")
            if block.needs is None:
                exec(code, namespace)
        elif block.language == "bash" and block.needs is None:
            run_lines(block.code)
        elif block.language == "json":
            json.loads(block.code)
        else:
            assert block.needs or block.language == "csv", block
    if page == README:
        assert namespace["ece"] == {"ece": pytest.approx(0.45)}  # |1 - .9| / 2 + |0 - .8| / 2
        assert namespace["covered"] == {"coverage": 1.0, "mean_size": 1.5}


def test_every_option_that_a_page_names_exists():
    import typer
    from bayesian_text_classification_command.app import app

    command = typer.main.get_command(app)
    groups = [command.commands["push"], command]
    known = {name for group in groups for one in group.commands.values() for p in one.params for name in p.opts}
    of_scripts = {"--write-docs", "--minutes", "--pooler-config", "--model-id", "--model-repository"}
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named <= known | of_scripts, (page, named - known)


def test_the_csv_of_the_multi_label_page_is_read(tmp_path):
    from bayesian_text_classification import load_labeled_texts

    (page,) = [page for page in PAGES if page.stem == "independent-labels"]
    (block,) = [block for block in blocks(page) if block.language == "csv"]
    (tmp_path / block.title).write_text(block.code)
    data = load_labeled_texts(tmp_path / block.title, LABELS["id2label"], multi_label=True)
    assert data.labels == [{0}, {1, 2}, set()]


def test_the_readme_is_one_page():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_links_lead_to_files():
    """Where pages are read as files, too. The help of the command is only a page of the site."""
    for page in PAGES:
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        missing = [link for link in links if not (page.parent / link).exists() and not link.endswith("command.md")]
        assert not missing, (page, missing)
