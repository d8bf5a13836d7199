"""The HTML report: its content, that it loads nothing else, and its layout in a real browser."""

import json
from dataclasses import replace
from html import unescape

import pytest
from bayesian_text_classification.evaluation import compare, verdict
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.report import ReportSettings, Sources, write
from bayesian_text_classification.report.html import as_html
from pages import ARTEFACTS, opened

pytestmark = pytest.mark.usefixtures("few_resamples")

MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)> & so \u202e on"
TEXTS = [MARKUP, "dull and far too long", "not as bad as they say", "I want my money back", "a wonderful film"] * 4
SETTINGS = ReportSettings("<u>mine</u>", "five <b>texts</b>", seed=0)


@pytest.fixture(scope="module")
def data(classifier):
    """All answers are right except for the text with markup, so that text is listed among the mistakes."""
    said = classifier.predict_proba(TEXTS, num_samples=0).argmax(1)
    labels = [int(1 - label) if text == MARKUP else int(label) for text, label in zip(TEXTS, said, strict=True)]
    return LabeledTexts("five <b>texts</b>", TEXTS, labels, ["a", "b", "<i>c</i>", "b", "a"] * 4)


@pytest.fixture(scope="module")
def comparison(classifier, data):
    return compare(classifier, data, num_samples=10)


@pytest.fixture(scope="module")
def folder(comparison, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write.write_report(folder, comparison, data, ["NEGATIVE", "POSITIVE"], SETTINGS)
    return folder


def test_markup_in_texts_and_names_is_escaped(comparison, data):
    page = as_html(comparison, data, ["<em>neg</em>", "pos"], SETTINGS, verdict(comparison), [])
    for bad in ("<script", "<img", "<b>texts", "<u>mine", "<i>c", "<em>neg"):
        assert bad not in page
    assert "&lt;script&gt;" in page and "&lt;u&gt;mine" in page and "&lt;em&gt;neg" in page


def test_classes_and_confusions_are_those_of_the_recommended_arm(comparison, data):
    page = as_html(comparison, data, ["<em>neg</em>", "pos"], SETTINGS, verdict(comparison), [])
    said = comparison.arm(comparison.recommended).probabilities.argmax(1)
    labels = comparison.labels
    rows = []
    for i, name in enumerate(["&lt;em&gt;neg&lt;/em&gt;", "pos"]):
        own, predicted = labels == i, said == i
        recall, precision = (own & predicted).sum() / own.sum(), (own & predicted).sum() / predicted.sum()
        rows.append(f"<td>{name}</td><td>{own.sum()}</td><td>{recall:.1%}</td><td>{precision:.1%}</td>")
    assert all(row in page for row in rows)
    true, wrong = next((a, b) for a, b in zip(labels, said, strict=True) if a != b)
    names = ["&lt;em&gt;neg&lt;/em&gt;", "pos"]
    assert f"<td>{names[true]}</td><td>{names[wrong]}</td><td>4</td>" in page


def test_a_page_without_samples_has_no_words_about_them(tiny, bayesian, data):
    ours = bayesian(tiny("llama", attention_dropout=0.0, pad_token_id=0))
    found = compare(ours, data)
    page = as_html(found, data, ["NEGATIVE", "POSITIVE"], SETTINGS, verdict(found), [])
    assert "Bayesian model" not in page and "model uncertainty" not in page and "model with a temperature" in page


def test_long_texts_are_shortened(comparison, data):
    long = LabeledTexts(data.name, ["long " * 1_000 + text for text in TEXTS], data.labels, [])
    page = as_html(comparison, long, ["NEGATIVE", "POSITIVE"], SETTINGS, verdict(comparison), [])
    assert "long long ..." in page and "long " * 100 not in page


def test_the_report_folder_has_the_expected_files_and_numbers(folder, comparison, data):
    names = {path.name for path in folder.iterdir()}
    pictures = {
        f"{name}.{end}" for name in ("reliability", "samples", "risk-coverage", "confidence") for end in ("png", "svg")
    }
    assert names == {"report.html", "report.json", "model-card.md", *pictures}
    report = json.loads((folder / "report.json").read_text())
    assert list(report["arms"]) == [arm.name for arm in comparison.arms]
    assert report["arms"]["bayesian"]["nll"]["value"] == comparison.arm("bayesian").estimates["nll"].value
    assert report["arms"]["bayesian"]["differences"]["nll"]["verdict"] in ("better", "worse", "cannot tell")
    assert report["verdict"]["sentences"][0] in unescape((folder / "report.html").read_text())
    assert MARKUP not in (folder / "report.json").read_text()  # no text leaves in it
    assert report["schema_version"] == 1
    assert not comparison.conclusive and report["recommended"] is report["recipe"] is None
    sources = replace(SETTINGS, sources=Sources("mine", {}, "mine.csv", {}))
    sure = [replace(arm, differences={key: replace(one, enough=True) for key, one in arm.differences.items()})
            for arm in comparison.arms]  # fmt: skip
    found = replace(comparison, arms=tuple(sure))
    again = write.as_dict(found, data, sources, verdict(found))
    assert again["recommended"] == "frequentist" and "load('mine', num_samples=0)" in again["recipe"]["python"]
    assert "sources" not in again["settings"]
    page = as_html(found, data, ["NEGATIVE", "POSITIVE"], sources, verdict(found), [])
    assert unescape(page).count(again["recipe"]["command"]) == 1


def test_a_given_verdict_is_not_computed_again(comparison, data, tmp_path, monkeypatch):
    """A run used to compute the verdict four times, and to search for each threshold three times."""
    known = replace(verdict(comparison), headline="It was known.", advice=["And so was this."])
    monkeypatch.setattr(write, "verdict", None)
    write.write_report(tmp_path / "new", comparison, data, ["NEGATIVE", "POSITIVE"], SETTINGS, known)
    for name in ("report.html", "report.json", "model-card.md"):
        assert "It was known." in (tmp_path / "new" / name).read_text()
    assert json.loads((tmp_path / "new" / "report.json").read_text())["advice"] == known.advice


@pytest.mark.slow  # a browser
@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("desktop", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light"), ("phone-dark", 390, "dark")],
)
def test_the_page_in_a_browser(name, width, scheme, folder):
    address = (folder / "report.html").as_uri()
    with opened("about:blank", viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.screenshot(path=ARTEFACTS / f"report-{name}.png", full_page=True)
        assert asked == [address] and said == []
        assert page.title() != "taken"
        assert MARKUP in page.inner_text("body")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width > 1_000:  # the last column is the one that is recommended most often
            table = page.locator(".scroll:has(table)").first
            longest = "+0.0018, no significant difference (140,000)"
            table.evaluate(
                "(e, words) => e.querySelectorAll('td small + small').forEach(one => one.innerText = words)", longest
            )
            assert table.inner_text().count(longest) == 40
            assert table.evaluate("e => e.scrollWidth <= e.clientWidth")
        assert page.locator("figure svg").count() == 4
        ink = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
        assert ink == page.evaluate("getComputedStyle(document.body).color")
