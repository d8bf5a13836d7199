"""The web page of the metric of prediction sets: its functions, and the page itself in a real browser."""

import csv
import html
import importlib.util
import re
import sys

import pytest
from bayesian_text_classification.loading.labels import joined_labels
from bayesian_text_classification.metric import load_metric_module, metric_folder
from gradio_client import Client
from pages import ARTEFACTS, CONTRASTS, launched, opened, served_metric

NAME = "prediction_set_coverage"
module = load_metric_module(NAME)
THREE = 'label,prediction_set\na,a\nb,"a,b"\nc,'


@pytest.fixture(scope="module")
def app():
    """`app.py` as a module, which finds the metric in its folder, as in a Space."""
    sys.path.insert(0, str(metric_folder(NAME)))
    spec = importlib.util.spec_from_file_location("coverage_app", metric_folder(NAME) / "app.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules["coverage_app"] = found
    spec.loader.exec_module(found)
    sys.path.remove(str(metric_folder(NAME)))
    return found


@pytest.fixture
def run(app):
    """The HTML and both tables. They are shown only if they have content."""

    def call(*inputs):
        page, classes, sizes = app.run(*inputs)
        assert classes["visible"] is sizes["visible"] is bool(classes["value"]) is bool(sizes["value"])
        return page, classes["value"], sizes["value"]

    return call


def value_in(page, name="value"):
    return re.search(rf'<b id="{name}">([0-9.%]+)</b>', page)[1]


def test_the_example_gets_the_values_of_the_metric(app, run):
    text, level, calibration = app.example()
    names = ["negative", "neutral", "positive"]
    rows = [re.fullmatch(r'(\w+),"([\w,]*)"', line).groups() for line in text.splitlines()[1:]]
    labels, sets = [names.index(y) for y, _ in rows], [[names.index(k) for k in s.split(",") if k] for _, s in rows]
    expected = module.prediction_set_coverage(
        sets, labels, coverage_level=int(level) / 100, n_calibration=int(calibration), class_wise=True
    )
    page, classes, sizes = run(text, level, calibration)
    assert value_in(page) == f"{expected['coverage']:.1%}" and value_in(page, "size") == f"{expected['mean_size']:.2f}"
    low, high = expected["band"]
    assert f"band {low:.1%} to {high:.1%}" in page and "In the band: these rows give no evidence" in page
    assert {line[0]: line[2] for line in classes} == {
        name: f"{one:.1%}" for name, one in zip(names, expected["class_coverage"], strict=True)
    }
    assert sum(line[1] for line in classes) == sum(line[1] for line in sizes) == len(rows) == 400


def test_values_tables_and_words_by_hand(run):
    page, classes, sizes = run(THREE)
    assert (value_in(page), value_in(page, "size")) == ("66.7%", "1.00")
    assert "2 of 3 sets hold the true label" in page and "of 3 labels; 1 set is empty" in page
    assert "Fill in the level" in page and "<svg" not in page
    assert classes == [["a", 1, "100.0%", "1.00"], ["b", 1, "100.0%", "2.00"], ["c", 1, "0.0%", "0.00"]]
    assert sizes == [[0, 1, "0.0%"], [1, 1, "100.0%"], [2, 1, "100.0%"]]


@pytest.mark.parametrize(
    ("covered", "words", "dot"),
    [
        (90, "In the band: these rows give no evidence against 90% coverage.", "inside"),
        (70, "Below the band: the sets hold the true label less often than promised.", "outside"),
        (100, "Above the band: the sets hold the true label more often than promised", "outside"),
    ],
)
def test_the_sentence_says_where_the_coverage_is(run, covered, words, dot):
    text = "\n".join(["label,prediction_set", *["a,a"] * covered, *["b,a"] * (100 - covered)])
    page, *_ = run(text, " 90 % ", "10000")
    assert words in page and f'class="{dot}"' in page


def test_classes_with_many_rows_come_first(run):
    _, classes, _ = run("label,prediction_set\na,\nb,b\nb,b\n")
    assert [line[0] for line in classes] == ["b", "a"]


@pytest.mark.parametrize("names", [["good", "bad"], ["good, or not", 'with "quotes"']])
def test_the_output_of_predict_is_read(run, names, tmp_path):
    cells = [joined_labels(one, names) for one in (names, names[:1], [])]
    rows = [(names[1], cells[0]), (names[0], cells[1]), (names[1], cells[2] or "[]")]
    with (tmp_path / "out.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label", "predicted_label", "predicted_score", "predicted_prediction_set", "predicted_error")]
            + [("so, so", label, names[0], 0.7, cell, "") for label, cell in rows]
        )
    page, classes, _ = run((tmp_path / "out.csv").read_text())
    assert value_in(page) == "66.7%"
    assert [line[:2] for line in classes] == [[names[1], 2], [names[0], 1]]


def test_the_predicted_label_is_not_taken_for_the_true_one(run):
    header, row = "text,label,score,prediction_set,error", "so,a,0.9,a,"
    page, *_ = run(f"{header}\n{row}")
    assert "Column label holds the labels that predict gave; add the true labels as column true_label." in page
    page, classes, _ = run(f"{header},true_label\n{row},b")
    assert value_in(page) == "0.0%" and classes[0][0] == "b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "There are no rows: paste a csv, upload one, or load the example."),
        ("label,prediction_set", "There are no rows below the header; add one for each prediction set."),
        ("a,b\n1,2", "The first line is 'a', 'b'; name a column label there."),
        ("label,b\n1,2", "The first line is 'label', 'b'; name a column prediction_set there."),
        ("label,label,prediction_set\na,a,a", "The header has two columns label; remove one."),
        ("label,prediction_set\na,a,b", "Row 1 has 3 cells; give it 2, like the header, and put quotes around a set"),
        ("label,prediction_set\na,a\na", "Row 2 has 1 cell; give it 2, like the header."),
        ('label,prediction_set\na,"a,a"', "Row 1, column prediction_set: 'a' appears twice; give each label once."),
        ("label;prediction_set\na;[a", "Row 1, column prediction_set: '[a' is not a JSON list; fix it."),
        ("label,prediction_set\n,a", "Row 1 has no true label; add it, or remove the row."),
        ('label,prediction_set\n"a,b",a', "Row 1, column label: 'a,b' holds several labels; this page takes one per"),
        ('label;prediction_set\n["a"];a', "holds several labels; this page takes one per row."),
        ("label,prediction_set,error\na,,too long", "Row 1 has no prediction set, because predict failed; fix or"),
        ('label,prediction_set\na,"a\n' + "a,a\n" * 40_000, "look for a quote that is never closed."),
        ("label,prediction_set\n" + "a,a\n" * 50_001, "The csv has 50,001 rows; use at most 50,000 on this page."),
        (
            "label,prediction_set\n" + "\n".join(f"{i},a" for i in range(1_001)),
            "The csv has 1,002 labels; use at most 1,000 on this page.",
        ),
        ("label,prediction_set\n" + "a,a\n" * 1_300_000, "shorten it to 5,000,000."),
        ("label,<script>alert(1)</script>\na,a", "<script>alert(1)</script>"),
    ],
    ids=lambda value: value[:24],
)
def test_an_invalid_csv_shows_one_sentence_in_words_of_the_page(run, text, sentence):
    page, classes, sizes = run(text)
    assert html.escape(sentence) in page
    assert re.fullmatch(r'<p class="refusal" role="alert">[A-Z]([^.]|[.]\S)*[.]</p>', page)
    assert not re.search(r"predictions\b|references|--\w", page)
    assert classes == sizes == []


@pytest.mark.parametrize(
    ("level", "calibration", "sentence"),
    [
        ("0.95", "100", "Give the level in percent, from 1 to below 100, such as 95, not '0.95'."),
        ("100", "100", "Give the level in percent, from 1 to below 100, such as 95, not '100'."),
        ("high", "100", "such as 95, not 'high'."),
        ("", "100", "Give the level in percent, from 1 to below 100, such as 95."),
        ("95", None, "Give the number of calibration rows as a whole number of at least 1."),
        ("95", "-3", "Give the number of calibration rows as a whole number of at least 1, not '-3'."),
        ("95", "1e3", "of at least 1, not '1e3'."),
        ("95", "18", "A level of 95% needs at least 19 calibration rows, not 18; with fewer, every set must hold all"),
    ],
)
def test_an_invalid_level_or_number_shows_one_sentence(run, level, calibration, sentence):
    page, classes, _ = run(THREE, level, calibration)
    assert html.escape(sentence) in page and classes == []


def test_a_file_that_is_not_text_shows_a_message(app, tmp_path):
    (tmp_path / "table.csv").write_bytes(b"label,prediction_set\na,\xff\xfe")
    text, page, *_ = app.upload(str(tmp_path / "table.csv"))
    assert text == "" and "The file is not UTF-8 text" in page


# In a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served_metric(NAME, tmp_path_factory) as address:
        yield address


@pytest.fixture
def page(address):
    with opened(address) as page:
        yield page


@pytest.mark.slow  # a browser
def test_the_page_in_a_browser(page, tmp_path):
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.wait_for_selector("#csv textarea")
    (tmp_path / "mine.csv").write_text(THREE)
    page.set_input_files("input[type=file]", tmp_path / "mine.csv")  # the two optional boxes are empty
    page.wait_for_function("document.querySelector('#value')?.innerText === '66.7%'")
    page.wait_for_selector("#classes")
    page.click("#example")
    page.wait_for_function("document.querySelector('#result').innerText.includes('In the band')")
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTEFACTS / "coverage-page.png", full_page=True)
    page.fill("#level input", "99")
    page.click("#measure")
    page.wait_for_function("document.querySelector('#result').innerText.includes('Below the band')")
    page.fill("#csv textarea", "label,prediction_set\na,a,b")
    page.click("#measure")
    page.wait_for_selector("#result [role=alert]")
    assert "Row 1 has 3 cells" in page.inner_text("#result")
    for table in ("#classes", "#sizes"):
        page.wait_for_selector(table, state="hidden")
    assert errors == []


@pytest.mark.slow  # a browser
def test_the_page_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#example")
    page.wait_for_selector("#value")
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTEFACTS / "coverage-page-telephone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("scrollY") > 0  # to the result


@pytest.mark.slow  # a browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(page, address, theme):
    page.goto(f"{address}?__theme={theme}")
    boxes = "#csv textarea, #level input, #calibration input"
    page.wait_for_selector("#csv textarea")
    page.evaluate(
        """boxes => document.querySelectorAll(boxes).forEach(box => {
            box.style.color = getComputedStyle(box, "::placeholder").color;
        })""",
        boxes,
    )
    found = page.evaluate(CONTRASTS, boxes)
    assert len(found) == 3 and min(found) >= 4.5  # they show the format
    page.click("#example")
    page.wait_for_selector(".band")
    small = page.evaluate(CONTRASTS, ".figures span, .verdict, .note, .legend span")
    assert len(small) == 9 and min(small) >= 4.5
    assert min(page.evaluate(CONTRASTS, ".figures b")) >= 3
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTEFACTS / f"coverage-page-{theme}.png", full_page=True)
    page.fill("#level input", "0.9")
    page.click("#measure")
    page.wait_for_selector("#result [role=alert]")
    assert min(page.evaluate(CONTRASTS, ".refusal")) >= 4.5


def test_the_api_has_one_function_and_returns_error_messages(app):
    assert {fn.api_name for fn in app.build().fns.values() if fn.api_visibility != "private"} == {"run"}
    with launched(app) as address:
        client = Client(address, verbose=False)
        assert value_in(client.predict(THREE, "", "", api_name="/run")[0]) == "66.7%"
        assert "There are no rows" in client.predict(None, "", "", api_name="/run")[0]
        assert "Give the level in percent" in client.predict(THREE, None, "9", api_name="/run")[0]
