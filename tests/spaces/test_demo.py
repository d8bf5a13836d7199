"""The demo: its texts, and the pushed copy with only its requirements, used in a real browser."""

import html
import importlib.util
import re
import sys
import threading

import numpy as np
import pytest
from bayesian_text_classification.evaluation.verdict import advice
from bayesian_text_classification.hub.uploads import space_folder
from environments import only
from gradio_client import Client
from pages import ARTEFACTS, CONTRASTS, opened, served
from pushed import copy_of_space

MARKUP = "<img src=x onerror=\"document.title='taken'\"> a fine film"
TWO_TEXTS = "text,label\nan excellent secret,0\nbad film,0\n"  # the model is wrong about the first

# For each picture: screen pixels per point (1/72 inch) of the figure.
PIXELS_PER_POINT = """([selector, dpi]) => [...document.querySelectorAll(selector)].map(
    one => one.getBoundingClientRect().width / (one.naturalWidth / dpi * 72))"""


@pytest.fixture(scope="module")
def app():
    """`app.py` as a module."""
    spec = importlib.util.spec_from_file_location("demo_app", space_folder() / "app.py")
    sys.modules["demo_app"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_answers_equal_those_of_the_pipeline(app, classifier):
    text = app.EXAMPLES[0]
    shown, spread, running = app.classify(text, 20)
    ordinary = classifier.predict_proba([text], num_samples=0)[0].max()
    averaged = classifier(text, num_samples=20)[0]
    assert f"{ordinary:.1%}</b>" in shown and f"{averaged['score']:.1%}</b>" in shown
    assert f"&plusmn; {100 * averaged['standard_error']:.1f} points from 20 samples (standard error)" in shown
    for key in ("expected_entropy", "mutual_information"):
        assert f"{averaged[key] / np.log(2):.0%}:" in shown
    (left,), (right,) = spread["value"].axes, running["value"].axes
    assert sum(bar.get_height() for bar in left.patches) == 20
    average = right.lines[0].get_ydata()
    assert len(average) == 20 and average[-1] == pytest.approx(averaged["score"], abs=1e-5)


def test_the_band_is_the_standard_error_of_the_pipeline(app, classifier):
    text = app.EXAMPLES[0]
    (axes,) = app.classify(text, 30)[2]["value"].axes
    (band,) = axes.collections
    assert band.get_label() == "\u00b1 standard error"
    (outline,) = band.get_paths()
    for samples in (10, 20, 30):
        said = classifier(text, num_samples=samples)[0]
        ends = outline.vertices[np.isclose(outline.vertices[:, 0], samples), 1]
        assert np.ptp(ends) == pytest.approx(2 * said["standard_error"], abs=1e-5)


THREAD = "The two disagree on the label, so this answer is fragile."
SURER = "The ordinary model is 19 points more confident than the average of its samples."


@pytest.mark.parametrize(
    ("ordinary", "mean", "of_text", "of_model", "one_mind", "said"),
    [
        (0.9, 0.4, 0.6, 0.35, False, f"{THREAD} The samples contradict each other"),
        (0.6, 0.45, 0.9, 0.09, False, f"{THREAD} Most of the uncertainty is in every sample"),
        (0.6, 0.02, 0.1, 0.02, True, "The two disagree on the label, although the samples show little doubt. Check"),
        (0.99, 0.8, 0.4, 0.3, False, f"{SURER} The samples contradict each other, which is common for texts unlike"),
        (
            0.99,
            0.8,
            0.4,
            0.3,
            True,
            f"{SURER} The samples differ in their confidence, which is common for texts unlike",
        ),
        (
            0.6,
            0.8,
            0.4,
            0.3,
            False,
            "The average of the samples is 20 points more confident than the ordinary model. The sam",
        ),
        (
            0.8,
            0.98,
            0.1,
            0.04,
            True,
            "The average of the samples is 18 points more confident than the ordinary model. The model has",
        ),
        (0.7, 0.68, 0.85, 0.05, False, "The two agree. Most of the uncertainty is in every sample"),
        (
            0.99,
            0.98,
            0.1,
            0.01,
            True,
            "The two agree. The model has little doubt about this text, which does not make it right.",
        ),
    ],
)
def test_words_explain_the_result(app, ordinary, mean, of_text, of_model, one_mind, said):
    both = (np.array([p, 1 - p]) for p in (ordinary, mean))
    found = app.words(*both, of_text, of_model, one_mind)
    assert found.startswith(said) and "trained on" not in found


ONE_SENTENCE = r'<p class="refusal" role="alert">[A-Z]([^.]|[.]\S)*[.]</p>'


@pytest.mark.parametrize("text", [None, "", " \n", "long " * 5_000, "\ud800"])
def test_empty_or_too_long_text_shows_one_sentence(app, text):
    shown, *drawn = app.classify(text, 20)
    assert re.fullmatch(ONE_SENTENCE, shown) and [one["value"] for one in drawn] == [None, None]
    if text != "\ud800":
        said = "The text has 24,999 characters; shorten it to 20,000." if text and text.strip() else "Type a sentence"
        assert said in shown


@pytest.mark.parametrize("words", [510, 511, 900])
def test_a_text_that_was_cut_is_announced(app, classifier, words):
    text = "film " * words  # one token per word, and two that the tokenizer adds
    shown, *_ = app.classify(text, 10)
    (result,) = classifier(text, num_samples=1)
    assert result["truncated"] is ('class="cut"' in shown) is (words > 510)
    assert (f"<b>This text was cut.</b> It has {words + 2} tokens" in shown) is result["truncated"]
    assert ("the model reads at most 512, from the beginning" in shown) is result["truncated"]


def test_a_text_unlike_reviews_is_announced(app):
    for text in app.STRANGE:
        shown, *_ = app.classify(text, 10)
        (p_value,) = app.CLASSIFIER.scope.p_values(app.CLASSIFIER.novelty([text]))
        assert (
            p_value <= app.NEW
            and "<b>This text is unlike a review.</b>" in shown
            and f"{p_value:.1%} of review" in shown
        )
    for text in app.EXAMPLES:
        assert "unlike" not in app.classify(text, 10)[0]


def test_counting_tokens_leaves_the_truncation_of_the_classifier_alone(app):
    tokenizer = app.CLASSIFIER.tokenizer
    tokenizer("a film", truncation=True, max_length=512)
    before = tokenizer.backend_tokenizer.truncation
    assert app.number_of_tokens("film " * 900) == 902
    assert tokenizer.backend_tokenizer.truncation == before and before["max_length"] == 512


@pytest.mark.parametrize("number", [None, 0, -20, 9, 101, 10**6, 20.5, float("nan"), float("inf"), "20", True, [20]])
def test_an_invalid_number_of_samples_shows_a_message(app, number):
    shown, *drawn = app.classify("A joy from start to finish.", number)
    said = "" if number is None else f", not {html.escape(str(number))}"
    assert f"Give the number of samples as a whole number from 10 to 100{said}.</p>" in shown
    assert [one["value"] for one in drawn] == [None, None]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "Upload a csv with the columns text and label, or use the example."),
        ("text,label\n" + "good,1\n" * 201, "The file has 201 rows; upload at most 200 of them."),
        (
            "text,label\ngood,1\n" + "x" * 401 + ",1\n",
            "Shorten or remove the text in row 2 (the first text is row 1): it has 401 characters (at most 400) and 3",
        ),
        ("text,label\n" + "가나다 " * 99 + ",1\n", "(at most 400) and 596 tokens (at most 512)."),
        (
            "text,label\ngood,1\ngood,7\n",
            "Correct the csv and upload it again: in row 2 (the first text is row 1), label '7' is not one of",
        ),
        (
            "words,label\ngood,1\n",
            "no text column 'text' or 'sentence'; the columns are 'words', 'label'; name the columns text and label in "
            "the first line.",
        ),
        ("text,rating\ngood,1\n", "'rating'; name the columns text and label in the first line."),
        ("text,label\n", "Correct the csv and upload it again: the file has no rows."),
        ("text,label\ngood\n", "Correct the csv and upload it again: the file cannot be read: row 1"),
    ],
)
def test_an_invalid_csv_shows_one_sentence_without_a_path(app, tmp_path, content, words):
    file = tmp_path / "mine.csv"
    if content is not None:
        file.write_text(content)
    *_, (shown, diagrams, report) = app.compare_csv(None if content is None else str(file))
    assert re.fullmatch(ONE_SENTENCE, shown) and html.escape(words) in shown
    assert str(tmp_path) not in shown and not re.search(r"--\w|\w=", shown.removeprefix('<p class="refusal" role='))
    assert diagrams["value"] is None and report["value"] is None


def reported(steps):
    """The final result of a comparison: HTML, diagrams and the report, which still exists."""
    return next(step for step in steps if step[2]["value"])


def test_each_run_keeps_its_own_report_until_it_is_copied(app, tmp_path):
    (tmp_path / "mine.csv").write_text(TWO_TEXTS)
    (tmp_path / "yours.csv").write_text(TWO_TEXTS.replace("secret", "public"))
    mine, yours = (app.compare_csv(str(tmp_path / name)) for name in ("mine.csv", "yours.csv"))
    first, second = (app.Path(reported(steps)[2]["value"]) for steps in (mine, yours))
    assert [*first.parent.iterdir()] == [first] and "secret" in first.read_text()
    assert "public" in second.read_text()
    assert [*mine] == []  # Gradio asks for more once it has a copy
    assert not first.parent.exists() and second.exists()
    yours.close()  # as when the visitor leaves
    assert not second.parent.exists()


def test_advice_is_only_in_the_report(app, tmp_path, monkeypatch):
    found, compare = [], app.compare
    monkeypatch.setattr(app, "compare", lambda *given, **options: found.append(compare(*given, **options)) or found[0])
    (tmp_path / "mine.csv").write_text(TWO_TEXTS)
    page, _, report = reported(steps := app.compare_csv(str(tmp_path / "mine.csv")))
    lines = [html.escape(line) for line in advice(found[0])]
    told = html.unescape(app.Path(report["value"]).read_text())
    steps.close()
    assert lines and all(line not in page and html.unescape(line) in told for line in lines)
    assert "num_samples" not in page and "--" not in page


class Watch:
    """Records comparisons: how many have started, how often they report progress, and how each ended."""

    def __init__(self, app, monkeypatch):
        self.begun, self.calls, self.ends, compare = 0, 0, [], app.compare
        self.ended = threading.Condition()

        def watched(*given, progress, **options):
            def counted(rows):
                self.calls += 1
                progress(rows)

            self.begun += 1
            try:
                result = compare(*given, progress=counted, **options)
            except BaseException as error:
                self.end(type(error))
                raise
            self.end(None)
            return result

        monkeypatch.setattr(app, "compare", watched)

    def end(self, how):
        with self.ended:
            self.ends.append(how)
            self.ended.notify_all()

    def wait(self, number):
        """Wait until `number` comparisons have ended, and return how they ended."""
        with self.ended:
            assert self.ended.wait_for(lambda: len(self.ends) >= number, timeout=60), f"{self.calls} calls in a minute"
            return self.ends


def test_closing_a_comparison_stops_its_sampling(app, monkeypatch):
    watch = Watch(app, monkeypatch)
    steps = app.compare_example()
    shown = next(step[0] for step in steps if watch.calls > 1)
    assert "Sampling ..." in shown
    steps.close()
    assert watch.wait(1) == [app.Stopped]
    before = watch.calls
    assert "</b>" in app.classify("A joy from start to finish.", 10)[0]
    assert watch.calls == before < 60 * (1 + 2 * app.LABELED_SAMPLES)


def test_the_buttons_of_a_comparison_wait_for_each_other(app):
    """Without a browser: what a click changes, and what it ends."""
    page = app.build()
    ids = {block.elem_id: key for key, block in page.blocks.items() if getattr(block, "elem_id", None)}
    steps, runs = list(page.fns.values()), []
    for name, work, given in (("compare", "compare_csv", ["file", None]), ("example", "compare_example", [None])):
        (begun,) = (step for step in steps if (ids[name], "click") in step.targets)
        line, diagrams, report, *buttons, event = begun.fn()
        assert "Waiting in the queue ..." in line and diagrams["visible"] is report["visible"] is False
        assert [button["interactive"] for button in buttons] == [False, False, True] and not event.is_set()
        (run,) = (step for step in steps if step.trigger_after == begun._id)
        assert run.name == work and [one.elem_id for one in run.inputs] == given
        assert (run.concurrency_id, run.concurrency_limit) == ("comparison", 1) and not begun.queue
        (end,) = (step for step in steps if step.trigger_after == run._id)
        results = (app.waiting(0.5), app.status("Stopped.")), (app.refusal("no file"), app.gr.skip())
        for shown, expected in results:  # what was shown as the run ended, and what is shown then
            left, *_, mine, example, stop = end.fn(shown)
            assert left == expected
            assert [button["interactive"] for button in (mine, example, stop)] == [True, True, False]
            assert stop["value"] == "Stop"
        runs.append(run._id)
    clicks = [step for step in steps if (ids["stop"], "click") in step.targets]
    (told,) = (step for step in clicks if step.fn and not step.cancels)
    told.fn(event)
    assert event.is_set() and [step.cancels for step in clicks if step.cancels] == [runs]


@pytest.fixture(scope="module")
def here(app):
    """The page served by this process."""
    page = app.build().queue(default_concurrency_limit=1)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, css=app.CSS, share=False)
    yield address
    page.close()


@pytest.mark.slow  # a browser
def test_stop_ends_the_work_and_later_runs_are_answered(app, here, monkeypatch, tmp_path):
    watch = Watch(app, monkeypatch)
    with opened(here) as page:
        pages = [page, page.context.browser.new_page()]
        pages[1].goto(here)
        for one in pages:
            one.wait_for_selector("#words")
            one.get_by_role("tab", name="Your labeled texts").click()
            assert one.is_disabled("#stop")
        page.click("#example")
        page.wait_for_function("/Sampling ... [1-9]/.test(document.querySelector('#comparison-result').innerText)")
        assert page.is_disabled("#compare") and page.is_disabled("#example")

        pages[1].click("#example")  # queued behind the first
        pages[1].wait_for_function(
            "document.querySelector('#comparison-result').innerText.includes('Waiting in the queue')"
        )
        for one in reversed(pages):
            one.click("#stop")
            one.wait_for_function("document.querySelector('#comparison-result').innerText.trim() === 'Stopped.'")
            assert one.is_disabled("#stop") and one.is_enabled("#compare") and one.is_enabled("#example")
        assert watch.wait(1) == [app.Stopped]
        before = watch.calls

        page.get_by_role("tab", name="One text").click()
        page.get_by_text("A joy from start to finish.").click()
        page.wait_for_function("document.querySelector('#words')?.innerText.includes('little doubt')")
        assert (watch.begun, watch.calls) == (1, before)
        page.get_by_role("tab", name="Your labeled texts").click()
        assert page.inner_text("#comparison-result").strip() == "Stopped."
        assert page.locator("[data-testid=toast-body]").count() == 0

        (tmp_path / "mine.csv").write_text(TWO_TEXTS)
        page.set_input_files("#file input[type=file]", tmp_path / "mine.csv")
        page.wait_for_selector("#file .file-preview")
        page.click("#compare")
        page.wait_for_selector("#verdict")
        page.wait_for_function(
            "document.querySelector('#stop').disabled && !document.querySelector('#compare').disabled"
        )
        assert watch.ends == [app.Stopped, None]


@pytest.mark.slow  # a browser
def test_stop_works_while_the_request_to_join_the_queue_is_pending(app, here, monkeypatch):
    watch, held = Watch(app, monkeypatch), []
    with opened(here) as page:
        page.wait_for_selector("#words")
        page.get_by_role("tab", name="Your labeled texts").click()
        page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))  # held back
        page.click("#example")
        page.wait_for_function(
            "document.querySelector('#comparison-result').innerText.includes('Waiting in the queue')"
        )
        while not held:
            page.wait_for_timeout(50)
        page.click("#stop")
        page.wait_for_function("document.querySelector('#comparison-result').innerText.trim() === 'Stopped.'")
        with page.expect_response("**/queue/join*"):
            held[0].continue_()
        page.get_by_role("tab", name="One text").click()
        page.get_by_text("A joy from start to finish.").click()
        page.wait_for_function("document.querySelector('#words')?.innerText.includes('little doubt')")
        page.get_by_role("tab", name="Your labeled texts").click()
        assert page.inner_text("#comparison-result").strip() == "Stopped." and watch.begun == 0


@pytest.mark.slow  # a browser
def test_leaving_the_page_ends_the_work(app, here, monkeypatch):
    watch = Watch(app, monkeypatch)
    with opened(here) as page:
        page.wait_for_selector("#words")
        page.get_by_role("tab", name="Your labeled texts").click()
        page.click("#example")
        page.wait_for_function("/Sampling ... [1-9]/.test(document.querySelector('#comparison-result').innerText)")
        page.goto("about:blank")
        assert watch.wait(1) == [app.Stopped]


def test_the_api_has_two_functions_and_returns_error_messages(app, here):
    blocks = app.build()
    assert {fn.api_name for fn in blocks.fns.values() if fn.api_visibility != "private"} == {"classify", "compare_csv"}
    client = Client(here, verbose=False)
    for number in (None, 0, -1, 10**6, 20.5, "many"):
        shown, *_ = client.predict("A fine film", number, api_name="/classify")
        assert "Give the number of samples as a whole number" in shown
    assert "Type a sentence" in client.predict(None, 20, api_name="/classify")[0]
    assert "Upload a csv" in client.predict(None, api_name="/compare_csv")[0]


@pytest.mark.slow  # a browser
def test_an_answer_that_takes_long_fades_the_last_one_and_shows_the_time(app, here, monkeypatch):
    ready, cut = threading.Event(), app.cut
    last, timer = (
        f"getComputedStyle(document.querySelector('#result {part}'))"
        for part in (".html-container", "[data-testid=status-tracker]")
    )
    with opened(here) as page:
        page.wait_for_selector("#words")
        monkeypatch.setattr(app, "cut", lambda tokens: cut(tokens) if ready.wait(60) else "")
        page.fill("#text textarea", "A fine film.")
        page.wait_for_function(f"{last}.transitionDelay === '1s' && {timer}.transitionDelay === '1s'")  # no flicker
        page.wait_for_function(f"{last}.opacity === '0.3' && {timer}.opacity === '1'")
        ready.set()
        page.wait_for_function(f"{last}.opacity === '1' && {timer}.opacity === '0'")
        page.wait_for_function("document.querySelector('#words').innerText.includes('The model has little doubt')")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page that `push space` published, with only the packages of its requirements and gradio installed."""
    copy = copy_of_space("space", tmp_path_factory.mktemp("hub") / "space", "user/demo")
    needed = (copy / "requirements.txt").read_text().split()
    python = only(tmp_path_factory.mktemp("python") / "environment", *needed, "gradio")
    with served(copy, tmp_path_factory.mktemp("home"), python) as address:
        yield address


@pytest.mark.slow  # a browser
def test_the_page_in_a_browser(address, tmp_path):
    with opened(address, color_scheme="light") as page:
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.wait_for_selector("#words")
        page.wait_for_selector("#panels img")
        page.wait_for_timeout(1_000)
        page.screenshot(path=ARTEFACTS / "demo.png", full_page=True)
        first = page.inner_text("#words")
        assert "contradict each other" in first
        said = page.inner_text("body")
        assert "the model only knows the sentiment of English film reviews (SST-2)." in said
        assert "Noise and other languages get confident answers too" in said
        assert not re.search(r"--\w", said)
        page.get_by_role("button", name="asdf qwer").click()
        page.wait_for_function("first => document.querySelector('#words')?.innerText !== first", arg=first)

        page.focus("#samples input[type=range]")
        for key, samples in (("ArrowRight", 30), ("ArrowRight", 40), ("Home", 10)):
            page.keyboard.press(key)
            page.wait_for_function(
                "text => document.querySelector('#result').innerText.includes(text)", arg=f"from {samples} samples"
            )
        page.fill("#samples input[type=number]", "")
        page.wait_for_function("document.querySelector('#result').innerText.includes('Give the number of samples')")
        page.fill("#samples input[type=number]", "20")
        page.wait_for_function("document.querySelector('#result').innerText.includes('from 20 samples')")

        page.fill("#text textarea", MARKUP)
        page.click("#classify")
        page.wait_for_function(
            "first => ![undefined, first].includes(document.querySelector('#words')?.innerText)", arg=first
        )
        assert page.title() != "taken"
        review = "A long review of a film. " * 100
        page.fill("#text textarea", review)
        page.wait_for_selector("#result .cut")
        assert page.input_value("#text textarea") == review
        assert "This text was cut. It has 702 tokens" in page.inner_text("#result")
        page.get_by_text("A joy from start to finish.").click()
        page.wait_for_function("document.querySelector('#words')?.innerText.includes('little doubt')")
        page.fill("#samples input[type=number]", "60")
        page.press("#samples input[type=number]", "Enter")
        page.click("#classify")
        page.wait_for_function("document.querySelector('#result').innerText.includes('from 60 samples')")
        page.fill("#text textarea", "")
        page.click("#classify")
        page.wait_for_selector("#result [role=alert]")

        page.get_by_role("tab", name="Your labeled texts").click()
        page.click("#compare")
        page.wait_for_selector("#comparison-result [role=alert]")
        (tmp_path / "mine.csv").write_text('text,label\n"<b>good</b> film",1\nbad film,0\nso so,1\n')
        page.set_input_files("#file input[type=file]", tmp_path / "mine.csv")
        page.wait_for_timeout(1_000)
        page.click("#compare")
        page.wait_for_selector("#verdict")
        assert "No recommendation on 3 texts" in page.inner_text("#verdict")
        assert not re.search(r"--\w", page.inner_text("body"))
        page.wait_for_selector("#diagrams img")
        assert page.locator("#comparison-result table.arms tr").count() == 6
        with page.expect_download() as download:
            page.locator("#report a").first.click()
        report = download.value.path().read_text()
        assert "<title>How far can this classifier be trusted?" in report and "<b>good" not in report
        page.wait_for_timeout(1_000)
        page.screenshot(path=ARTEFACTS / "demo-labeled.png", full_page=True)
        assert errors == []


@pytest.mark.slow  # a browser
def test_the_page_on_a_phone_with_the_dark_theme(address, tmp_path):
    with opened(address, viewport={"width": 390, "height": 844}, color_scheme="dark") as page:
        page.wait_for_selector("#words")
        page.wait_for_selector("#panels img")
        page.wait_for_timeout(1_000)
        page.screenshot(path=ARTEFACTS / "demo-telephone.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        sizes = page.evaluate(PIXELS_PER_POINT, ["#panels img", 200])
        assert len(sizes) == 2 and min(sizes) >= 1
        for one in page.locator("#panels img").all():
            assert one.bounding_box()["x"] >= 0 and one.bounding_box()["x"] + one.bounding_box()["width"] <= 390
        for shown in (page.locator("#classify"), page.get_by_text("A joy from start to finish.")):
            page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
            shown.click()
            page.wait_for_timeout(1_500)
            assert page.locator(".figures b").last.bounding_box()["y"] < 800

        page.get_by_role("tab", name="Your labeled texts").click()
        (tmp_path / "mine.csv").write_text(TWO_TEXTS)
        page.set_input_files("#file input[type=file]", tmp_path / "mine.csv")
        page.wait_for_selector("#file .file-preview")
        page.click("#compare")
        page.wait_for_selector("#diagrams img")
        page.wait_for_timeout(1_000)
        page.screenshot(path=ARTEFACTS / "demo-labeled-telephone.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert min(page.evaluate(PIXELS_PER_POINT, ["#diagrams img", 150])) >= 1
        for part, scroller in (("#diagrams img", "#diagrams .matplotlib"), (".arms", ".wide")):
            inner, outer = page.locator(part), page.locator(scroller)
            assert inner.bounding_box()["x"] >= outer.bounding_box()["x"]  # scrolling reaches everything
            outer.evaluate("one => one.scrollTo(10_000, 0)")
            ends = [box["x"] + box["width"] for box in (inner.bounding_box(), outer.bounding_box())]
            assert ends[0] <= ends[1] + 1


@pytest.mark.slow  # a browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(app, address, theme):
    with opened(f"{address}?__theme={theme}") as page:
        page.wait_for_selector("#words")
        page.wait_for_selector("#panels img")
        small = page.evaluate(CONTRASTS, ".figures span, .figures em, .key, .key span, .verdict")
        large = page.evaluate(CONTRASTS, ".figures b")
        turned = page.evaluate("getComputedStyle(document.querySelector('#panels img')).filter")
        assert len(small) == 13 and min(small) >= 4.5
        assert len(large) == 2 and min(large) >= 3
        assert turned == ("none" if theme == "light" else "invert(1) hue-rotate(180deg)")  # the ink is for a white page
        page.fill("#text textarea", "film " * 600)
        page.wait_for_selector("#result .cut")
        assert min(page.evaluate(CONTRASTS, ".cut, .cut b")) >= 4.5
        page.fill("#text textarea", "")
        page.wait_for_selector("#result [role=alert]")
        assert min(page.evaluate(CONTRASTS, ".refusal")) >= 4.5
