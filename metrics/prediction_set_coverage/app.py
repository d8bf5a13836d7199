"""The metric as a web page: the coverage of a csv of prediction sets, its band, and tables by class and by set size."""

import csv
import html
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from prediction_set_coverage import prediction_set_coverage

MAX_BYTES = 5_000_000
MAX_ROWS = 50_000
MAX_LABELS = 1_000
TRUE = ("true_label", "label")  # columns of the true label; the first one counts
SETS = ("prediction_set", "predicted_prediction_set")  # predict adds `predicted_` if the file has a column label
ERRORS = ("error", "predicted_error")

HELP = """
# Coverage of prediction sets
How often do your sets of labels hold the true label, and how large are they?

Use a csv with a header. The column **label** holds the true label of each row. The column **prediction_set** holds the
labels of its set, separated by commas or as a JSON list. An empty cell is an empty set. Other columns do not matter, so
a csv of `bayesian-text-classification predict` works as it is. Row 1 is the first row below the header. Uploads are
deleted after about an hour.
"""
PLACEHOLDER = 'label,prediction_set\npositive,positive\nnegative,"negative,neutral"\nneutral,'
WAITING = "<p class='verdict'>The result will be here: load the example, or measure your own csv.</p>"


@dataclass(frozen=True)
class Table:
    """The content of a csv, with labels as ids: positions in `names`."""

    labels: list[int]
    sets: list[list[int]]
    names: list[str]


def read_csv(text: str) -> Table:
    """Parse a csv. The ValueErrors count rows from 1, below the header."""
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
    columns = [name.strip().lower() for name in header]
    true, of_set, of_error = _columns(columns)
    if not rows:
        raise ValueError("There are no rows below the header; add one for each prediction set.")
    if len(rows) > MAX_ROWS:
        raise ValueError(f"The csv has {len(rows):,} rows; use at most {MAX_ROWS:,} on this page.")
    labels, sets = [], []
    for i, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            advice = ", and put quotes around a set with commas" if len(row) > len(columns) else ""
            raise ValueError(f"Row {i} has {cells}; give it {len(columns)}, like the header{advice}.")
        if of_error is not None and row[of_error].strip():
            raise ValueError(f"Row {i} has no prediction set, because predict failed; fix or remove the row.")
        sets.append(_set(row[of_set], i))
        labels.append(_label(row[true], row[of_set], i))
    names = sorted({*labels, *(name for one in sets for name in one)})
    if len(names) > MAX_LABELS:
        raise ValueError(f"The csv has {len(names):,} labels; use at most {MAX_LABELS:,} on this page.")
    ids = {name: i for i, name in enumerate(names)}
    return Table([ids[label] for label in labels], [[ids[name] for name in one] for one in sets], names)


def _columns(columns: list[str]) -> tuple[int, int, int | None]:
    """The positions of the true labels, the sets and the errors, if there are any."""
    for name in (*TRUE, *SETS):
        if columns.count(name) > 1:
            raise ValueError(f"The header has two columns {name}; remove one.")
    found = [next((name for name in group if name in columns), None) for group in (TRUE, SETS, ERRORS)]
    for name, wanted in zip(found[:2], ("label", "prediction_set"), strict=True):
        if name is None:
            shown = ", ".join(repr(name[:40]) for name in columns[:6]) + (", ..." if len(columns) > 6 else "")
            raise ValueError(f"The first line is {shown}; name a column {wanted} there.")
    true, of_set, error = found
    if true == "label" and of_set == "prediction_set" and {"score", "error"} <= {*columns}:
        raise ValueError("Column label holds the labels that predict gave; add the true labels as column true_label.")
    return columns.index(str(true)), columns.index(str(of_set)), None if error is None else columns.index(error)


def _set(cell: str, row: int) -> list[str]:
    """The labels in a cell."""
    if cell.lstrip().startswith("["):
        try:
            names = [name if isinstance(name, str) else json.dumps(name) for name in json.loads(cell)]
        except ValueError:
            raise ValueError(f"Row {row}, column prediction_set: {cell[:40]!r} is not a JSON list; fix it.") from None
    else:
        names = [part.strip() for part in cell.split(",") if part.strip()]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"Row {row}, column prediction_set: {name[:40]!r} appears twice; give each label once.")
    return names


def _label(cell: str, set_cell: str, row: int) -> str:
    """The true label in a cell. Only with JSON sets, its name may have a comma."""
    if not cell.strip():
        raise ValueError(f"Row {row} has no true label; add it, or remove the row.")
    json_set = set_cell.lstrip().startswith("[")
    if cell.lstrip().startswith("[") or ("," in cell and not json_set):
        raise ValueError(f"Row {row}, column label: {cell[:40]!r} holds several labels; this page takes one per row.")
    return cell if json_set else cell.strip()


def promise(level: str | None, calibration: str | None) -> tuple[float, int] | None:
    """The level as a share and the number of calibration rows; None if both are empty."""
    level, calibration = (str(given or "").strip() for given in (level, calibration))
    if not level and not calibration:
        return None
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", level)
    if not (percent and 1 <= float(percent[1]) < 100):  # 0.95 would be less than one percent
        raise ValueError(f"Give the level in percent, from 1 to below 100, such as 95{_not(level)}.")
    if not re.fullmatch(r"[1-9]\d{0,8}", calibration):
        raise ValueError(f"Give the number of calibration rows as a whole number of at least 1{_not(calibration)}.")
    share, rows = float(percent[1]) / 100, int(calibration)
    needed = int(np.ceil(share / (1 - share) - 1e-9))
    if rows < needed:
        raise ValueError(
            f"A level of {100 * share:g}% needs at least {needed:,} calibration rows, not {rows:,}; with fewer, every "
            "set must hold all labels."
        )
    return share, rows


def _not(given: str) -> str:
    return f", not {given[:40]!r}" if given else ""


def measure(table: Table, promised: tuple[float, int] | None) -> dict[str, Any]:
    """All results of the metric."""
    options = {} if promised is None else {"coverage_level": promised[0], "n_calibration": promised[1]}
    return prediction_set_coverage(
        table.sets, table.labels, class_wise=True, size_stratified=True, num_classes=len(table.names), **options
    )


def summary(result: dict[str, Any], table: Table, promised: tuple[float, int] | None) -> str:
    """The coverage with its band, the mean size and one sentence, as HTML."""
    rows, coverage = len(table.labels), result["coverage"]
    held = round(coverage * rows)
    empty = result["size_counts"][0]
    known = "1 label" if len(table.names) == 1 else f"{len(table.names):,} labels"
    without = "1 set is empty" if empty == 1 else f"{empty:,} sets are empty"
    if promised is None:
        said = "Fill in the level and the number of calibration rows to see which coverage to expect on as many rows."
        picture = ""
    else:
        level, calibration = promised
        low, high = result["band"]
        where = "in" if result["in_band"] else "below" if coverage < low else "above"
        said = {
            "in": f"In the band: these rows give no evidence against {100 * level:g}% coverage.",
            "below": "Below the band: the sets hold the true label less often than promised. The calibration rows "
            "may differ from these.",
            "above": "Above the band: the sets hold the true label more often than promised, so they may be larger "
            "than necessary.",
        }[where]
        on = "1 row" if rows == 1 else f"{rows:,} rows"
        picture = band(coverage, low, high, level) + (
            f'<p class="note">After calibration on {calibration:,} rows, the band holds the coverage on {on} with a '
            "probability of 95%.</p>"
        )
    return f"""
<div class="figures">
  <div><span>coverage</span><b id="value">{_percent(coverage)}</b>
       <span>{held:,} of {rows:,} {"set holds" if rows == 1 else "sets hold"} the true label</span></div>
  <div><span>mean size</span><b id="size">{result["mean_size"]:.2f}</b>
       <span>of {known}; {without}</span></div>
</div>
{picture}
<p class="verdict">{said}</p>
"""


def band(coverage: float, low: float, high: float, level: float) -> str:
    """A picture of the band, the level and the coverage on one axis, as SVG in the colors of the page."""
    least, most = min(coverage, low), max(coverage, high)
    margin = max((most - least) / 4, 0.005)
    start, end = max(least - margin, 0.0), min(most + margin, 1.0)

    def x(share: float) -> float:
        return 4 + 92 * (share - start) / (end - start)

    where = "inside" if low <= coverage <= high else "outside"
    name = f"Coverage {_percent(coverage)}, band {_percent(low)} to {_percent(high)}, level {100 * level:g}%"
    return f"""
<svg class="band" role="img" aria-label="{name}" height="48" width="100%">
  <line x1="2%" x2="98%" y1="26" y2="26" class="axis"/>
  <rect x="{x(low):.2f}%" width="{max(x(high) - x(low), 0.6):.2f}%" y="16" height="20" rx="4" class="range"/>
  <line x1="{x(level):.2f}%" x2="{x(level):.2f}%" y1="12" y2="40" class="level"/>
  <circle cx="{x(coverage):.2f}%" cy="26" r="7" class="{where}"/>
</svg>
<p class="legend"><span><i class="dot {where}"></i>coverage {_percent(coverage)}</span>
<span><i class="bar"></i>band {_percent(low)} to {_percent(high)}</span>
<span><i class="tick"></i>level {100 * level:g}%</span></p>
"""


def _percent(share: float) -> str:
    return f"{share:.1%}"


def refusal(error: Exception) -> str:
    """The error message as HTML."""
    return f'<p class="refusal" role="alert">{html.escape(str(error))}</p>'


def class_table(result: dict[str, Any], names: list[str]) -> list[list[Any]]:
    """One line for each true label. Labels with many rows come first, because few rows say little."""
    counts, coverage, sizes = (result[f"class_{name}"] for name in ("counts", "coverage", "size"))
    order = sorted(np.flatnonzero(counts), key=lambda k: -counts[k])
    return [[names[k], counts[k], _percent(coverage[k]), f"{sizes[k]:.2f}"] for k in order]


def size_table(result: dict[str, Any]) -> list[list[Any]]:
    """One line for each set size that occurs."""
    lines = zip(result["size_counts"], result["size_coverage"], strict=True)
    return [[size, count, _percent(share)] for size, (count, share) in enumerate(lines) if count]


def run(text: str | None, level: str | None = None, calibration: str | None = None) -> tuple[str, Any, Any]:
    """HTML and the two tables for the page's inputs. The tables are hidden if there is nothing to show."""
    try:
        promised = promise(level, calibration)
        table = read_csv(text or "")
        result = measure(table, promised)
    except ValueError as error:
        return refusal(error), gr.update(value=[], visible=False), gr.update(value=[], visible=False)
    return (
        summary(result, table, promised),
        gr.update(value=class_table(result, table.names), visible=True),
        gr.update(value=size_table(result), visible=True),
    )


def upload(file: str, *options: Any) -> tuple[str, str, Any, Any]:
    """The file's text, which goes into the text box, and the result of `run`."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        error = ValueError("The file is not UTF-8 text; save it as a csv in UTF-8.")
        return "", refusal(error), gr.update(value=[], visible=False), gr.update(value=[], visible=False)
    return (text, *run(text, *options))


def example() -> tuple[str, str, str]:
    """A csv with 400 rows and sets of 90% coverage, the level in percent, and the number of calibration rows."""
    random, names = np.random.default_rng(5), np.array(["negative", "neutral", "positive"])
    labels = random.choice(3, 900, p=[0.4, 0.2, 0.4])
    logits = 2.2 * np.eye(3)[labels] + random.normal(0, 1.2, (900, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    limit = np.sort(1 - p[np.arange(500), labels[:500]])[451 - 1]  # ceil(0.9 * 501) = 451
    lines = ["label,prediction_set"]
    for label, row in zip(labels[500:], p[500:], strict=True):
        order = np.argsort(-row)
        found = ",".join(names[order][1 - row[order] <= limit])
        lines.append(f'{names[label]},"{found}"')
    return "\n".join(lines), "90", "500"


CSS = """
.figures { display: flex; gap: 1rem; flex-wrap: wrap; }
.figures > div {
  flex: 1 1 12rem; padding: .9rem 1.1rem; border: 1px solid var(--border-color-primary); border-radius: .6rem;
}
.figures span, .note, .legend { color: var(--neutral-600); font-size: .9rem; }
.dark .figures span { color: var(--neutral-300); }
.dark .note { color: var(--neutral-300); }
.dark .legend { color: var(--neutral-300); }
.figures span { display: block; }
.figures b { font-size: 2.2rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.verdict { font-size: 1.05rem; margin: .8rem 0 0; }
.note { margin: .2rem 0 0; }
.band { display: block; margin-top: .8rem; }
.band .axis { stroke: var(--neutral-400); stroke-width: 1.5; }
.band .range { fill: #3b86b5; opacity: .45; }
.band .level { stroke: var(--body-text-color); stroke-width: 1.5; stroke-dasharray: 4 3; }
.band circle { stroke: var(--body-background-fill); stroke-width: 2; }
.inside { fill: #2f855a; background: #2f855a; }
.outside { fill: #c1121f; background: #c1121f; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .3rem 0 0; }
.legend span { display: inline-flex; align-items: center; gap: .4rem; }
.legend i { display: inline-block; }
.legend .dot { width: .8rem; height: .8rem; border-radius: 50%; }
.legend .bar { width: 1.4rem; height: .8rem; border-radius: .2rem; background: #3b86b5; opacity: .45; }
.legend .tick { height: 1rem; border-left: 2px dashed var(--body-text-color); }
#csv textarea::placeholder { color: var(--neutral-500); }
#level input::placeholder { color: var(--neutral-500); }
#calibration input::placeholder { color: var(--neutral-500); }
.dark #csv textarea::placeholder { color: var(--neutral-300); }
.dark #level input::placeholder { color: var(--neutral-300); }
.dark #calibration input::placeholder { color: var(--neutral-300); }
.refusal { padding: .9rem 1.1rem; border-left: 4px solid #c1121f; background: var(--background-fill-secondary); }
"""

INTO_VIEW = "() => document.querySelector('#result').scrollIntoView({block: 'nearest', behavior: 'smooth'})"


def build() -> gr.Blocks:
    """Build the page."""
    with gr.Blocks(title="Coverage of prediction sets", delete_cache=(600, 3600)) as page:
        gr.Markdown(HELP)
        with gr.Row():
            with gr.Column(scale=2):
                text = gr.Textbox(label="Paste a csv", lines=6, max_lines=8, placeholder=PLACEHOLDER, elem_id="csv")
                with gr.Row():
                    types = [".csv", ".tsv", ".txt"]
                    file = gr.UploadButton("Upload a csv", file_types=types, elem_id="file", min_width=120)
                    load = gr.Button("An example", elem_id="example", min_width=120)
                with gr.Row():
                    optional: dict[str, Any] = {"placeholder": "optional", "min_width": 180, "max_lines": 1}
                    level = gr.Textbox(label="Level in %", elem_id="level", **optional)
                    calibration = gr.Textbox(label="Calibration rows", elem_id="calibration", **optional)
                go = gr.Button("Measure", variant="primary", elem_id="measure")
            with gr.Column(scale=3):
                result = gr.HTML(WAITING, elem_id="result")
                sizes = gr.Dataframe(
                    headers=["set size", "rows", "coverage"], label="By set size", elem_id="sizes", visible=False
                )
                classes = gr.Dataframe(
                    headers=["true label", "rows", "coverage", "mean size"],
                    label="By class",
                    elem_id="classes",
                    visible=False,
                )
        inputs, outputs = [text, level, calibration], [result, classes, sizes]
        into_view: dict[str, Any] = {"fn": None, "js": INTO_VIEW, "api_visibility": "private"}
        inner: dict[str, Any] = {"api_visibility": "private"}  # not part of the public API
        go.click(run, inputs, outputs).then(**into_view)
        file.upload(upload, [file, *inputs[1:]], [text, *outputs], **inner).then(**into_view)
        load.click(example, None, inputs, **inner).then(run, inputs, outputs, **inner).then(**into_view)
    return page


if __name__ == "__main__":
    build().launch(css=CSS, theme=gr.themes.Soft(font=["system-ui", "sans-serif"]), max_file_size=MAX_BYTES)
