"""A new last linear layer: the fit against autograd, and the layer in several architectures."""

import numpy as np
import pytest
import torch
from bayesian_text_classification.distillation import new_head
from bayesian_text_classification.distillation.closeness import divergence
from random_texts import random_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*are few for a student"),
    pytest.mark.filterwarnings("ignore:the student is no closer"),
]

TEXTS = random_texts(200)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fit_is_where_the_gradient_is_zero(activation, bias):
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(50, 4)), rng.normal(size=(50, 3))
    targets, penalty = rng.dirichlet(np.ones(3), 50), 0.1
    found = new_head._fitted(np.zeros((3, 4 + bias)), features, logits, targets, penalty, activation)
    change = torch.tensor(found, requires_grad=True)
    moved = torch.tensor(logits) + torch.tensor(features) @ change[:, :4].T + (change[:, 4] if bias else 0)
    loss = divergence(moved, torch.tensor(targets), activation) + penalty / 2 * (change[:, :4] ** 2).sum()
    loss.backward()
    assert change.grad.abs().max() < 1e-4
    assert np.abs(found).max() > 0.05  # and it did move


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {"hidden_dropout_prob": 0.3}),
        ("bert", {"hidden_dropout_prob": 0.3, "problem_type": "multi_label_classification", "num_labels": 3}),
        ("bert", {"hidden_dropout_prob": 0.3, "num_labels": 1}),
        ("gpt2", {"resid_pdrop": 0.3}),  # logits of every token, and no bias
        ("roberta", {"hidden_dropout_prob": 0.3}),  # a head of two layers
        ("bart", {"dropout": 0.3}),
        ("xlnet", {"dropout": 0.3}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_only_the_last_layer_changes_and_the_student_is_closer(tiny, bayesian, kind, settings):
    model = tiny(kind, **settings)
    student = bayesian(model, num_samples=10).distill(TEXTS, how="head")
    made = student.distillation
    assert made.how == "head" and set(made.settings) == {"penalty"}
    assert made.student.kl < made.ordinary.kl
    before, after = model.state_dict(), student.model.state_dict()
    layers = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert len(layers) == 1 and student.model.get_submodule(layers.pop()).weight.shape[0] == model.config.num_labels


def test_a_teacher_without_spread_keeps_the_old_layer(tiny, bayesian):
    """The ordinary pass is the teacher, up to rounding."""
    ours = bayesian(tiny("bert", hidden_dropout_prob=1e-7, attention_probs_dropout_prob=0.0), num_samples=2)
    made = ours.distill(TEXTS, how="head").distillation
    assert made.student.kl < 1e-6 and made.student.agreement == 1


def test_progress_counts_every_pass(tiny, bayesian):
    from bayesian_text_classification.distillation import distill as module

    ours, passes = bayesian(tiny("bert")), []
    ours.distill(TEXTS, how="head", num_samples=2, progress=passes.append)
    settings = {"how": "head", "epochs": None, "learning_rate": None, "batch_size": None}
    plan = module.planned(ours, TEXTS, **settings, training=None, checkpoints=None, num_samples=2)
    assert sum(passes) == plan.passes > 0


def test_logits_of_no_linear_layer_are_refused(tiny, bayesian, monkeypatch):
    monkeypatch.setattr(new_head, "last_layers", lambda *_: None)
    with pytest.raises(ValueError, match=r"do not come from one linear layer; pass how='weights'"):
        bayesian(tiny("bert"), num_samples=2).distill(TEXTS, how="head")
