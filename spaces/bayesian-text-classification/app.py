"""The demo: a text's frequentist and Bayesian confidence side by side, and a comparison on labelled texts."""

import html
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from bayesian_text_classification import TASK
from bayesian_text_classification.data import DataError, LabelledTexts, embedded_reviews, load_labelled_texts
from bayesian_text_classification.evaluation import compare, total_rows
from bayesian_text_classification.figures import TITLES, reliability_diagrams
from bayesian_text_classification.report import write_report
from bayesian_text_classification.uncertainty import over_classes
from bayesian_text_classification.verdict import advice, verdict
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from transformers import pipeline
from transformers.utils import logging

MAX_CHARACTERS = 400  # of a text: with 100 samples some seconds on two cores
MAX_BYTES = 200_000
MAX_ROWS = 200
REPORTS = Path(tempfile.gettempdir()) / "bayesian-text-classification-demo"  # until Gradio has its own copy
LABELLED_SAMPLES = 20
INK = "#80868f"  # reads as well on white as on the panels of the dark theme
ORDINARY, AVERAGED = "#D55E00", "#0072B2"

EXAMPLES = [
    "So bad that it is almost good.",
    "I cannot recommend it enough.",
    "You will laugh, though not where they meant you to.",
    "I expected nothing and got a little more.",
    "A joy from start to finish.",
]

logging.set_verbosity_error()
CLASSIFIER = pipeline(TASK)
NAMES = CLASSIFIER.model.config.id2label


def classify(text: str, num_samples: int) -> tuple[str, Any]:
    """What the page shows of a text: HTML and two panels."""
    text = text.strip()
    try:
        if not text:
            raise ValueError("Type a sentence, or click an example.")
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"The text has {len(text):,} characters; this page takes up to {MAX_CHARACTERS:,}.")
        ordinary = CLASSIFIER.predict_proba([text], num_samples=0)[0]
        samples = CLASSIFIER.sample_proba([text], num_samples=int(num_samples))
    except ValueError as error:
        return refusal(error), gr.update(value=None, visible=False)
    return summary(ordinary, samples), gr.update(value=panels(ordinary, samples[0]), visible=True)


def summary(ordinary: np.ndarray, samples: np.ndarray) -> str:
    """Both answers and the uncertainty in plain words, as HTML. `ordinary` (classes,), `samples` (1, classes, T)."""
    found = over_classes(samples, 10)
    mean = found.mean[0]
    most = np.log(len(mean))
    of_text, of_model = float(found.expected_entropy[0]) / most, float(found.mutual_information[0]) / most
    error = float(found.standard_error[0, mean.argmax()])
    return f"""
<div class="figures">
  {answer("the ordinary model", ordinary, "one answer, no second opinion", "ordinary")}
  {answer("averaged over its dropout masks", mean, f"&plusmn; {error:.3f} from {samples.shape[2]} samples", "averaged")}
</div>
<p class="verdict" id="words">{words(ordinary, mean, of_text, of_model)}</p>
<div class="split" title="share of the greatest possible uncertainty">
  <i class="text" style="width: {of_text:.1%}"></i><i class="model" style="width: {of_model:.1%}"></i>
</div>
<p class="key"><i class="text"></i> {of_text:.0%}: every sample hesitates over this text &nbsp;
<i class="model"></i> {of_model:.0%}: the samples disagree with each other &nbsp; (of the greatest possible doubt)</p>
"""


def answer(title: str, probabilities: np.ndarray, note: str, kind: str) -> str:
    """One of the two cards."""
    best = int(probabilities.argmax())
    label = html.escape(str(NAMES[best]).lower())
    share = f"{probabilities[best]:.1%}"
    return f"""<div><span>{title}</span><b class="{kind}">{share}</b><span>sure that it is <em>{label}</em></span>
  <div class="bar"><i class="{kind}" style="width: {share}"></i></div><span>{note}</span></div>"""


def words(ordinary: np.ndarray, mean: np.ndarray, of_text: float, of_model: float) -> str:
    """What a reader should make of it."""
    if ordinary.argmax() != mean.argmax():
        first = "The two do not even agree: this answer hangs on a thread."
    elif ordinary.max() - mean.max() > 0.1:
        first = f"The ordinary model is {100 * (ordinary.max() - mean.max()):.0f} points surer than its own samples."
    else:
        first = "The two agree."
    if of_text + of_model < 0.25:
        return f"{first} There is little doubt about this text."
    if of_model > of_text / 2:
        return f"{first} The samples contradict each other: the model was not trained on texts like this one."
    return f"{first} Most samples hesitate in the same way: to this model the text reads both ways."


def panels(ordinary: np.ndarray, samples: np.ndarray) -> Figure:
    """The winning label's probability in each sample, and its average as samples are added. `samples` (classes, T)."""
    best = int(samples.mean(1).argmax())
    p = samples[best].astype(np.float64)
    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(p, np.linspace(0, 1, 26), color=AVERAGED, alpha=0.75, label="samples")
    left.axvline(ordinary[best], color=ORDINARY, linestyle="--", linewidth=2, label="ordinary model")
    left.axvline(p.mean(), color=AVERAGED, linewidth=2, label="average")
    name = str(NAMES[best]).lower()
    left.set(xlim=(0, 1), xlabel=f"probability of {name}", ylabel="samples", title="What single samples say")
    count = np.arange(1, len(p) + 1)
    running = np.cumsum(p) / count
    spread = np.array([p[:n].std() for n in count]) / np.sqrt(count)
    right.fill_between(count, running - 2 * spread, running + 2 * spread, color=AVERAGED, alpha=0.2, linewidth=0)
    right.plot(count, running, color=AVERAGED, linewidth=2, label="average so far")
    right.axhline(ordinary[best], color=ORDINARY, linestyle="--", linewidth=2, label="ordinary model")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(xlim=(1, max(len(p), 2)), ylim=(0, 1), xlabel="number of samples", title="How many samples it takes")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="best")
        axes.set_facecolor("none")
        axes.tick_params(colors=INK)
        axes.spines[:].set_color(INK)
        axes.spines[["top", "right"]].set_visible(False)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(INK)
    figure.set_facecolor("none")
    return figure


def refusal(error: Exception) -> str:
    """A sentence about what is wrong."""
    return f'<p class="refusal" role="alert">{html.escape(str(error))}</p>'


def compare_csv(file: str | None, progress: gr.Progress = gr.Progress()) -> Iterator[tuple[str, Any, Any]]:  # noqa: B008
    """The comparison on an uploaded csv: HTML, reliability diagrams and the report as a file."""
    hidden = gr.update(value=None, visible=False)
    try:
        if not file:
            raise ValueError("Upload a csv with the columns text and label, or take the example.")
        data = load_labelled_texts(file, NAMES)
        if len(data.texts) > MAX_ROWS:
            raise ValueError(
                f"The file has {len(data.texts):,} rows; this page takes up to {MAX_ROWS}, the package any number."
            )
        longest = max(map(len, data.texts))
        if longest > MAX_CHARACTERS:
            raise ValueError(f"A text has {longest:,} characters; this page takes up to {MAX_CHARACTERS:,}.")
        yield "<p class='verdict'>Sampling ...</p>", hidden, hidden
        yield compared(data, progress)
    except (DataError, ValueError) as error:
        yield refusal(str(error).replace(str(file), "the file")), hidden, hidden


def compare_example(progress: gr.Progress = gr.Progress()) -> Iterator[tuple[str, Any, Any]]:  # noqa: B008
    """The same on sixty of the reviews that come with the package."""
    reviews = load_labelled_texts(str(embedded_reviews()), NAMES)
    rows = range(0, len(reviews.texts), 5)
    part = LabelledTexts("60 reviews", [reviews.texts[i] for i in rows], [reviews.labels[i] for i in rows], [])
    hidden = gr.update(value=None, visible=False)
    yield "<p class='verdict'>Sampling ...</p>", hidden, hidden
    yield compared(part, progress)


def compared(data: LabelledTexts, progress: gr.Progress) -> tuple[str, Any, Any]:
    """Verdict and numbers as HTML, diagrams, and the whole report."""
    done, total = 0, total_rows(len(data.texts), LABELLED_SAMPLES)

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        progress(done / total, desc="sampling")

    comparison = compare(CLASSIFIER, data, num_samples=LABELLED_SAMPLES, progress=advance)
    found = verdict(comparison)
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in [*found.lines, *advice(comparison, data.labels)])
    keys = ("ece", "accuracy", "nll", "brier")
    rows = "".join(
        f"<tr><td>{TITLES[arm.name]}</td>"
        + "".join(f"<td>{arm.estimates[key].value:.4f}</td>" for key in keys)
        + "</tr>"
        for arm in comparison.arms
    )
    page = f"""<p class="verdict" id="verdict"><b>{html.escape(found.headline)}</b></p>
<table class="arms"><tr><th></th><th>ECE</th><th>accuracy</th><th>NLL</th><th>Brier</th></tr>{rows}</table>
<ul>{lines}</ul>"""
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir()
    settings = {"model": "embedded", "dataset": "your csv", "num_samples": LABELLED_SAMPLES}
    report, *_ = write_report(REPORTS, comparison, data, list(NAMES.values()), settings)
    figure = reliability_diagrams(comparison.arms)
    return page, gr.update(value=figure, visible=True), gr.update(value=str(report), visible=True)


def forget() -> None:
    """Remove the report from this machine; the page has its own copy, for an hour."""
    shutil.rmtree(REPORTS, ignore_errors=True)


CSS = """
.figures { display: flex; gap: 1rem; flex-wrap: wrap; }
.figures > div {
  flex: 1 1 14rem; padding: .9rem 1.1rem; border: 1px solid var(--border-color-primary); border-radius: .6rem;
}
.figures span { display: block; color: var(--body-text-color-subdued); font-size: .9rem; }
.figures b { font-size: 2.2rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.figures em { font-style: normal; font-weight: 600; color: var(--body-text-color); }
b.ordinary { color: #D55E00; } b.averaged { color: #3a8fc7; }
.bar, .split {
  height: .55rem; border-radius: .3rem; background: var(--border-color-primary); overflow: hidden; margin: .5rem 0;
}
.bar i, .split i { display: block; height: 100%; } .split { display: flex; }
i.ordinary { background: #D55E00; } i.averaged { background: #0072B2; }
i.text { background: #E69F00; } i.model { background: #CC79A7; }
.key { color: var(--body-text-color-subdued); font-size: .9rem; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; vertical-align: -.1rem; }
.verdict { font-size: 1.05rem; margin: .8rem 0 0; }
.refusal { padding: .9rem 1.1rem; border-left: 4px solid #c1121f; background: var(--background-fill-secondary); }
.arms td, .arms th { padding: .25rem .8rem; text-align: right; font-variant-numeric: tabular-nums; }
.arms td:first-child { text-align: left; }
"""


def build() -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="Bayesian text classification", delete_cache=(600, 3600)) as page:
        gr.Markdown(
            "# How sure may this classifier be?\nA sentiment classifier, asked once as usual, and many times with "
            "its dropout on (MC-Dropout). Where its answers differ, so should your trust."
        )
        with gr.Tab("One text"):
            text = gr.Textbox(
                label="A sentence in English", value=EXAMPLES[0], lines=2, max_length=MAX_CHARACTERS, elem_id="text"
            )
            with gr.Row():
                num_samples = gr.Slider(10, 100, value=20, step=10, label="Samples", elem_id="samples")
                go = gr.Button("Classify", variant="primary", elem_id="classify")
            gr.Examples(EXAMPLES, text, label="Or click one")
            result = gr.HTML(elem_id="result")
            plot = gr.Plot(show_label=False, elem_id="panels", visible=False)
            inputs, outputs = [text, num_samples], [result, plot]
            asked = [go.click, text.submit, text.change, num_samples.release, page.load]
            gr.on(asked, classify, inputs, outputs, trigger_mode="always_last", show_progress="hidden")
        with gr.Tab("Your labelled texts"):
            gr.Markdown(
                f"A csv with the columns **text** and **label** (0 or 1, or {' and '.join(map(str, NAMES.values()))}), "
                f"up to {MAX_ROWS} rows. It takes a second or two a row. Uploads are deleted after about an hour."
            )
            with gr.Row():
                file = gr.File(label="csv", file_types=[".csv", ".tsv"], elem_id="file")
                with gr.Column():
                    measure = gr.Button("Compare", variant="primary", elem_id="compare")
                    example = gr.Button("Take 60 reviews as an example", elem_id="example")
                    stop = gr.Button("Stop", variant="stop", elem_id="stop")
            told = gr.HTML(elem_id="told")
            diagrams = gr.Plot(show_label=False, elem_id="diagrams", visible=False)
            report = gr.File(label="The whole report, one page", elem_id="report", visible=False)
            shown = [told, diagrams, report]
            runs = [measure.click(compare_csv, file, shown), example.click(compare_example, None, shown)]
            for run in runs:
                run.then(forget)
            stop.click(None, cancels=runs)
    return page


if __name__ == "__main__":
    build().queue(default_concurrency_limit=1, max_size=20).launch(
        css=CSS, theme=gr.themes.Soft(font=["system-ui", "sans-serif"]), max_file_size=MAX_BYTES
    )
