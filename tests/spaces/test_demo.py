"""The demo: what it says, and the pushed copy with its requirements alone, used in a real browser."""

import importlib.util
import sys

import numpy as np
import pytest
from bayesian_text_classification.hub import space_folder
from environments import only
from pages import ARTEFACTS, opened, served
from pushed import copy_of_space

MARKUP = "<img src=x onerror=\"document.title='taken'\"> a fine film"


@pytest.fixture(scope="module")
def app():
    """`app.py` as a module."""
    spec = importlib.util.spec_from_file_location("demo_app", space_folder() / "app.py")
    sys.modules["demo_app"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_answers_are_those_of_the_pipelines(app, classifier):
    text = app.EXAMPLES[0]
    shown, panels = app.classify(text, 20)
    ordinary = classifier.predict_proba([text], num_samples=0)[0].max()
    averaged = classifier(text, num_samples=20)[0]
    assert f"{ordinary:.1%}</b>" in shown and f"{averaged['score']:.1%}</b>" in shown
    assert f"{averaged['standard_error']:.3f} from 20 samples" in shown
    for key in ("expected_entropy", "mutual_information"):
        assert f"{averaged[key] / np.log(2):.0%}:" in shown
    left, right = panels["value"].axes
    assert sum(bar.get_height() for bar in left.patches) == 20
    running = right.lines[0].get_ydata()
    assert len(running) == 20 and running[-1] == pytest.approx(averaged["score"], abs=1e-5)


@pytest.mark.parametrize(
    ("ordinary", "mean", "of_text", "of_model", "said"),
    [
        ([0.9, 0.1], [0.4, 0.6], 0.6, 0.3, "The two do not even agree"),
        ([0.99, 0.01], [0.8, 0.2], 0.4, 0.3, "The ordinary model is 19 points surer than its own samples. The samples"),
        ([0.7, 0.3], [0.68, 0.32], 0.85, 0.05, "The two agree. Most samples hesitate in the same way"),
        ([0.99, 0.01], [0.98, 0.02], 0.1, 0.01, "The two agree. There is little doubt"),
    ],
)
def test_plain_words(app, ordinary, mean, of_text, of_model, said):
    assert app.words(np.array(ordinary), np.array(mean), of_text, of_model).startswith(said)


@pytest.mark.parametrize("text", ["", " \n", "long " * 500])
def test_what_is_no_sentence_gets_one(app, text):
    shown, panels = app.classify(text, 20)
    assert 'class="refusal"' in shown and panels["value"] is None
    assert ("Type a sentence" if not text.strip() else "this page takes up to 400") in shown


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "Upload a csv with the columns text and label"),
        ("text,label\n" + "good,1\n" * 201, "The file has 201 rows; this page takes up to 200"),
        ("text,label\n" + "x" * 401 + ",1\n", "A text has 401 characters"),
        ("text,label\ngood,7\n", "7"),
        ("words,label\ngood,1\n", "text"),
    ],
)
def test_a_bad_csv_gets_a_sentence_without_a_path(app, tmp_path, content, words):
    file = tmp_path / "mine.csv"
    if content is not None:
        file.write_text(content)
    *_, (shown, diagrams, report) = app.compare_csv(None if content is None else str(file))
    assert 'class="refusal"' in shown and words in shown and str(tmp_path) not in shown
    assert diagrams["value"] is None and report["value"] is None


def test_a_report_is_forgotten_once_the_page_has_it(app, tmp_path):
    (tmp_path / "mine.csv").write_text("text,label\na secret film,1\nbad film,0\n")
    *_, (_, _, report) = app.compare_csv(str(tmp_path / "mine.csv"), progress=lambda *_, **__: None)
    assert app.Path(report["value"]).is_file() and app.Path(report["value"]).parent == app.REPORTS
    app.forget()
    assert not app.REPORTS.exists()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """What `push space` published, with the packages of its requirements and gradio alone."""
    copy = copy_of_space("space", tmp_path_factory.mktemp("hub") / "space")
    needed = (copy / "requirements.txt").read_text().split()
    python = only(tmp_path_factory.mktemp("python") / "environment", *needed, "gradio")
    with served(copy, tmp_path_factory.mktemp("home"), python) as address:
        yield address


def test_in_a_browser(address, tmp_path):
    with opened(address, color_scheme="light") as page:
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.wait_for_selector("#words")
        page.wait_for_selector("#panels img")
        page.wait_for_timeout(1_000)
        page.screenshot(path=ARTEFACTS / "demo.png", full_page=True)
        first = page.inner_text("#words")
        assert "contradict each other" in first

        page.fill("#text textarea", MARKUP)
        page.click("#classify")
        page.wait_for_function(
            "first => ![undefined, first].includes(document.querySelector('#words')?.innerText)", arg=first
        )
        assert page.title() != "taken"
        page.get_by_text("A joy from start to finish.").click()
        page.wait_for_function("document.querySelector('#words')?.innerText.includes('little doubt')")
        page.fill("#samples input[type=number]", "60")
        page.press("#samples input[type=number]", "Enter")
        page.click("#classify")
        page.wait_for_function("document.querySelector('#result').innerText.includes('from 60 samples')")
        page.fill("#text textarea", "")
        page.click("#classify")
        page.wait_for_selector("#result [role=alert]")

        page.get_by_role("tab", name="Your labelled texts").click()
        page.click("#compare")
        page.wait_for_selector("#told [role=alert]")
        (tmp_path / "mine.csv").write_text('text,label\n"<b>good</b> film",1\nbad film,0\nso so,1\n')
        page.set_input_files("#file input[type=file]", tmp_path / "mine.csv")
        page.wait_for_timeout(1_000)
        page.click("#compare")
        page.wait_for_selector("#verdict")
        assert "These 3 texts cannot tell" in page.inner_text("#verdict")
        page.wait_for_selector("#diagrams img")
        assert page.locator("#told table.arms tr").count() == 6
        with page.expect_download() as download:
            page.locator("#report a").first.click()
        report = download.value.path().read_text()
        assert "<title>Is this classifier more trustworthy" in report and "<b>good" not in report
        page.wait_for_timeout(1_000)
        page.screenshot(path=ARTEFACTS / "demo-labelled.png", full_page=True)
        assert errors == []


def test_on_a_telephone_in_the_dark(address):
    with opened(address, viewport={"width": 390, "height": 844}, color_scheme="dark") as page:
        page.wait_for_selector("#words")
        page.wait_for_selector("#panels img")
        page.wait_for_timeout(1_000)
        page.screenshot(path=ARTEFACTS / "demo-telephone.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
