"""The web page of the metric: its functions, and the page itself in a real browser."""

import html
import re
import sys

import numpy as np
import pytest
from bayesian_text_classification.metric import load_metric_module, metric_folder
from gradio_client import Client
from pages import ARTEFACTS, CONTRASTS, launched, opened, served_metric

sys.path.insert(0, str(metric_folder()))  # a Space runs in its own folder
import app
import ece as neighbour

sys.path.remove(str(metric_folder()))
ece = load_metric_module()


def options(kind=0, n_bins=10, binning=0, norm=0):
    return list(app.MEASURES)[kind], n_bins, list(app.BINNINGS)[binning], list(app.NORMS)[norm]


def run(text, divide=False, from_logits=False, **choices):
    """The HTML, the figure and the table. The last two are shown only if they have content."""
    page, figure, table = app.run(text, *options(**choices), divide, from_logits)
    assert figure["visible"] is table["visible"] is bool(table["value"])
    return page, figure["value"], table["value"]


def value_in(page):
    return float(re.search(r'<b id="value">([0-9.]+)</b>', page)[1])


def test_the_page_uses_the_ece_file_in_its_folder():
    assert neighbour.__file__ == str(metric_folder() / "ece.py")


def test_the_example_gets_the_value_of_the_metric():
    lines = [line.split(",") for line in app.example().splitlines()[1:]]
    labels, rows = [int(line[0]) for line in lines], np.array([line[1:] for line in lines], float)
    page, figure, table = run(app.example())
    assert value_in(page) == round(ece.expected_calibration_error(rows, labels), 4)
    assert "are miscalibrated, on average" in page and "400 rows" in page
    assert len(figure.axes) == 2
    assert sum(line[1] for line in table) == 400
    chosen = {"binning": "quantile", "norm": "max", "class_wise": True}
    page, figure, table = run(app.example(), kind=1, n_bins=5, binning=1, norm=2)
    assert value_in(page) == round(ece.expected_calibration_error(rows, labels, 5, **chosen), 4)
    assert len(figure.axes) == 4
    assert len(table) == 10


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_delimiters_line_ends_and_bom_are_accepted(delimiter, end):
    lines = [["Label", "p0", "p1"], ["1", "0.05", "0.95"], ["0", "0", "1.0"]]
    text = "\ufeff" + end.join(delimiter.join(line) for line in lines) + end + end
    table = app.read_csv(text)
    assert table.labels == [1, 0]
    np.testing.assert_array_equal(table.probabilities, [[0.05, 0.95], [0.0, 1.0]])
    assert value_in(run(text)[0]) == 0.475


def test_a_single_column_is_the_positive_class():
    page, _, table = run("p,label\n0.25,0\n0.25,1\n0.75,1\n0.75,1")
    assert value_in(page) == 0.25
    assert [line[0] for line in table] == ["[0.2, 0.3)", "[0.7, 0.8)"]


def test_rounded_rows_are_divided_by_their_sum_on_request():
    text = "label,a,b,c\n0,0.33,0.33,0.33\n1,0.1,0.9,0"
    assert "Row 1 sums to 0.99, not to 1; correct it, or check the box for rounding or logits" in run(text)[0]
    assert value_in(run(text, divide=True)[0]) > 0


def test_logits_are_accepted_with_from_logits():
    text = "label,a,b\n0,2,-1\n1,0.5,0\n1,-3,1"
    assert "Row 1, column a: 2.0 is not a probability; correct it, or check the box for logits" in run(text)[0]
    assert value_in(run(text, from_logits=True)[0]) == 0.2293  # the card's example


def test_changing_options_without_data_does_nothing():
    assert all(update == {"__type__": "update"} for update in app.run_again(" \n", *options()))
    assert value_in(app.run_again("label,p\n1,0.75", *options())[0]) == 0.25


def test_logits_cannot_be_divided():
    page = run("label,a,b\n1,3,1", divide=True, from_logits=True)[0]
    assert "Check only one of the two boxes" in page
    assert "inf" in run("label,a,b\n1,inf,1", divide=True)[0]


@pytest.mark.parametrize("number", [None, 0, -1, 51, 10**9, 2.5, float("nan"), float("inf"), "10", True, [10]])
def test_an_invalid_number_of_bins_shows_a_message(number):
    page, figure, table = run("label,p\n1,0.75", n_bins=number)
    said = "" if number is None else f", not {number}"
    assert f"Give the number of bins as a whole number from 1 to 50{said}.</p>" in page
    assert figure is None and table == []


@pytest.mark.parametrize("given", [None, "every other class", ["Equal width"], 7])
@pytest.mark.parametrize("place", [1, 3, 4])
def test_an_unknown_choice_shows_a_message(place, given):
    inputs = ["label,p\n1,0.75", *options()]
    choices = [None, app.MEASURES, None, app.BINNINGS, app.NORMS][place]
    inputs[place] = given
    assert html.escape(f"{str(given)!r} is not one of the choices: {', '.join(choices)}.") in app.run(*inputs)[0]


def test_missing_text_shows_a_message():
    assert "There are no rows" in run(None)[0]
    assert app.run_again(None, *options()) == (app.gr.skip(),) * 3


def test_the_page_says_which_class_each_column_is():
    assert "Classes: 0 = neg, 1 = pos" in run("label,neg,pos\n1,0.25,0.75")[0]
    assert "Positive class: good." in run("label,good\n1,0.75")[0]


def test_labels_written_as_floats_by_pandas_are_accepted():
    assert value_in(run("label,p\n1.0,0.75")[0]) == 0.25


def test_old_mac_line_ends_are_accepted():
    assert value_in(run("label,p\r1,0.75\r0,0.25")[0]) == 0.25


def test_gaps_of_both_signs_have_no_direction():
    rows = ["0.1,1"] * 30 + ["0.1,0"] * 70 + ["0.9,1"] * 70 + ["0.9,0"] * 30
    page = run("\n".join(["p,label", *rows]))[0]
    assert "are miscalibrated." in page and "on average" not in page


def test_one_row_is_written_in_the_singular():
    assert "1 row<" in run("label,p\n1,0.75")[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "There are no rows: paste a csv, upload one, or load the example."),
        ("label,p0,p1", "There are no rows below the header; add one for each prediction."),
        ("a,b\n1,2", "The first line is 'a', 'b'; name a column label there, and one for each class."),
        ("label\n1", "There is only the column label; add a column of probabilities for each class."),
        ("label,p\n1,x", "Row 1, column p: 'x' is not a finite number; correct it, or remove the row."),
        ("label,p\n1,0.5\n1", "Row 2 has 1 cell; give it 2, like the header."),
        ("label,p\n1,1.5", "Row 1, column p: 1.5 is not a probability; correct it, or check the box for logits"),
        ("label,p0,p1\n1,0,1\n1,0,-2", "Row 2, column p1: -2.0 is not a probability; correct it, or check"),
        ("label,p0,p1\n7,0.5,0.5", "Row 1, column label: 7 is not a class; use 0 to 1, or remove the row."),
        ("label,p0,p1,p2\n-100,1,0,0", "Row 1, column label: -100 is not a class; use 0 to 2, or remove the row."),
        ("label,p0,p1\n1,inf,0", "Row 1, column p0: 'inf' is not a finite number; correct it, or remove the row."),
        ("label,p\n0.9,0.5", "Row 1, column label: 0.9 is not a class; use 0 to 1, or remove the row."),
        ("label,p\n1,nan", "Row 1, column p: 'nan' is not a finite number; correct it, or remove the row."),
        ("label,p\n0,0.5\ninf,0.5", "Row 2, column label: 'inf' is not a finite number"),
        ("label,label,p\n1,0,1", "The header is 'label', 'label', 'p'; give every column a unique name."),
        (",label,p\n0,1,1", "give every column a unique name."),
        ("label,p\n1,0.1_5", "'0.1_5' is not a finite number"),
        ("id,label,p0,p1\n7,1,0.5,0.5", "Column 'id' is not a class; remove it."),
        ("label,p1,p0\n1,0.5,0.5", "The columns are p1, p0; put them in the order of the classes."),
        ("label," + ",".join(f"p{k}" for k in range(1_001)) + "\n0" + ",0" * 1_001, "The csv has 1,001 classes; use"),
        ("label;p\n1;0,5", "'0,5' is not a finite number; use a point as the decimal separator."),
        ("label,p\n,0.5", "Row 1, column label: '' is not a finite number"),
        ("label,<script>alert(1)</script>\n1,x", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ('label,p\n1,"0.5\n' + "1,0.5\n" * 30_000, "look for a quote that is never closed."),
        (
            "label,p\n" + "1,0.5\n" * 50_001,
            "The csv has 50,001 rows with 50,001 probabilities; use at most 50,000 rows",
        ),
        ("label,p\n" + "1,0.5\n" * 900_000, "shorten it to 2,000,000."),
    ],
    ids=lambda value: value[:12],
)
def test_an_invalid_csv_shows_one_sentence_in_words_of_the_page(text, sentence):
    page, figure, table = run(text)
    assert sentence.replace("'", "&#x27;") in page
    assert re.fullmatch(r'<p class="refusal" role="alert">[A-Z]([^.]|[.]\S)*[.]</p>', page)
    assert not re.search(r"predictions|references|from_logits|float64|--\w", page)
    assert figure is None and table == []


def test_a_message_of_the_metric_about_no_row_stays_as_it_is():
    table = app.Table([1], np.array([[0.5]]), ["p"])
    assert app.in_words_of_the_page("predictions is empty; at least one row is needed.", table).startswith(
        "predictions is"
    )


def test_a_file_that_is_not_text_shows_a_message(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"label,p\n1,\xff\xfe")
    text, page, *_ = app.upload(str(tmp_path / "table.csv"))
    assert text == "" and "The file is not UTF-8 text" in page


def test_only_the_first_nine_classes_are_drawn():
    rows = np.random.default_rng(0).dirichlet(np.ones(12), 50)
    lines = [",".join(["label", *(f"p{k}" for k in range(12))])]
    lines += [",".join([str(i % 12), *(repr(float(p)) for p in row)]) for i, row in enumerate(rows)]
    _, figure, _ = run("\n".join(lines), kind=1)
    assert len(figure.axes) == 18
    assert figure.get_suptitle() == "The first 9 of 12 classes"
    assert sum(axes.get_legend() is not None for axes in figure.axes) == 1


# In a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served_metric("ece", tmp_path_factory) as address:
        yield address


@pytest.fixture
def page(address):
    with opened(address) as page:
        yield page


@pytest.mark.slow  # a browser
def test_the_page_in_a_browser(page, tmp_path):
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.wait_for_selector("#csv")
    first = page.inner_text("body")
    assert "ECE is not an error rate." in first and "on a few hundred rows, sampling noise alone raises it" in first
    assert "Row 1 is the first row below the header." in first
    page.get_by_role("button", name="Options").click()
    page.wait_for_selector("text=The columns are logits")
    assert not re.search(r"--\w|\w=True", page.inner_text("body"))

    page.click("#example")
    page.wait_for_selector("#value")
    assert float(page.inner_text("#value")) == value_in(run(app.example())[0])
    page.wait_for_selector("#diagram img")
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTEFACTS / "ece-page.png", full_page=True)

    (tmp_path / "mine.csv").write_text("label,p0,p1\n1,0.05,0.95\n0,0.0,1.0\n")
    page.set_input_files("input[type=file]", tmp_path / "mine.csv")
    page.wait_for_function("document.querySelector('#value')?.innerText === '0.4750'")
    assert "2 rows" in page.inner_text("#result")

    page.fill("#csv textarea", "label,p\n1,1.5")
    page.click("#measure")
    page.wait_for_selector("#result [role=alert]")
    assert "Row 1, column p: 1.5 is not a probability" in page.inner_text("#result")
    page.wait_for_selector("#diagram", state="hidden")
    page.wait_for_selector("#bins", state="hidden")
    page.screenshot(path=ARTEFACTS / "ece-page-refusal.png")
    assert errors == []


@pytest.mark.slow  # a browser
def test_the_page_on_the_dark_theme(page, address):
    page.goto(f"{address}?__theme=dark")
    page.click("#example")
    page.wait_for_selector("#diagram img")
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTEFACTS / "ece-page-dark.png", full_page=True)
    image = page.get_attribute("#diagram img", "src")
    found = page.evaluate(
        """async source => {
            const image = new Image(); image.src = source; await image.decode();
            const canvas = new OffscreenCanvas(image.width, image.height), brush = canvas.getContext("2d");
            brush.drawImage(image, 0, 0);
            return Array.from(brush.getImageData(1, 1, 1, 1).data);
        }""",
        image,
    )
    assert found[3] == 0  # transparent


@pytest.mark.slow  # a browser
def test_the_page_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    heights = {page.locator(name).bounding_box()["height"] for name in ("#file", "#example", "#measure")}
    assert len(heights) == 1  # no label is broken into two lines
    page.click("#example")
    page.wait_for_selector("#value")
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTEFACTS / "ece-page-telephone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("scrollY") > 0  # to the result
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    page.fill("#csv textarea", "label,p\n1,1.5")
    page.click("#measure")
    page.wait_for_selector("#result [role=alert]")
    page.wait_for_timeout(1_500)
    place = page.locator("#result [role=alert]").bounding_box()
    assert place["y"] >= 0 and place["y"] + place["height"] <= 844


@pytest.mark.slow  # a browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(page, address, theme):
    page.goto(f"{address}?__theme={theme}")
    page.wait_for_selector("#csv textarea")
    page.evaluate(
        """() => {
            const box = document.querySelector("#csv textarea");
            box.style.color = getComputedStyle(box, "::placeholder").color;
        }"""
    )
    assert min(page.evaluate(CONTRASTS, "#csv textarea")) >= 4.5  # it shows the format
    page.click("#example")
    page.wait_for_selector("#diagram img")
    small = page.evaluate(CONTRASTS, ".figures span, .verdict, .columns")
    large = page.evaluate(CONTRASTS, ".figures b")
    assert len(small) == 6 and min(small) >= 4.5
    assert len(large) == 2 and min(large) >= 3
    turned = page.evaluate("getComputedStyle(document.querySelector('#diagram img')).filter")
    assert turned == ("none" if theme == "light" else "invert(1) hue-rotate(180deg)")  # the ink is for a white page
    page.fill("#csv textarea", "label,p\n1,1.5")
    page.click("#measure")
    page.wait_for_selector("#result [role=alert]")
    assert min(page.evaluate(CONTRASTS, ".refusal")) >= 4.5


@pytest.mark.slow  # a browser
def test_the_number_of_bins_can_be_set_by_keyboard_and_cleared(page):
    page.click("#example")
    page.wait_for_selector("#value")
    text = app.example()
    page.get_by_role("button", name="Options").click()
    slider = page.get_by_role("slider", name="Bins")
    for key, bins in (("ArrowRight", 11), ("ArrowLeft", 10), ("Home", 1)):
        slider.press(key)
        value = f"{value_in(run(text, n_bins=bins)[0]):.4f}"
        page.wait_for_function("value => document.querySelector('#value')?.innerText === value", arg=value)
    page.get_by_label("number input for Bins").fill("")
    page.wait_for_function("document.querySelector('#result').innerText.includes('Give the number of bins')")


def test_the_api_has_one_function_and_returns_error_messages():
    assert {fn.api_name for fn in app.build().fns.values() if fn.api_visibility != "private"} == {"run"}
    with launched(app) as address:
        client = Client(address, verbose=False)
        for place, given, said in (
            (0, None, "There are no rows"),
            (1, "every other class", "is not one of the choices"),
            (1, None, "is not one of the choices"),
            (2, None, "Give the number of bins"),
            (2, 0, "Give the number of bins"),
            (2, 10**9, "Give the number of bins"),
        ):
            inputs = ["label,p\n1,0.75", *options(), False, False]
            inputs[place] = given
            assert said in client.predict(*inputs, api_name="/run")[0]
