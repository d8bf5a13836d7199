"""The loss of a student, its gradient, and the examples that it is trained on."""

import numpy as np
import pytest
import torch
from bayesian_text_classification.distillation.closeness import divergence
from bayesian_text_classification.distillation.training import Examples
from scipy.special import expit, softmax
from scipy.stats import entropy
from torch import nn


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 3)), rng.dirichlet(np.ones(3), 5)


def test_loss_is_the_divergence_of_scipy(drawn):
    logits, targets = drawn
    loss = divergence(torch.tensor(logits), torch.tensor(targets), "softmax")
    assert float(loss) == pytest.approx(entropy(targets, softmax(logits, 1), axis=1).mean())


def test_loss_of_independent_labels_is_a_sum_over_labels(drawn):
    logits, targets = drawn
    both = (np.stack([one, 1 - one]) for one in (targets, expit(logits)))
    loss = divergence(torch.tensor(logits), torch.tensor(targets), "sigmoid")
    assert float(loss) == pytest.approx(entropy(*both).sum(1).mean())


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_gradient_of_the_loss_is_probability_minus_target(drawn, activation):
    logits, targets = (torch.tensor(one) for one in drawn)
    logits.requires_grad_()
    divergence(logits, targets, activation).backward()
    p = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    torch.testing.assert_close(logits.grad, (p - targets).detach() / len(logits))


def test_targets_of_zero_and_one_have_a_finite_loss():
    targets = torch.tensor([[1.0, 0.0]])
    for activation in ("softmax", "sigmoid"):
        assert divergence(torch.tensor([[2.0, -2.0]]), targets, activation).isfinite()


def test_texts_with_another_number_of_end_tokens_are_left_out(tiny, bayesian, tokenizer):
    """BART refuses a batch whose rows hold unequal numbers of them."""
    ours = bayesian(tiny("bart"))
    texts = ["a film", "good [SEP] bad", "fine"]
    targets = np.eye(3, 2, dtype=np.float32)
    examples = Examples(texts, targets, ours.encoder, {})
    assert len(examples) == 2
    assert [example["labels"].tolist() for example in examples] == [[1, 0], [0, 0]]


def test_a_new_adapter_changes_nothing_and_counts_twice(tiny):
    """As in the paper of LoRA, it begins at zero; alpha is twice the rank."""
    from bayesian_text_classification.distillation.training import RANK, with_lora

    model = with_lora(tiny("bert"))
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    assert layer.scaling == {"default": 2.0} and layer.r == {"default": RANK}
    assert not layer.lora_B["default"].weight.any() and layer.lora_A["default"].weight.any()


def test_dropout_is_off_in_training(tiny, bayesian):
    """The teacher has averaged over it."""
    from bayesian_text_classification.distillation import training

    seen = []

    class Watched(training._Trainer):
        def compute_loss(self, model, *args, **more):
            loss = super().compute_loss(model, *args, **more)
            seen.extend(module.training for module in model.modules() if isinstance(module, nn.Dropout))
            return loss

    ours, texts = bayesian(tiny("bert")), ["a film", "good", "bad", "fine film"]
    examples = Examples(texts, np.full((4, 2), 0.5, np.float32), ours.encoder, {})
    settings = training.Settings(1, 1e-3, 2, 0, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_Trainer", Watched)
        training.trained(tiny("bert"), ours.encoder, examples, examples, "softmax", settings, None, lambda n: None)
    assert seen and not any(seen)
