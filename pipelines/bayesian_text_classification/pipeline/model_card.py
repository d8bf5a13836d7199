"""Writes the section of a model card that explains the scores and how to use them.

Our section lies between two marker comments. Saving again replaces this section and nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, hf_hub_download

from .calibration import SCORES, Calibration
from .distillation import STUDENT, Distillation
from .options import MEMBERS, PREDICTION_SETS, SCOPE

PART = "bayesian-text-classification"  # name of our section, in its marker comments

_WAY = "threshold_way"  # the option that says which scores the threshold is for
_TAGS = ("bayesian-text-classification", "calibration", "uncertainty")
_SAMPLING = "mc-dropout"  # the tag of a model that can be sampled
_TITLE = "# A text classifier with honest confidence\n"
_ADAPTER_WARNING = """> This classifier is a model with a LoRA adapter in the folder `adapter`. Load it as shown here.
> Loaded in any other way (for example as plain `text-classification`), the model answers **without its adapter**.

"""
_SAMPLED = """\
This classifier averages its probabilities over many random dropout masks, at every dropout site of the model
(MC-Dropout, [Gal & Ghahramani 2016](https://arxiv.org/abs/1506.02142)). It reports its uncertainty with each answer."""
_STUDENT = """\
This classifier is a student: its single ordinary pass learned to give the scores of a teacher, which averages over many
passes. No labels were used.

| | ordinary pass of the teacher | student |
|---|---:|---:|
| KL divergence from the teacher's scores, in nats | {before.kl:.4f} | {after.kl:.4f} |
| root mean square difference of a score | {before.rms:.4f} | {after.rms:.4f} |
| same answer | {before.agreement:.1%} | {after.agreement:.1%} |

It was trained on {texts:,} texts and measured on {held_out:,} others. Training: {settings}. The teacher has the
fingerprint `{teacher}`, and its scores were made with {scores}{calibrated}. Sampling the student (`num_samples=20`)
would sample its own dropout, not the teacher's scores."""
_STOCK = """

It is an ordinary checkpoint. A stock pipeline gives the same scores, without code of this repository:

```python
from transformers import pipeline

classifier = pipeline("text-classification", model="<this repository>", truncation=True)
```"""
_OTHER_RATES = """
The model was not trained with this dropout (`dropout={dropout!r}`). Measure whether it helps on your texts."""
_ENSEMBLE = """\
This classifier averages the probabilities of {count} models (a deep ensemble,
[Lakshminarayanan et al. 2017](https://arxiv.org/abs/1612.01474)), and reports their disagreement with each answer. The
first model is at the root of this repository, the others are in `members/`."""
_WITH_DROPOUT = " Each model runs with dropout masks (MC-Dropout)."
_ORDINARY = """\
This classifier answers with one ordinary pass (`num_samples=0`). If the model has dropout, it can also average its
probabilities over many random dropout masks (MC-Dropout,
[Gal & Ghahramani 2016](https://arxiv.org/abs/1506.02142)) and report its uncertainty."""
_ORDINARY_ALONE = "This classifier answers with one ordinary pass of its model."
_MORE = {
    True: 'classifier("More masks give a more precise score.", num_samples=100)',
    False: 'classifier("With dropout masks, and their uncertainty.", num_samples=20)',
}
_BOTH_LABELS = 'classifier("The two likeliest labels.", top_k=2)'
_FIRST_ALONE = 'classifier("The first model alone.", num_samples=0)'
_COST = """\
Each text takes `num_samples` forward passes (one for 0). With `tolerance=0.02`, sampling of a text stops
  early once the standard error of its score is below 0.02."""
_COST_OF_MODELS = """\
Each text takes `num_samples` forward passes, divided among {count} models, which are all in memory. With
  `num_samples=0`, it takes one pass of the first model."""
_COST_OF_NOVELTY = " Novelty takes one more."
_COST_OF_ONE = "Each text takes one forward pass."
_THRESHOLD = """\
classifier("A person should read this.", threshold=0.9)  # score below 0.9: label None, abstained True, and a reason
"""
_THRESHOLDS = """\
classifier("Which labels apply?", top_k=None, threshold={{{label}: 0.9}})  # each label says whether it is accepted
"""
_DECIDED = "With a threshold, there are also `abstained`, `reason` and\n`candidate`."
_ACCEPTED = "With thresholds, each label also has `accepted`."
_TEXT = """## Scores with uncertainty

{warning}{intro}

Saved options: {options}. {calibration}

You only need torch and transformers (and peft, if there is a LoRA adapter). Loading runs the code in this repository,
so read that code first:

```python
from transformers import pipeline

classifier = pipeline("bayesian-text-classification", model="<this repository>", trust_remote_code=True)
classifier("Not the worst film of the year, but it tries.")
{more}
{threshold}```

If the package `bayesian-text-classification` is installed, no code from this repository is run:

```python
import bayesian_text_classification
from transformers import pipeline

classifier = pipeline(
    model="<this repository>", pipeline_class=bayesian_text_classification.BayesianTextClassificationPipeline
)
```

This repository also works as an Inference Endpoint (`handler.py`). A request looks like this:
`{"inputs": "a text", "parameters": {{request}}}`.

### What the answers mean

{keys}
{novelty}{sets}The same text, seed and options give the same answer in any batch, order or process.

{ordinary}

### Limits of the scores

- **Cost.** {cost}
- **Honesty.** The scores are only as good as the model. {method} makes them more honest, not always honest. Measure
  the calibration on your own labeled texts before you rely on a threshold.
- **Calibration.** It is fitted on labeled texts. Other texts may need a different one.
"""
_NOVELTY = """\
There are also `novelty`, the distance of the text from those that the classifier was made for, and `novelty_p_value`,
the share of them that are at least as far. With `novelty_level=0.05`, a text whose p-value is at most 0.05 gets no
label.

"""
_SETS = """\
With `coverage`, such as {coverage}, there is also `prediction_set`: the labels that the text could have. {held}, on
average over texts like those that the sets were fitted on.

"""
_HELD = "It holds the true label with at least this probability"
_HELD_SHARE = "It is expected to hold at least this share of the labels of a text"
_SAMPLED_KEYS = """| key | meaning |
|---|---|
| `label`, `score` | the predicted label, and its probability averaged over the {draws}s |
| `score_std` | standard deviation of that probability over the {draws}s |
| `standard_error` | standard error of the average: how far it may be from the average over infinitely many {draws}s |
| `predictive_entropy` | total uncertainty, in nats |
| `expected_entropy` | the part that each {draws} has by itself: the text fits several labels |
| `mutual_information` | the part from disagreement between {draws}s: training did not settle how to classify the text |
| `num_samples` | number of {passes} for this text |
| `truncated` | whether the text was longer than the model's limit |
"""
_ORDINARY_KEYS = """| key | meaning |
|---|---|
| `label`, `score` | the predicted label, and its probability |

{decided}{with_samples}
"""
_WITH_MORE_KEYS = """
With samples (`num_samples=20`), the score is an average over dropout masks, and there are more keys: `score_std`,
`standard_error`, `predictive_entropy`, `expected_entropy`, `mutual_information`, `num_samples` and `truncated`."""
_WITHOUT_SAMPLES = """\
With `num_samples=0`, the answer is that of one ordinary pass, and has `label` and `score`. {decided} Ordinary and
sampled scores are calibrated separately."""
_WITH_SAMPLES = "Ordinary and sampled scores are calibrated separately."


def card(
    options: Mapping[str, Any],
    own: str | None = None,
    base: str | None = None,
    *,
    config: Any = None,
    adapted: bool = False,
    can_sample: bool = True,
) -> str:
    """A model card with our section.

    Args:
        options: Options of the pipeline, which the section lists.
        own: The model's own card, which is kept; None for a new card.
        base: Hub id of the base model that a new card names; None for none.
        config: The model's config, which says whether its labels are independent. None: it chooses one label.
        adapted: Whether the section warns that there is an adapter.
        can_sample: Whether the model has dropout to sample.
    """
    shown = ", ".join(
        f"{name}={value!r}"
        for name, value in options.items()
        if name not in ("calibration", "spread", MEMBERS, SCOPE, PREDICTION_SETS, STUDENT, _WAY)
    )
    warning = _ADAPTER_WARNING if adapted else ""
    sampled, dropout = options.get("num_samples") != 0, options.get("dropout")
    sampling = _SAMPLED if dropout is None else _SAMPLED + _OTHER_RATES.format(dropout=dropout)
    count, posterior = options.get(MEMBERS, 1), options.get("posterior", "dropout")
    of_models = sampled and posterior != "dropout"
    if of_models:
        sampling = _ENSEMBLE.format(count=count) + _WITH_DROPOUT * (posterior == "ensemble+dropout")
    student = options.get(STUDENT)
    if student:
        sampling = student_part(Distillation.of_saved(student)) + _STOCK
        can_sample = False  # its samples are not what it learned
    words = {
        "novelty": _NOVELTY if options.get(SCOPE) else "",
        "sets": _SETS.replace("{coverage}", f"{options.get('coverage') or 0.8:g}")
        if options.get(PREDICTION_SETS)
        else "",
        "held": _HELD,
        "keys": _SAMPLED_KEYS if sampled else _ORDINARY_KEYS,
        "ordinary": _WITHOUT_SAMPLES if sampled else _WITH_SAMPLES if can_sample else "",
        "with_samples": _WITH_MORE_KEYS if can_sample else "",
        "draws": "model" if of_models else "dropout mask",
        "method": "An ensemble" if of_models else "MC-Dropout" if sampled else "A calibration",
        "request": f'"num_samples": {options.get("num_samples") if of_models else 20}' if can_sample else '"top_k": 2',
        "passes": "passes" if of_models else "dropout masks",
        "cost": (_COST_OF_MODELS.format(count=count) if of_models else _COST if can_sample else _COST_OF_ONE)
        + _COST_OF_NOVELTY * (bool(options.get(SCOPE)) and sampled and not of_models),
        "options": shown,
        "warning": warning,
        "calibration": _fitted(options),
        "intro": sampling if sampled or student else _ORDINARY if can_sample else _ORDINARY_ALONE,
        "more": _FIRST_ALONE if of_models else _MORE[sampled] if can_sample else _BOTH_LABELS,
        "threshold": _THRESHOLD,
        "decided": _DECIDED,
    }
    if config is not None and (config.num_labels == 1 or config.problem_type == "multi_label_classification"):
        words["held"] = _HELD_SHARE
    if config is not None and config.problem_type == "multi_label_classification":
        words |= {"threshold": _THRESHOLDS.format(label=repr(config.id2label[0])), "decided": _ACCEPTED}
        words["request"] = words["request"].replace(', "top_k": 2', "").replace('"top_k": 2', "")
        words["request"] = ", ".join(filter(None, [words["request"], '"top_k": null']))
    elif config is not None and config.problem_type == "regression":
        words |= {"threshold": "", "decided": ""}
    part = _TEXT
    for name, text in words.items():
        part = part.replace(f"{{{name}}}", text)
    part = re.sub(r"\n{3,}", "\n\n", part)
    tags = (*_TAGS, *[_SAMPLING] * can_sample)
    if own is None:
        head = "".join(f"- {tag}\n" for tag in tags)
        named = f"base_model: {base}\n" if base else ""
        front = f"---\n{named}library_name: transformers\npipeline_tag: text-classification\ntags:\n{head}---\n"
        return with_part(f"{front}\n{_TITLE}", PART, part)
    return _with_ours(own, part, tags)


def student_part(made: Distillation) -> str:
    """Paragraphs about what made a student."""
    settings = {"how": made.how, **made.settings}
    return _STUDENT.format(
        before=made.ordinary,
        after=made.student,
        texts=made.texts,
        held_out=made.held_out,
        settings=", ".join(f"{name}={value!r}" for name, value in settings.items()),
        teacher=made.teacher,
        scores=", ".join(f"{name}={value!r}" for name, value in made.teacher_scores.items()),
        calibrated=" and calibrated" if made.calibrated else "",
    )


def _fitted(options: Mapping[str, Any]) -> str:
    """A sentence about the calibration."""
    calibration = Calibration.of_saved(options)
    if not calibration:
        return "The scores are not calibrated."
    return f"Calibration: {'; '.join(f'{SCORES[way]}, {scaling}' for way, scaling in calibration.items())}."


def _with_ours(own: str, part: str, tags: Sequence[str] = _TAGS) -> str:
    return with_part(own if has_part(own, PART) else _tagged(own, tags), PART, part)


def own_card(config: Any) -> str | None:
    """The card of a loaded model, from its folder or repository; None if it has none or cannot be read."""
    name, commit = str(config.name_or_path), getattr(config, "_commit_hash", None)
    if not name:  # the model was not loaded from anywhere, and "" would mean the current folder
        return None
    path = Path(name) / "README.md"
    try:
        if not path.is_file():
            if commit is None:
                return None
            path = Path(hf_hub_download(name, "README.md", revision=commit))
        return path.read_text(encoding="utf-8")
    except Exception:  # any error of the Hub, its client or the file system: a missing card must not prevent saving
        return None


def has_part(text: str, name: str) -> bool:
    """Whether a card has the section called `name`."""
    start, end = _ends(name)
    return start in text and end in text.partition(start)[2]


def with_part(text: str, name: str, part: str) -> str:
    """A card in which `part` replaces the section called `name`, or is appended if there is none."""
    start, end = _ends(name)
    newline = "\r\n" if "\r\n" in text else "\n"
    whole = newline.join([start, *part.strip().splitlines(), end])
    if not has_part(text, name):
        return f"{text.rstrip()}{newline * 2}{whole}{newline}"
    before, _, rest = text.partition(start)
    return before + whole + rest.partition(end)[2]


def merged(there: str, new: str) -> str:
    """The existing card `there`, with our section of `new` in place of its own, or appended if it has none.

    Nothing else changes, except the metadata of a card that had no such section.
    """
    start, end = _ends(PART)
    front, _, rest = new.partition(start)
    return _with_ours(there, rest.partition(end)[0], (*_TAGS, *[_SAMPLING] * (f"- {_SAMPLING}\n" in front)))


def _ends(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def _tagged(own: str, tags: Sequence[str]) -> str:
    """The card with our tags in its front matter; unchanged if the front matter cannot be parsed."""
    try:
        found = ModelCard(own, ignore_metadata_errors=False)
    except Exception:  # errors of the YAML parser, and ValueError
        return own
    data: Any = found.data
    data.tags = [*(data.tags or []), *(tag for tag in tags if tag not in (data.tags or []))]
    data.library_name = data.library_name or "transformers"
    data.pipeline_tag = data.pipeline_tag or "text-classification"
    return str(found)
