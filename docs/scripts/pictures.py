"""Draw the picture of the first page: reliability of the embedded model before and after, for light and dark pages.

    python docs/scripts/pictures.py

It measures the embedded model on all 3,000 embedded sentences, as `evaluate --dataset reviews --arms bayesian` does,
and takes some minutes. The pictures are `docs/reliability-light.svg` and `docs/reliability-dark.svg`.
"""

from pathlib import Path

from bayesian_text_classification import compare, load, load_labeled_texts
from bayesian_text_classification.report.figures import inline_svg, reliability_diagrams

FOLDER = Path(__file__).parents[1]
TEXT = {"light": "#1f2328", "dark": "#e6edf3"}  # colors of text and axes


def main() -> None:
    """Measure, and write both pictures."""
    classifier = load()
    data = load_labeled_texts("reviews", classifier.model.config.id2label)
    comparison = compare(classifier, data, arms=["bayesian"])
    arms = [comparison.arm(name) for name in ("frequentist", "bayesian_temperature")]
    picture = inline_svg(reliability_diagrams(arms), "reliability")
    for scheme, color in TEXT.items():
        root = f'<svg font-family="sans-serif" fill="{color}"'  # of text, which has no color of its own
        colored = picture.replace("currentColor", color).replace("<svg", root, 1)
        (FOLDER / f"reliability-{scheme}.svg").write_text(colored + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
