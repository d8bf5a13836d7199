"""The model card that is saved with a pipeline: what the scores mean and how to use them."""

ADAPTER_WARNING = """> This classifier is a model with a LoRA adapter in the folder `adapter`. Loaded in another way
> than shown here (as plain `text-classification`, say), the model answers **without its adapter**.

"""

TEXT = """---
library_name: transformers
pipeline_tag: text-classification
tags:
- bayesian-text-classification
- mc-dropout
- calibration
- uncertainty
---

# A text classifier that says how sure it may be

{warning}This classifier averages its probabilities over many dropout masks (MC-Dropout,
[Gal & Ghahramani 2016](https://arxiv.org/abs/1506.02142)), every dropout site included, and says how unsure
it is. Saved options: {options}.

## How to use it

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

## What the answers mean

| key | meaning |
|---|---|
| `label`, `score` | the winning label, and its probability averaged over the dropout masks |
| `score_std`, `standard_error` | its spread over the masks; how far the average may be from its limit |
| `predictive_entropy` | total uncertainty, in nats |
| `expected_entropy` | the part that single masks have too: the text fits several labels |
| `mutual_information` | the part in which the masks disagree: training did not cover such texts |
| `num_samples`, `truncated` | masks used; whether the text was longer than the model's limit |

The same text, seed and options give the same answer in any batch, order or process.

## Limits

- It costs `num_samples` forward passes; `tolerance=0.02` stops early where the score is sure enough.
- The scores are as good as the model: MC-Dropout makes them more honest, not always honest. Measure the calibration on
  labelled texts of your own before you rely on a threshold.
- Saved with a temperature other than 1, the scores were calibrated on labelled texts; other texts may need another.
"""
