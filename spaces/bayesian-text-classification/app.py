"""The demo: the frequentist and Bayesian confidence of a text side by side, and a comparison on labeled texts."""

import copy
import html
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from bayesian_text_classification import TASK
from bayesian_text_classification.evaluation.arms import TITLES
from bayesian_text_classification.evaluation.run import compare, total_rows
from bayesian_text_classification.evaluation.verdict import verdict
from bayesian_text_classification.loading.labeled_texts import LabeledTexts, load_labeled_texts
from bayesian_text_classification.loading.labels import DataError
from bayesian_text_classification.pipeline.masks import GROUP_SIZE
from bayesian_text_classification.pipeline.uncertainty import over_classes
from bayesian_text_classification.report import ReportSettings
from bayesian_text_classification.report.figures import pictures, reliability_diagrams
from bayesian_text_classification.report.html import as_html
from bayesian_text_classification.wording import row_name
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from transformers import pipeline
from transformers.utils import logging

MAX_CHARACTERS = 400  # of a text in a csv
MAX_TYPED = 20_000  # characters of a typed text; the model reads the beginning
MAX_BYTES = 200_000
MAX_ROWS = 200
LEAST_SAMPLES, MOST_SAMPLES = 10, 100
LABELED_SAMPLES = 20
SCOPE_TEXTS = 1_000  # review sentences that novelty is measured from
NEW = 0.01  # share of such sentences that may seem new
LITTLE_DOUBT = 0.25  # share of the maximum uncertainty
MANY_POINTS = 0.1  # difference between the two probabilities
GLANCE = 0.5  # seconds between two progress updates of a comparison
INK = "#4b5563"  # for a white page; on the dark theme, CSS inverts the plots
ORDINARY, AVERAGED = "#D55E00", "#1A80BB"  # contrast of at least 3:1 on both themes

EXAMPLES = [
    "So bad that it is almost good.",
    "I cannot recommend it enough.",
    "You will laugh, though not where they meant you to.",
    "I expected nothing and got a little more.",
    "A joy from start to finish.",
]
STRANGE = ["asdf qwer", "Der Film war furchtbar langweilig und viel zu lang."]  # answered too, with a note

INTRODUCTION = """
# How confident should this classifier be?
A sentiment classifier answers once as usual, and many times with dropout left on (MC-Dropout). Where its answers
differ, trust them less.

**Limits:** the model only knows the sentiment of English film reviews (SST-2). Noise and other languages get confident
answers too; where the page notices, it says so.
"""

logging.set_verbosity_error()
CLASSIFIER = pipeline(TASK)
MOST_TOKENS = CLASSIFIER.tokenizer.model_max_length
CLASSIFIER.learn_scope(load_labeled_texts("reviews", CLASSIFIER.model.config.id2label, max_texts=SCOPE_TEXTS).texts)
COUNTER = copy.deepcopy(CLASSIFIER.tokenizer)  # never truncates; threads that share a tokenizer share its truncation
NAMES = CLASSIFIER.model.config.id2label


def classify(text: str | None, num_samples: float | None) -> tuple[str, Any, Any]:
    """The result for one text: HTML and two plots."""
    text = (text or "").strip()
    hidden = gr.update(value=None, visible=False)
    try:
        if not text:
            raise ValueError("Type a sentence, or click an example.")
        if len(text) > MAX_TYPED:
            raise ValueError(f"The text has {len(text):,} characters; shorten it to {MAX_TYPED:,}.")
        count = number_of_samples(num_samples)
        ordinary = CLASSIFIER.predict_proba([text], num_samples=0)[0]
        samples = CLASSIFIER.sample_proba([text], num_samples=count)
        (p_value,) = CLASSIFIER.scope.p_values(CLASSIFIER.novelty([text]))
    except ValueError as error:
        return refusal(error), hidden, hidden
    drawn = spread(ordinary, samples[0]), running_average(ordinary, samples)
    shown = cut(number_of_tokens(text)) + unlike(p_value) + summary(ordinary, samples)
    return shown, *(gr.update(value=figure, visible=True) for figure in drawn)


def number_of_tokens(text: str) -> int:
    """Number of tokens of a text before truncation, including those that the tokenizer adds."""
    return len(COUNTER(text)["input_ids"])


def cut(tokens: int) -> str:
    """A note, as HTML, that a text of this many tokens was truncated; "" if it was not."""
    if tokens <= MOST_TOKENS:
        return ""
    return f"""<p class="cut" role="note"><b>This text was cut.</b> It has {tokens:,} tokens (words and pieces of
words), and the model reads at most {MOST_TOKENS}, from the beginning.</p>"""


def unlike(p_value: float) -> str:
    """A note, as HTML, that a text is unlike reviews; "" if at least 1% of review sentences are as far away."""
    if p_value > NEW:
        return ""
    return f"""<p class="unlike" role="note"><b>This text is unlike a review.</b> Fewer than {p_value:.1%} of review
sentences look as strange to the model. Do not rely on either answer.</p>"""


def number_of_samples(given: Any) -> int:
    """`given` as an int. Raises ValueError unless it is a whole number in range."""
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not (number and LEAST_SAMPLES <= given <= MOST_SAMPLES and given == int(given)):
        shown = "" if given is None else f", not {str(given)[:40]}"
        raise ValueError(f"Give the number of samples as a whole number from {LEAST_SAMPLES} to {MOST_SAMPLES}{shown}.")
    return int(given)


def summary(ordinary: np.ndarray, samples: np.ndarray) -> str:
    """Both answers and the uncertainty in plain words, as HTML. `ordinary` (classes,), `samples` (1, classes, T)."""
    found = over_classes(samples, GROUP_SIZE)
    mean = found.mean[0]
    most = np.log(len(mean))
    of_text, of_model = float(found.expected_entropy[0]) / most, float(found.mutual_information[0]) / most
    one_mind = bool((samples[0].argmax(0) == mean.argmax()).all())
    note = f"&plusmn; {100 * standard_errors(samples)[-1]:.1f} points from {samples.shape[2]} samples (standard error)"
    return f"""
<div class="figures">
  {answer("the ordinary model", ordinary, "a single forward pass", "ordinary")}
  {answer("the average over its dropout masks", mean, note, "averaged")}
</div>
<p class="verdict" id="words">{words(ordinary, mean, of_text, of_model, one_mind)}</p>
<div class="split" title="share of the maximum uncertainty">
  <i class="text" style="width: {of_text:.1%}"></i><i class="model" style="width: {of_model:.1%}"></i>
</div>
<p class="key"><span>Share of the maximum uncertainty:</span>
<span><i class="text"></i> {of_text:.0%}: each sample by itself is unsure, on average</span>
<span><i class="model"></i> {of_model:.0%}: the samples disagree with each other</span></p>
"""


def standard_errors(samples: np.ndarray) -> np.ndarray:
    """Standard errors of the average of the first 1 to T samples, for the winning label; `samples` (1, classes, T)."""
    best = samples[0].mean(1).argmax()
    own = CLASSIFIER.spread
    found = [over_classes(samples[:, :, :n], GROUP_SIZE, own) for n in range(1, samples.shape[2] + 1)]
    return np.array([min(one.standard_error[0, best], one.std[0, best]) for one in found])


def answer(title: str, probabilities: np.ndarray, note: str, kind: str) -> str:
    """One of the two cards, as HTML."""
    best = int(probabilities.argmax())
    label = html.escape(str(NAMES[best]).lower())
    share = f"{probabilities[best]:.1%}"
    return f"""<div><span>{title}</span><b class="{kind}">{share}</b><span>confident that it is <em>{label}</em></span>
  <div class="bar"><i class="{kind}" style="width: {share}"></i></div><span>{note}</span></div>"""


def words(ordinary: np.ndarray, mean: np.ndarray, of_text: float, of_model: float, one_mind: bool) -> str:
    """The interpretation of the result in plain words.

    Args:
        ordinary: Probabilities without dropout. *Shape:* (classes,).
        mean: Average of the samples. *Shape:* (classes,).
        of_text: Expected entropy of the samples, as a share of the maximum entropy.
        of_model: Mutual information of the samples, as a share of the maximum entropy.
        one_mind: Whether every sample chooses the label that the average chooses.
    """
    gap = ordinary.max() - mean.max()
    doubtful = of_text + of_model >= LITTLE_DOUBT
    if ordinary.argmax() != mean.argmax():
        if not doubtful:
            return (
                "The two disagree on the label, although the samples show little doubt. Check before you trust either."
            )
        first = "The two disagree on the label, so this answer is fragile."
    elif gap > MANY_POINTS:
        first = f"The ordinary model is {100 * gap:.0f} points more confident than the average of its samples."
    elif gap < -MANY_POINTS:
        first = f"The average of the samples is {-100 * gap:.0f} points more confident than the ordinary model."
    else:
        first = "The two agree."
    if not doubtful:
        return f"{first} The model has little doubt about this text, which does not make it right."
    if of_model > of_text / 2:
        what = "differ in their confidence" if one_mind else "contradict each other"
        return f"{first} The samples {what}, which is common for texts unlike the training data."
    return f"{first} Most of the uncertainty is in every sample: the model finds the text ambiguous."


def spread(ordinary: np.ndarray, samples: np.ndarray) -> Figure:
    """Histogram of the sampled probabilities of the winning label. `samples` (classes, T)."""
    best = int(samples.mean(1).argmax())
    p = samples[best].astype(np.float64)
    figure, axes = _picture()
    axes.hist(p, np.linspace(0, 1, 26), color=AVERAGED, alpha=0.75, label="samples")
    axes.axvline(ordinary[best], color=ORDINARY, linestyle="--", linewidth=2, label="ordinary model")
    axes.axvline(p.mean(), color=AVERAGED, linewidth=2, label="average")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    name = str(NAMES[best]).lower()
    axes.set(xlim=(0, 1), xlabel=f"probability of {name}", ylabel="samples", title="What the samples say")
    return _finished(figure)


def running_average(ordinary: np.ndarray, samples: np.ndarray) -> Figure:
    """The average of the winning label as samples are added, with its standard error. `samples` (1, classes, T)."""
    best = int(samples[0].mean(1).argmax())
    p = samples[0, best].astype(np.float64)
    count = np.arange(1, len(p) + 1)
    running, error = np.cumsum(p) / count, standard_errors(samples)
    figure, axes = _picture()
    band = {"color": AVERAGED, "alpha": 0.25, "linewidth": 0, "label": "\u00b1 standard error"}
    axes.fill_between(count, running - error, running + error, **band)
    axes.plot(count, running, color=AVERAGED, linewidth=2, label="average so far")
    axes.axhline(ordinary[best], color=ORDINARY, linestyle="--", linewidth=2, label="ordinary model")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name = str(NAMES[best]).lower()
    axes.set(xlim=(1, len(p)), ylim=(0, 1), xlabel="number of samples", ylabel=f"probability of {name}")
    axes.set_title("How many samples are enough")
    return _finished(figure)


def _picture() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 3.1), dpi=200, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    return figure, figure.subplots()


def _finished(figure: Figure) -> Figure:
    """Style the plot with the page's text color and a transparent background."""
    (axes,) = figure.axes
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    axes.set_facecolor("none")
    axes.tick_params(colors=INK)
    axes.spines[:].set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)
    figure.set_facecolor("none")
    return figure


def refusal(error: Exception | str) -> str:
    """The error message as an HTML paragraph."""
    message = str(error).rstrip(".")
    return f'<p class="refusal" role="alert">{html.escape(message[:1].upper() + message[1:])}.</p>'


class Stopped(Exception):  # not an error: nothing went wrong
    """Raised inside the sampling once nobody waits for the result."""


def compare_csv(file: str | None, left: threading.Event | None = None) -> Iterator[tuple[str, Any, Any]]:
    """The comparison on an uploaded csv: HTML, reliability diagrams and the report as a file."""
    hidden = gr.update(value=None, visible=False)
    try:
        if not file:
            raise ValueError("Upload a csv with the columns text and label, or use the example.")
        data = load_labeled_texts(file, NAMES)
        if len(data.texts) > MAX_ROWS:
            raise ValueError(f"The file has {len(data.texts):,} rows; upload at most {MAX_ROWS} of them.")
        for i, text in enumerate(data.texts):
            characters, tokens = len(text), number_of_tokens(text)
            if characters > MAX_CHARACTERS or tokens > MOST_TOKENS:
                raise ValueError(
                    f"Shorten or remove the text in {row_name(i)}: it has {characters:,} characters (at most "
                    f"{MAX_CHARACTERS}) and {tokens:,} tokens (at most {MOST_TOKENS})."
                )
        yield from compared(data, "your csv", left or threading.Event())
    except DataError as error:
        yield refusal(f"correct the csv and upload it again: {of_csv(str(error), str(file))}"), hidden, hidden
    except ValueError as error:
        yield refusal(error), hidden, hidden


def of_csv(message: str, file: str) -> str:
    """The package's message about a csv, without its path or an option of Python."""
    message = re.sub(rf"{re.escape(file)}, (row \d+ \([^)]*\)): ", r"in \1, ", message).replace(file, "the file")
    return re.sub(r" \(choose with \w+=\)", "; name the columns text and label in the first line", message)


def compare_example(left: threading.Event | None = None) -> Iterator[tuple[str, Any, Any]]:
    """The comparison on 60 of the review sentences that come with the package."""
    part = load_labeled_texts("reviews", NAMES, max_texts=60)
    yield from compared(part, "the reviews of the package", left or threading.Event())


def compared(data: LabeledTexts, source: str, left: threading.Event) -> Iterator[tuple[str, Any, Any]]:
    """Progress, and finally the verdict as HTML, the diagrams, and the full report.

    The work runs in its own thread. Once `left` is set, the thread ends after its current batch. Stop sets `left`, and
    so does this iterator when Gradio closes it, which happens when Stop is clicked or the visitor leaves the page. The
    report stays in a temporary folder until Gradio has copied it; Gradio does that before it asks for the next item.
    """
    hidden = gr.update(value=None, visible=False)
    done, total = 0, total_rows(CLASSIFIER, data, num_samples=LABELED_SAMPLES)

    def advance(rows: int) -> None:
        nonlocal done
        if left.is_set():
            raise Stopped
        done += rows

    with tempfile.TemporaryDirectory() as folder:
        worker = ThreadPoolExecutor(1)
        work = worker.submit(comparison_result, data, source, advance)
        worker.shutdown(wait=False)
        try:
            while not (work.done() or left.is_set()):
                yield waiting(done / total), hidden, hidden
                wait([work], GLANCE)
            if left.is_set():
                yield status("Stopping ..."), hidden, hidden  # `ended` shows "Stopped." and enables the buttons
                return
            page, figure, text = work.result()
            report = Path(folder) / "report.html"
            report.write_text(text, encoding="utf-8")
            yield page, gr.update(value=figure, visible=True), gr.update(value=str(report), visible=True)
        finally:
            left.set()


def status(words: str) -> str:
    """A status line as HTML; `ended` distinguishes it from a result by its role."""
    return f'<p class="verdict" role="status">{words}</p>'


def waiting(share: float) -> str:
    """The progress of the sampling, as HTML."""
    line = "Measuring ..." if share >= 1 else f"Sampling ... {share:.0%}"
    return f"""{status(line)}
<div class="bar"><i class="averaged" style="width: {share:.0%}"></i></div>"""


def comparison_result(data: LabeledTexts, source: str, advance: Callable[[int], None]) -> tuple[str, Figure, str]:
    """Verdict and numbers as HTML, the diagrams, and the report as a separate page.

    The advice is only in the report, because it is for users of the package.
    """
    advance(0)  # Stop may have been clicked while the run was waiting in the queue
    comparison = compare(CLASSIFIER, data, num_samples=LABELED_SAMPLES, progress=advance)
    found = verdict(comparison)
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in found.lines)
    keys = ("ece", "accuracy", "nll", "brier")
    rows = "".join(
        f"<tr><td>{TITLES[arm.name]}</td>"
        + "".join(f"<td>{arm.estimates[key].value:.4f}</td>" for key in keys)
        + "</tr>"
        for arm in comparison.arms
    )
    page = f"""<p class="verdict" id="verdict"><b>{html.escape(found.headline)}</b></p>
<div class="wide"><table class="arms"><tr><th></th><th>ECE</th><th>accuracy</th><th>NLL</th><th>Brier</th></tr>{rows}
</table></div>
<ul>{lines}</ul>
<p>The report below adds the pictures, the misclassified texts, and what to do.</p>"""
    settings = ReportSettings("the demo's classifier", source, num_samples=LABELED_SAMPLES)
    report = as_html(comparison, data, list(NAMES.values()), settings, found, pictures(comparison))
    return page, reliability_diagrams(comparison.arms), report


CSS = """
.figures { display: flex; gap: 1rem; flex-wrap: wrap; }
.figures > div {
  flex: 1 1 14rem; padding: .9rem 1.1rem; border: 1px solid var(--border-color-primary); border-radius: .6rem;
}
.figures span, .key, .key span { color: var(--neutral-600); font-size: .9rem; }
.dark .figures span { color: var(--neutral-300); }
.dark .key { color: var(--neutral-300); }
.dark .key span { color: var(--neutral-300); }
.figures span { display: block; }
.figures b { font-size: 2.2rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.figures em { font-style: normal; font-weight: 600; color: var(--body-text-color); }
b.ordinary { color: #D55E00; } b.averaged { color: #1A80BB; }
.bar, .split {
  height: .55rem; border-radius: .3rem; background: var(--border-color-primary); overflow: hidden; margin: .5rem 0;
}
.bar i, .split i { display: block; height: 100%; } .split { display: flex; }
i.ordinary { background: #D55E00; } i.averaged { background: #1A80BB; }
i.text { background: #E69F00; } i.model { background: #CC79A7; }
.key span { display: inline-block; margin-right: .8rem; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; vertical-align: -.1rem; }
.verdict { font-size: 1.05rem; margin: .8rem 0 0; }
.refusal, .cut, .unlike {
  padding: .9rem 1.1rem; border-left: 4px solid #c1121f; background: var(--background-fill-secondary);
}
.cut, .unlike { border-color: #E69F00; margin-bottom: .8rem; }
#panels img { max-width: min(30rem, 100%); margin: auto; }
.wide, #diagrams .matplotlib { overflow-x: auto; }
#diagrams .matplotlib { align-items: safe center; }
.wide { margin: .8rem 0; }
#diagrams img { min-width: 46rem; }
.arms td, .arms th {
  padding: .25rem .5rem; text-align: right; font-size: .85rem; font-variant-numeric: tabular-nums;
}
.arms td:first-child { text-align: left; }
/* If the next answer takes more than a second, the last one fades and the time is shown. */
#result .pending { opacity: .3; }
#result .pending, #result [data-testid=status-tracker]:not(.hide) { transition: opacity .1s 1s; }
/* Gradio's own status sometimes reports a stopped run as an error. */
#comparison-result [data-testid=status-tracker] { display: none; }
/* Plots are drawn in dark ink. On the dark theme, invert the lightness and keep the hues. */
.dark #panels img { filter: invert(1) hue-rotate(180deg); }
.dark #diagrams img { filter: invert(1) hue-rotate(180deg); }
"""

INTO_VIEW = "() => document.querySelector('#result').scrollIntoView({block: 'nearest', behavior: 'smooth'})"


def build() -> gr.Blocks:
    """Build the page."""
    with gr.Blocks(title="Bayesian text classification", delete_cache=(600, 3600)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Tab("One text"):
            text = gr.Textbox(label="A sentence in English", value=EXAMPLES[0], lines=2, max_lines=6, elem_id="text")
            go = gr.Button("Classify", variant="primary", elem_id="classify")
            ready = gr.Examples([*EXAMPLES, *STRANGE], text, label="Or click one", api_visibility="private")
            result = gr.HTML(status("Sampling ..."), elem_id="result")
            num_samples = gr.Slider(LEAST_SAMPLES, MOST_SAMPLES, value=20, step=10, label="Samples", elem_id="samples")
            # Gradio's own check crashes on an empty field; `number_of_samples` has a message for each case.
            num_samples.preprocess = lambda given: given
            with gr.Row(elem_id="panels"):
                drawn = [gr.Plot(show_label=False, min_width=300, visible=False) for _ in range(2)]
            asked = [go.click, text.submit, text.change, num_samples.change, page.load]
            inputs, outputs = [text, num_samples], [result, *drawn]
            gr.on(asked, classify, inputs, outputs, trigger_mode="always_last", show_progress_on=result)
            gr.on([go.click, ready.dataset.click], None, js=INTO_VIEW, api_visibility="private")
        with gr.Tab("Your labeled texts"):
            gr.Markdown(
                f"Upload a csv with the columns **text** and **label** (0 or 1, or "
                f"{' and '.join(map(str, NAMES.values()))}), up to {MAX_ROWS} rows and {MAX_CHARACTERS} characters per "
                f"text. It takes one or two seconds per row. Uploads are deleted after about an hour."
            )
            with gr.Row():
                file = gr.File(label="csv", file_types=[".csv", ".tsv"], elem_id="file")
                with gr.Column():
                    buttons = [
                        gr.Button("Compare", variant="primary", elem_id="compare"),
                        gr.Button("Use 60 reviews as an example", elem_id="example"),
                        gr.Button("Stop", variant="stop", elem_id="stop", interactive=False),
                    ]
            result = gr.HTML(elem_id="comparison-result")
            diagrams = gr.Plot(show_label=False, elem_id="diagrams", visible=False)
            report = gr.File(label="The full report, one page", elem_id="report", visible=False)
            shown = [result, diagrams, report]
            _comparisons(*buttons, file, shown)
    return page


def _comparisons(measure: gr.Button, example: gr.Button, stop: gr.Button, file: gr.File, shown: list[Any]) -> None:
    """Connect the buttons. One comparison runs at a time, per page and machine; Stop ends it even while it waits."""
    buttons = [measure, example, stop]
    page: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    alone: dict[str, Any] = {"concurrency_id": "comparison", "concurrency_limit": 1, "show_progress": "hidden"}
    hidden = gr.update(value=None, visible=False)

    def line(words: str) -> list[Any]:
        return [status(words), hidden, hidden]

    def running(yes: bool) -> list[Any]:
        return [*[gr.update(interactive=not yes)] * 2, gr.update(value="Stop", interactive=yes)]

    def ended(shown_html: str) -> list[Any]:
        left = line("Stopped.") if 'role="status"' in shown_html else [gr.skip()] * 3
        return [*left, *running(False)]

    left = gr.State()  # the event of the run
    runs = []
    for button, run, inputs, visibility in (
        (measure, compare_csv, [file, left], "public"),
        (example, compare_example, [left], "private"),
    ):
        begun = button.click(
            lambda: [*line("Waiting in the queue ..."), *running(True), threading.Event()],
            None,
            [*shown, *buttons, left],
            **page,
        )
        runs.append(begun.then(run, inputs, shown, api_visibility=visibility, **alone))
        # Runs after all output of the run is shown. At the click on Stop, output on its way would still appear later.
        runs[-1].then(ended, shown[0], [*shown, *buttons], **page)
    # Both are needed: a client that is still joining the queue has no id yet with which it could cancel.
    stop.click(lambda event: event.set(), left, None, **page)
    stop.click(None, None, stop, js="() => 'Stopping ...'", cancels=runs)


if __name__ == "__main__":
    build().queue(default_concurrency_limit=1, max_size=20).launch(
        css=CSS, theme=gr.themes.Soft(font=["system-ui", "sans-serif"]), max_file_size=MAX_BYTES
    )
