"""The model card that is saved with a pipeline: what the scores mean and how to use them, beside what was there.

Our part of a card lies between two comments, so that saving again replaces it and nothing else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, hf_hub_download

PART = "bayesian-text-classification"  # of a card: the scores and their use

_TAGS = ("bayesian-text-classification", "mc-dropout", "calibration", "uncertainty")
_TITLE = "# A text classifier that says how sure it may be\n"
_ADAPTER_WARNING = """> This classifier is a model with a LoRA adapter in the folder `adapter`. Loaded in another way
> than shown here (as plain `text-classification`, say), the model answers **without its adapter**.

"""
_TEXT = """## Scores with uncertainty

{warning}This classifier averages its probabilities over many dropout masks (MC-Dropout,
[Gal & Ghahramani 2016](https://arxiv.org/abs/1506.02142)), every dropout site included, and says how unsure
it is. Saved options: {options}.

With nothing but torch and transformers; the code in this repository is run, so read it first:

```python
from transformers import pipeline

classifier = pipeline("bayesian-text-classification", model="<this repository>", trust_remote_code=True)
classifier("Not the worst film of the year, but it tries.")
classifier("The same text, surer of its score.", num_samples=100)
classifier("A text that is left to a person where the score is low.", threshold=0.9)
```

With the package `bayesian-text-classification` installed nothing in this repository is run:

```python
import bayesian_text_classification
from transformers import pipeline

classifier = pipeline(
    model="<this repository>", pipeline_class=bayesian_text_classification.BayesianTextClassificationPipeline
)
```

As an Inference Endpoint it answers `{"inputs": "a text", "parameters": {"num_samples": 20}}` (`handler.py`).

### What the answers mean

| key | meaning |
|---|---|
| `label`, `score` | the winning label, and its probability averaged over the dropout masks |
| `score_std`, `standard_error` | its spread over the masks; how far the average may be from its limit |
| `predictive_entropy` | total uncertainty, in nats |
| `expected_entropy` | the part that single masks have too: the text fits several labels |
| `mutual_information` | the part in which the masks disagree: training did not settle how to read the text |
| `num_samples`, `truncated` | masks used; whether the text was longer than the model's limit |

The same text, seed and options give the same answer in any batch, order or process. With a temperature other than 1
(see the saved options) only `score` and `predictive_entropy` are at that temperature; `score_std`, `standard_error` and
the two parts describe the samples as they are, and add up to the entropy before it.

### Limits of the scores

- They cost `num_samples` forward passes; `tolerance=0.02` stops early where the score is sure enough.
- They are as good as the model: MC-Dropout makes them more honest, not always honest. Measure the calibration on
  labelled texts of your own before you rely on a threshold.
- Saved with a temperature other than 1, they were calibrated on labelled texts; other texts may need another.
"""


def card(options: Mapping[str, Any], own: str | None = None, base: str | None = None, *, adapted: bool = False) -> str:
    """A card with our part.

    Args:
        options: of the pipeline, which the part tells.
        own: the model's own card, which is kept; None for a new card.
        base: Hub id of the model that a new card names as its base.
        adapted: the part warns that there is an adapter.
    """
    shown = ", ".join(f"{name}={value!r}" for name, value in options.items())
    warning = _ADAPTER_WARNING if adapted else ""
    part = _TEXT.replace("{options}", shown).replace("{warning}", warning)
    if own is None:
        head = "".join(f"- {tag}\n" for tag in _TAGS)
        named = f"base_model: {base}\n" if base else ""
        front = f"---\n{named}library_name: transformers\npipeline_tag: text-classification\ntags:\n{head}---\n"
        return with_part(f"{front}\n{_TITLE}", PART, part)
    return _with_ours(own, part)


def _with_ours(own: str, part: str) -> str:
    return with_part(own if has_part(own, PART) else _tagged(own), PART, part)


def own_card(config: Any) -> str | None:
    """The card of a loaded model, from its folder or its repository; None where there is none, or no connection."""
    name, commit = str(config.name_or_path), getattr(config, "_commit_hash", None)
    if not name:  # a model that was never loaded; "" would be the folder we run in
        return None
    path = Path(name) / "README.md"
    try:
        if not path.is_file():
            if commit is None:
                return None
            path = Path(hf_hub_download(name, "README.md", revision=commit))
        return path.read_text(encoding="utf-8")
    except Exception:  # what the Hub, its client or the file system raise: a card is no reason not to save
        return None


def has_part(text: str, name: str) -> bool:
    """Whether a card has the part of that name."""
    start, end = _ends(name)
    return start in text and end in text.partition(start)[2]


def with_part(text: str, name: str, part: str) -> str:
    """A card in which `part` stands in place of the one of that name, or at the end."""
    start, end = _ends(name)
    newline = "\r\n" if "\r\n" in text else "\n"
    whole = newline.join([start, *part.strip().splitlines(), end])
    if not has_part(text, name):
        return f"{text.rstrip()}{newline * 2}{whole}{newline}"
    before, _, rest = text.partition(start)
    return before + whole + rest.partition(end)[2]


def merged(there: str, new: str) -> str:
    """The card that is there, with our part of `new` in place of the one that it has, or behind it.

    No other word changes, but for the tags of a card that had no such part.
    """
    start, end = _ends(PART)
    return _with_ours(there, new.partition(start)[2].partition(end)[0])


def _ends(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def _tagged(own: str) -> str:
    """The card with our tags in its front matter, where that can be read."""
    try:
        found = ModelCard(own, ignore_metadata_errors=False)
    except Exception:  # YAML's own errors, and ValueError
        return own
    data: Any = found.data
    data.tags = [*(data.tags or []), *(tag for tag in _TAGS if tag not in (data.tags or []))]
    data.library_name = data.library_name or "transformers"
    data.pipeline_tag = data.pipeline_tag or "text-classification"
    return str(found)
