"""The model card of an export."""

from ..pipeline.distillation import Distillation
from ..pipeline.model_card import student_part
from ..pipeline.options import Activation
from ..pipeline.scaling import Scaling, TemperatureScaling

_CARD = """\
---
library_name: {library}
pipeline_tag: text-classification
tags:
- calibration
---

# A text classifier with calibrated scores

{what} that needs only {reader}. Its scores are those of one pass.
It was written by `export` of `bayesian-text-classification`.

## Calibration

{calibration}

{student}## How to use it

```python
{code}
```

{texts}
- The scores are honest for texts like those of the calibration. Measure them on labeled texts of your own before you
  rely on a threshold.
- Weights are float32. In half precision, scores differ: in the third digit with float16, in the second with bfloat16.
- Other classifiers that were trained further from these weights need a calibration of their own.
"""
_FOLDED = """\
{fitted} is part of {where}. Nothing else has to be applied to
the scores. It was fitted to labeled texts; this folder does not say how many they were.

    {formula}"""
_NONE = "The scores are those of the model as it was trained. They were not calibrated."
_STOCK = """\
from transformers import pipeline

classifier = pipeline("text-classification", model="<this folder>", truncation=True)
classifier("Not the worst film of the year, but it tries.")"""
_GRAPH = """\
import numpy as np
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("<this folder>")
session = onnxruntime.InferenceSession("<this folder>/model.onnx")
rows = tokenizer(["Not the worst film of the year, but it tries."], padding=True, truncation=True, return_tensors="np")
rows = {name: value.astype(np.int64) for name, value in rows.items()}
(logits,) = session.run(["logits"], {one.name: rows[one.name] for one in session.get_inputs()})
scores = ACTIVATION"""
_SCORES: dict[Activation, str] = {
    "softmax": "np.exp(logits) / np.exp(logits).sum(1, keepdims=True)",
    "sigmoid": "1 / (1 + np.exp(-logits))",
    "none": "logits",
}


def export_card(
    architecture: str, scaling: Scaling | None, activation: Activation, to: str, made_by: Distillation | None = None
) -> str:
    """The card, which says what was folded and how to use the folder.

    Args:
        architecture: Class of the model.
        scaling: The calibration; None if there is none.
        activation: How logits become scores.
        to: "transformers" or "onnx".
        made_by: What made the classifier, if it is a student.
    """
    graph = to == "onnx"
    before = "" if scaling is None else "\n\nThese are figures from before the calibration."
    words = {
        "library": "onnx" if graph else "transformers",
        "what": f"An ONNX graph of {architecture}" if graph else f"A checkpoint of {architecture}",
        "reader": "ONNX Runtime, or another engine for ONNX" if graph else "transformers",
        "calibration": _NONE if scaling is None else _calibration(scaling, activation, graph),
        "student": "" if made_by is None else f"## A student\n\n{student_part(made_by)}{before}\n\n",
        "code": _GRAPH.replace("ACTIVATION", _SCORES[activation]) if graph else _STOCK,
        "texts": "- The batch size and the length are free."
        if graph
        else "- `truncation=True` cuts texts that are longer than the model's limit, which would be an error.",
    }
    card = _CARD
    for name, text in words.items():
        card = card.replace(f"{{{name}}}", text)
    return card


def _calibration(scaling: Scaling, activation: Activation, graph: bool) -> str:
    fitted = str(scaling)
    has_biases = isinstance(scaling, TemperatureScaling) and bool(scaling.biases)
    formula = {
        "softmax": "score = softmax(logits / T + bias)" if has_biases else "score = softmax(logits / T)",
        "sigmoid": "score = sigmoid(slope * logit + bias), for each label",
    }[activation]
    where = "the graph" if graph else "the weights of the last linear layer"
    return _FOLDED.format(fitted=fitted[0].upper() + fitted[1:], where=where, formula=formula)
