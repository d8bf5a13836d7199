"""The metric as a web page: the calibration error of a csv, its value under sampling noise, a reliability diagram."""

import csv
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from ece import ECE
from matplotlib.figure import Figure

MAX_BYTES = 2_000_000
MAX_ROWS = 50_000
MAX_VALUES = 500_000  # rows x classes
MAX_CLASSES = 1_000
MOST_DIAGRAMS = 9
NO_CLASSES = ("id", "idx", "index", "unnamed: 0", "text", "sentence", "fold", "split")  # common columns, not classes

MEASURES = {"Predicted label (top-label)": "top-label", "Every class (class-wise)": "class-wise"}
BINNINGS = {"Equal width": "uniform", "Equal mass (quantiles)": "quantile"}
NORMS = {"Mean gap (ECE, l1)": "l1", "Root mean square gap (l2)": "l2", "Largest gap (MCE, max)": "max"}

MOST_BINS = 50
INK = "#4b5563"  # for a white page; on the dark theme, CSS inverts the plots

HELP = """
# Expected calibration error
How far is your classifier's confidence from its accuracy?

**Limits:** ECE is not an error rate. A model that is often wrong can have an ECE of 0, and on a few hundred rows,
sampling noise alone raises it.

Use a csv with a header. The column **label** holds the true class (0, 1, 2, ...). Every other column holds the
probability of one class, in the order of the classes. A single such column holds the probability of class 1. Row 1 is
the first row below the header. Uploads are deleted after about an hour.
"""
PLACEHOLDER = "label,p0,p1\n1,0.05,0.95\n0,0.80,0.20\n1,0.61,0.39"


@dataclass(frozen=True)
class Table:
    """The content of a csv: labels (int if whole numbers), probabilities (rows, columns), and column names."""

    labels: list[Any]
    probabilities: np.ndarray
    columns: list[str]

    @property
    def binary(self) -> bool:
        """Whether there is only one column, the probability of the positive class."""
        return self.probabilities.shape[1] == 1


def read_csv(text: str, divide: bool = False) -> Table:
    """Parse a csv, and optionally divide rows by their sum. The ValueErrors count rows from 1, below the header."""
    lines = text.strip("\ufeff \r\n")
    if not lines:
        raise ValueError("There are no rows: paste a csv, upload one, or load the example.")
    if len(lines) > MAX_BYTES:
        raise ValueError(f"The csv has {len(lines):,} characters; shorten it to {MAX_BYTES:,}.")
    first = lines.splitlines()[0]
    delimiter = max(",;\t", key=first.count)
    try:
        header, *rows = list(csv.reader(io.StringIO(lines, newline=None), delimiter=delimiter))
    except csv.Error as error:  # such as a quote that is never closed
        raise ValueError(f"The csv cannot be read ({error}); look for a quote that is never closed.") from None
    rows = [row for row in rows if row]
    names = [name.strip().lower() for name in header]
    classes = [name for name in names if name != "label"]
    for name in classes:
        if name in NO_CLASSES:
            raise ValueError(f"Column {name!r} is not a class; remove it.")
    numbers = [re.fullmatch(r"\D*(\d+)", name) for name in classes]
    ids = [int(number[1]) for number in numbers if number]
    if len(classes) > 1 and all(numbers) and ids != [*range(ids[0], ids[0] + len(ids))]:
        raise ValueError(f"The columns are {', '.join(classes[:6])}; put them in the order of the classes.")
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"The header is {_start(header)}; give every column a unique name.")
    if "label" not in names:
        raise ValueError(f"The first line is {_start(header)}; name a column label there, and one for each class.")
    if len(names) < 2:
        raise ValueError("There is only the column label; add a column of probabilities for each class.")
    if not rows:
        raise ValueError("There are no rows below the header; add one for each prediction.")
    if len(classes) > MAX_CLASSES:
        raise ValueError(f"The csv has {len(classes):,} classes; use at most {MAX_CLASSES:,} on this page.")
    values = len(rows) * len(classes)
    if len(rows) > MAX_ROWS or values > MAX_VALUES:
        raise ValueError(
            f"The csv has {len(rows):,} rows with {values:,} probabilities; use at most {MAX_ROWS:,} rows and "
            f"{MAX_VALUES:,} probabilities on this page."
        )
    at = names.index("label")
    labels, probabilities = [], np.empty((len(rows), len(names) - 1))
    for i, row in enumerate(rows):
        if len(row) != len(names):
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            raise ValueError(f"Row {i + 1} has {cells}; give it {len(names)}, like the header.")
        labels.append(_number(row[at], i, header[at], whole=True))
        others = [(cell, name) for j, (cell, name) in enumerate(zip(row, header, strict=True)) if j != at]
        probabilities[i] = [_number(cell, i, name) for cell, name in others]
    if divide and probabilities.shape[1] > 1:
        totals = probabilities.sum(1, keepdims=True)
        probabilities /= np.where((totals > 0) & np.isfinite(totals), totals, 1)
    return Table(labels, probabilities, [name for name in header if name.strip().lower() != "label"])


def _start(header: list[str]) -> str:
    """The first names of a header, shortened."""
    return ", ".join(repr(name[:40]) for name in header[:6]) + (", ..." if len(header) > 6 else "")


def _number(cell: str, row: int, column: str, whole: bool = False) -> float | int:
    try:
        if "_" in cell or not np.isfinite(number := float(cell)):  # Python would read 1_0 as 10
            raise ValueError
        return int(number) if whole and number.is_integer() else number  # pandas writes 1.0 if a label is missing
    except ValueError:
        way_out = "use a point as the decimal separator" if "," in cell else "correct it, or remove the row"
        raise ValueError(f"Row {row + 1}, column {column}: {cell[:40]!r} is not a finite number; {way_out}.") from None


def measure(table: Table, kind: str, n_bins: int, binning: str, norm: str, from_logits: bool) -> dict[str, Any]:
    """All results of the metric, at the 95% level."""
    metric = ECE(config_name="binary" if table.binary else "default", keep_in_memory=True)
    try:
        result: dict[str, Any] = metric.compute(
            predictions=(table.probabilities[:, 0] if table.binary else table.probabilities).tolist(),
            references=table.labels,
            n_bins=n_bins,
            binning=binning,
            norm=norm,
            class_wise=kind == "class-wise" and not table.binary,
            from_logits=from_logits,
            confidence_level=0.95,
            return_bins=True,
        )
    except ValueError as error:
        raise ValueError(in_words_of_the_page(str(error), table)) from None
    return result


def in_words_of_the_page(message: str, table: Table) -> str:
    """The metric's message about a row, with the page's rows, columns and checkboxes in place of Python names."""
    found = re.match(r"(predictions|references)\[(\d+)\](?:\[(\d+)\])? (?:is|sums to) ([^ ;]+)", message)
    if not found:
        return message
    row, column, value = f"Row {int(found[2]) + 1}", int(found[3] or 0), found[4]
    if found[1] == "references":
        highest = 1 if table.binary else len(table.columns) - 1
        return f"{row}, column label: {value} is not a class; use 0 to {highest}, or remove the row."
    if "sums to" in found[0]:
        return f"{row} sums to {value}, not to 1; correct it, or check the box for rounding or logits under Options."
    place = f"{row}, column {table.columns[column]}"
    return f"{place}: {value} is not a probability; correct it, or check the box for logits under Options."


def summary(result: dict[str, Any], table: Table, name: str) -> str:
    """The value, its interval, the value of a calibrated model, and the class of each column, as HTML."""
    rows = len(table.labels)
    shown = [f"{i} = {column}" for i, column in enumerate(table.columns)]
    taken = f"Positive class: {table.columns[0]}." if table.binary else f"Classes: {', '.join(shown[:10])}"
    taken += ", ..." if len(shown) > 10 else ""
    value, (low, high), (null_low, null_high) = result["ece"], result["ece_interval"], result["null_interval"]
    if value > null_high:
        direction = _direction(result["bins"], value)
        verdict = f"More than sampling noise explains: these probabilities are miscalibrated{direction}."
    else:
        verdict = "No more than sampling noise explains: these rows give no evidence of miscalibration."
    return f"""
<div class="figures">
  <div><span>{html.escape(name)}</span><b id="value">{value:.4f}</b>
       <span>95% interval {low:.4f} to {high:.4f}, {rows:,} {"row" if rows == 1 else "rows"}</span></div>
  <div><span>expected for a perfectly calibrated model</span><b id="null">{result["null_ece"]:.4f}</b>
       <span>95% band {null_low:.4f} to {null_high:.4f}</span></div>
</div>
<p class="verdict">{verdict}</p>
<p class="columns">{html.escape(taken)}</p>
"""


def _direction(bins: Any, value: float) -> str:
    """Whether probabilities are mostly too high or too low; "" if mixed, or class-wise, where each row sums to 1."""
    if isinstance(bins, list):
        return ""
    filled = [i for i, count in enumerate(bins["counts"]) if count]
    gaps = [bins["counts"][i] * (bins["mean_confidence"][i] - bins["accuracy"][i]) for i in filled]
    mean = sum(gaps) / sum(bins["counts"])
    if abs(mean) < value / 2:  # some are too high and others too low
        return ""
    return f", on average {abs(mean):.3f} {'higher' if mean > 0 else 'lower'} than the observed frequency"


def refusal(error: Exception) -> str:
    """The error message as HTML."""
    return f'<p class="refusal" role="alert">{html.escape(str(error))}</p>'


def diagrams(bins: list[dict[str, Any]], binary: bool) -> Figure:
    """Reliability diagrams with counts for the first nine columns, legible on a light and a dark page."""
    shown = bins[:MOST_DIAGRAMS]
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    size = (4.6, 4.8) if len(shown) == 1 else (3.4 * across, 3.6 * down + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    if len(bins) > len(shown):
        figure.suptitle(f"The first {len(shown)} of {len(bins)} classes", color=INK)
    cells = figure.subfigures(down, across, squeeze=False).ravel()
    for k, one in enumerate(shown):
        title = "Reliability diagram" if len(bins) == 1 else f"class {k}"
        _diagram(cells[k], one, title, binary or len(bins) > 1, legend=k == 0)
    for part in (figure, *cells):
        part.set_facecolor("none")
    return figure


def _diagram(figure: Any, bins: dict[str, Any], title: str, of_class: bool, legend: bool) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    edges, counts = np.array(bins["edges"]), np.array(bins["counts"])
    filled = counts > 0
    left, width = edges[:-1][filled], np.diff(edges)[filled]
    accuracy = np.array([a for a in bins["accuracy"] if a is not None])
    confidence = np.array([c for c in bins["mean_confidence"] if c is not None])
    style = {"align": "edge", "edgecolor": INK, "linewidth": 0.6}
    upper.bar(left, accuracy, width, color="#3b86b5", label="share of the class" if of_class else "accuracy", **style)
    upper.bar(left, confidence - accuracy, width, accuracy, color="#f4a25999", hatch="//", label="gap", **style)
    upper.plot([0, 1], [0, 1], "--", linewidth=1, label="calibrated", color=INK)
    upper.plot(confidence, accuracy, "o", color="#f4a259", markeredgecolor="#0b2545", markersize=4)
    upper.set(ylim=(0, 1), xlim=(0, 1), ylabel="share of the class" if of_class else "accuracy", title=title)
    if legend:
        upper.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=INK)
    lower.bar(left, counts[filled], width, color="#8d99ae", **style)
    lower.set(xlabel="probability" if of_class else "confidence", ylabel="rows")
    for axes in (upper, lower):
        axes.set_facecolor("none")
        axes.tick_params(colors=INK)
        axes.spines[:].set_color(INK)
        axes.spines[["top", "right"]].set_visible(False)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(INK)


def bin_table(bins: list[dict[str, Any]]) -> list[list[Any]]:
    """One line for each non-empty bin."""
    lines = []
    for k, one in enumerate(bins):
        edges = one["edges"]
        for i, (count, confidence, accuracy) in enumerate(
            zip(one["counts"], one["mean_confidence"], one["accuracy"], strict=True)
        ):
            if count:
                close = "]" if i == len(one["counts"]) - 1 else ")"
                place = f"[{edges[i]:.4g}, {edges[i + 1]:.4g}{close}"
                label = place if len(bins) == 1 else f"class {k}: {place}"
                lines.append([label, count, f"{confidence:.4f}", f"{accuracy:.4f}", f"{accuracy - confidence:+.4f}"])
    return lines


def run(
    text: str | None,
    kind: str | None,
    n_bins: float | None,
    binning: str | None,
    norm: str | None,
    divide: bool = False,
    from_logits: bool = False,
) -> tuple[str, Any, Any]:
    """HTML, diagram and table for the page's inputs. The last two are hidden if there is nothing to show."""
    try:
        if divide and from_logits:
            raise ValueError(
                "Check only one of the two boxes: logits are not divided, because the softmax makes rows sum to 1."
            )
        bins_asked = number_of_bins(n_bins)
        chosen = (chosen_of(MEASURES, kind), chosen_of(BINNINGS, binning), chosen_of(NORMS, norm))
        table = read_csv(text or "", bool(divide))
        result = measure(table, chosen[0], bins_asked, *chosen[1:], bool(from_logits))
    except ValueError as error:
        return refusal(error), gr.update(value=None, visible=False), gr.update(value=[], visible=False)
    bins = result["bins"] if isinstance(result["bins"], list) else [result["bins"]]
    return (
        summary(result, table, str(norm)),
        gr.update(value=diagrams(bins, table.binary), visible=True),
        gr.update(value=bin_table(bins), visible=True),
    )


def number_of_bins(given: Any) -> int:
    """`given` as an int. Raises ValueError unless it is a whole number in range."""
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not (number and 1 <= given <= MOST_BINS and given == int(given)):
        shown = "" if given is None else f", not {str(given)[:40]}"
        raise ValueError(f"Give the number of bins as a whole number from 1 to {MOST_BINS}{shown}.")
    return int(given)


def chosen_of(choices: dict[str, str], given: Any) -> str:
    """The value behind a choice's name on the page. Raises ValueError for an unknown name."""
    if given not in list(choices):
        raise ValueError(f"{str(given)[:40]!r} is not one of the choices: {', '.join(choices)}.")
    return choices[given]


def run_again(text: str | None, *options: Any) -> Any:
    """`run` after an option changed; does nothing while there is no data."""
    return run(text, *options) if (text or "").strip() else (gr.skip(), gr.skip(), gr.skip())


def upload(file: str, *options: Any) -> tuple[str, str, Any, Any]:
    """The file's text, which goes into the text box, and the result of `run`."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        error = ValueError("The file is not UTF-8 text; save it as a csv in UTF-8.")
        return "", refusal(error), gr.update(value=None, visible=False), gr.update(value=[], visible=False)
    return (text, *run(text, *options))


def example() -> str:
    """A csv with 400 rows of an overconfident classifier."""
    random = np.random.default_rng(3)
    logits = random.normal(0, 1.6, 400)
    labels = random.random(400) < 1 / (1 + np.exp(-logits))
    positive = 1 / (1 + np.exp(-2.2 * logits))
    rows = [f"{int(label)},{1 - p:.4f},{p:.4f}" for label, p in zip(labels, np.round(positive, 4), strict=True)]
    return "\n".join(["label,p0,p1", *rows])


CSS = """
.figures { display: flex; gap: 1rem; flex-wrap: wrap; }
.figures > div {
  flex: 1 1 14rem; padding: .9rem 1.1rem; border: 1px solid var(--border-color-primary); border-radius: .6rem;
}
.figures span, .columns { color: var(--neutral-600); font-size: .9rem; }
.dark .figures span { color: var(--neutral-300); }
.dark .columns { color: var(--neutral-300); }
.figures span { display: block; }
.figures b { font-size: 2.2rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.verdict { font-size: 1.05rem; margin: .8rem 0 0; }
.columns { margin: .3rem 0 0; }
#csv textarea::placeholder { color: var(--neutral-500); }
.dark #csv textarea::placeholder { color: var(--neutral-300); }
.refusal { padding: .9rem 1.1rem; border-left: 4px solid #c1121f; background: var(--background-fill-secondary); }
/* Plots are drawn in dark ink. On the dark theme, invert the lightness and keep the hues. */
.dark #diagram img { filter: invert(1) hue-rotate(180deg); }
"""

INTO_VIEW = "() => document.querySelector('#result').scrollIntoView({block: 'nearest', behavior: 'smooth'})"


def build() -> gr.Blocks:
    """Build the page."""
    with gr.Blocks(title="Expected calibration error", delete_cache=(600, 3600)) as page:
        gr.Markdown(HELP)
        with gr.Row():
            with gr.Column(scale=2):
                text = gr.Textbox(label="Paste a csv", lines=6, max_lines=8, placeholder=PLACEHOLDER, elem_id="csv")
                with gr.Row():
                    types = [".csv", ".tsv", ".txt"]
                    file = gr.UploadButton("Upload a csv", file_types=types, elem_id="file", min_width=120)
                    load = gr.Button("An example", elem_id="example", min_width=120)
                go = gr.Button("Measure", variant="primary", elem_id="measure")
                with gr.Accordion("Options", open=False, elem_id="options"):
                    kind = gr.Radio(list(MEASURES), value=next(iter(MEASURES)), label="Which probability")
                    n_bins = gr.Slider(1, MOST_BINS, value=10, step=1, label="Bins")
                    binning = gr.Radio(list(BINNINGS), value=next(iter(BINNINGS)), label="Binning")
                    norm = gr.Radio(list(NORMS), value=next(iter(NORMS)), label="Norm")
                    divide = gr.Checkbox(label="Divide each row by its sum (rounded probabilities)")
                    from_logits = gr.Checkbox(label="The columns are logits")
            with gr.Column(scale=3):
                result = gr.HTML(
                    "<p class='verdict'>The result will be here: load the example, or measure your own csv.</p>",
                    elem_id="result",
                )
                plot = gr.Plot(show_label=False, elem_id="diagram", visible=False)
                table = gr.Dataframe(
                    headers=["bin", "rows", "mean confidence", "accuracy", "gap"],
                    label="Bins",
                    elem_id="bins",
                    visible=False,
                )
        inputs, outputs = [text, kind, n_bins, binning, norm, divide, from_logits], [result, plot, table]
        for option in (kind, n_bins, binning, norm):  # Gradio's own checks crash on None; `run` has a message
            option.preprocess = lambda given: given
        into_view: dict[str, Any] = {"fn": None, "js": INTO_VIEW, "api_visibility": "private"}
        go.click(run, inputs, outputs).then(**into_view)
        inner: dict[str, Any] = {"api_visibility": "private"}  # not part of the public API
        file.upload(upload, [file, *inputs[1:]], [text, *outputs], **inner).then(**into_view)
        load.click(example, None, text, **inner).then(run, inputs, outputs, **inner).then(**into_view)
        for option in (kind, binning, norm, divide, from_logits):
            option.input(run_again, inputs, outputs, **inner)
        n_bins.change(run_again, inputs, outputs, **inner)  # fires for mouse, keyboard and typed numbers
    return page


if __name__ == "__main__":
    build().launch(css=CSS, theme=gr.themes.Soft(font=["system-ui", "sans-serif"]), max_file_size=MAX_BYTES)
