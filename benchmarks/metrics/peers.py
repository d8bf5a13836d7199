"""Results of other libraries in cases where calibration errors often go wrong, compared with values by hand.

    python -m benchmarks.metrics.peers

The tests check the metric's values. Its peers' values change with their releases, and with those of SciPy and NumPy.
They are recorded here with the versions.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import netcal.metrics
import numpy as np
import relplot
import torch
from baal.utils.metrics import ECE as BaalECE
from bayesian_text_classification.metric import load_metric_module
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from benchmarks.results import table, write_section

ece = load_metric_module()

REFUSED = "refused"
# Case, definition, probabilities, labels, and the value by hand.
CASES: list[tuple[str, str, Any, Any, float | str]] = [
    ("confidence 1 shares the last bin with .95", "top-label", [[0.05, 0.95], [0.0, 1.0]], [1, 0], 0.475),
    ("a perfect model", "top-label", [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1], 0.0),
    ("probability 0 counts", "binary", [0.0, 0.05], [1, 0], 0.475),
    (".3 is not in the bin of .25", "binary", [0.25, 0.3], [0, 1], 0.475),
    ("a constant predictor, bins of equal mass", "quantile", [0.3] * 100, [1] * 50 + [0] * 50, 0.2),
    ("rows count equally, not bins", "binary", [0.0, 0.0, 0.0, 0.5], [0, 0, 0, 1], 0.125),
    ("NaN", "binary", [0.2, float("nan")], [0, 1], REFUSED),
    ("a probability of 1.5", "binary", [0.2, 1.5], [0, 1], REFUSED),
    ("logits without from_logits=True", "binary", [-1.0, 0.5], [0, 1], REFUSED),
    ("no rows", "binary", [], [], REFUSED),
]


def main() -> None:
    """Run all libraries, and write a section of RESULTS.md."""
    arms: dict[str, Callable[[str, Any, Any], float | None]] = {
        "ours": ours,
        "torchmetrics": of_torchmetrics,
        "netcal": of_netcal,
        "baal": of_baal,
        "relplot": of_relplot,
    }
    rows = [
        [what, formatted(truth), *(run(arm, definition, p, labels) for arm in arms.values())]
        for what, definition, p, labels, truth in CASES
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torchmetrics", "netcal", "baal", "relplot", "scipy"))
    body = [table(["case", "by hand", *arms], rows), "", f"10 bins. Empty cell: definition not supported. {versions}."]
    write_section("The metric's peers", "python -m benchmarks.metrics.peers", "\n".join(body))


def ours(definition: str, p: Any, labels: Any) -> float:
    """The metric of this project."""
    binning = "quantile" if definition == "quantile" else "uniform"
    return float(ece.expected_calibration_error(p, labels, binning=binning, binary=definition != "top-label"))


def of_torchmetrics(definition: str, p: Any, labels: Any) -> float | None:
    """torchmetrics, with bins of equal width."""
    if definition == "quantile":
        return None
    target = torch.tensor(labels, dtype=torch.long)
    if definition == "binary":
        return binary_calibration_error(torch.tensor(p), target, n_bins=10).item()
    return multiclass_calibration_error(torch.tensor(p), target, len(p[0]), n_bins=10).item()


def of_netcal(definition: str, p: Any, labels: Any) -> float:
    """netcal, with both kinds of bins."""
    measure = netcal.metrics.ECE(10, equal_intervals=definition != "quantile")
    return float(measure.measure(np.array(p), np.array(labels, dtype=int)))


def of_baal(definition: str, p: Any, labels: Any) -> float | None:
    """BaaL, only for the predicted label."""
    if definition != "top-label":
        return None
    peer = BaalECE(n_bins=10)
    peer.update(torch.tensor(p), torch.tensor(labels))
    return float(peer.value)


def of_relplot(definition: str, p: Any, labels: Any) -> float | None:
    """relplot, with bins of equal mass."""
    if definition == "top-label":
        return None
    return float(relplot.metrics.binnedECE(np.array(p), np.array(labels), nbins=10))


def run(arm: Callable[[str, Any, Any], float | None], definition: str, p: Any, labels: Any) -> str:
    """The library's value, or the class of its error. Empty if it has no such definition."""
    try:
        return formatted(arm(definition, p, labels))
    except Exception as error:  # a peer may raise anything
        return REFUSED if arm is ours else type(error).__name__


def formatted(value: float | str | None) -> str:
    """Format a table cell."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.4f}"


if __name__ == "__main__":
    main()
