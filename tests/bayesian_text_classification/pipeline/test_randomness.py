import random

import numpy as np
import pytest
import torch
from bayesian_text_classification.pipeline.randomness import first_to_draw
from torch import nn

DRAWS = {
    "torch": lambda x: torch.randn(x.shape[-1]),
    "tensor": lambda x: torch.empty_like(x).uniform_(),
    "gamma": lambda x: torch.distributions.Gamma(torch.ones(x.shape[-1]), 1.0).rsample(),
    "dirichlet": lambda x: torch.distributions.Dirichlet(torch.ones(x.shape[-1])).rsample(),
    "binomial": lambda x: torch.distributions.Binomial(5, torch.full((x.shape[-1],), 0.5)).sample(),
    "numpy": lambda x: np.random.rand(),  # noqa: NPY002  # a model might do this
    "python": lambda x: random.random(),
}


class Draws(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x + self.draw(x)


@pytest.mark.parametrize("draw", DRAWS)
def test_the_first_module_to_draw_is_found(draw, same_random_state):
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), Draws(DRAWS[draw])), nn.Dropout())
    names = {module: name for name, module in model.named_modules()}
    with same_random_state():
        assert first_to_draw(lambda: model(torch.ones(1, 2)), names)[1] == "1.1"


def test_a_run_that_draws_nothing_runs_once():
    runs = []
    assert first_to_draw(lambda: runs.append(0) or "result", {}) == ("result", None)
    assert runs == [0]


class DrawsInEval(nn.Module):
    """Like Reformer's hashing: random rotations in every mode, for texts of more than one chunk."""

    def __init__(self, draw, at_least=0):
        super().__init__()
        self.draw, self.at_least, self.drop = draw, at_least, nn.Dropout(0.1)

    def forward(self, x):
        return self.drop(x + self.draw(x) if x.shape[1] >= self.at_least else x)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_model_that_draws_in_eval_mode_raises(draw, encode, twin_of, same_random_state, own):
    with same_random_state(), pytest.raises(ValueError, match=r"in eval\(\) mode, in 'subject'") as caught:
        twin_of(own(DrawsInEval(DRAWS[draw])))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("draw", ["torch", "tensor", "gamma", "dirichlet", "binomial"])
def test_a_model_that_only_draws_for_long_texts_raises_there(
    draw, encode, twin_of, same_random_state, samples, own, texts
):
    twin = twin_of(own(DrawsInEval(DRAWS[draw], at_least=20)))
    samples(twin, encode(texts))
    long = encode([" ".join(["film"] * 20)])
    for run in (lambda: samples(twin, long), lambda: twin.logits(long)):
        with same_random_state(), pytest.raises(ValueError, match=r"draws random numbers in eval\(\) mode"):
            run()


@pytest.mark.parametrize("draw", ["numpy", "python"])
def test_draws_from_numpy_and_python_are_detected(draw, twin_of, same_random_state, own):
    class Noise(nn.Module):
        def forward(self, x):
            return x * (1 + 1e-9 * DRAWS[draw](x)) if self.training else x

    with pytest.warns(UserWarning, match="more than dropout"), same_random_state():
        assert twin_of(own(nn.Sequential(nn.Dropout(0.1), Noise()))).beyond_dropout == "subject.1"


class BuildsItself(nn.Module):
    """Like BigBird at its first short text: replaces a layer with a randomly initialized one."""

    def __init__(self):
        super().__init__()
        self.drop, self.new = nn.Dropout(0.1), None

    def forward(self, x):
        if self.new is None:
            self.new = nn.Linear(16, 16)
            self.new.weight.data.fill_(0.1)
        return self.drop(x + self.new(x) * 0)


def test_a_model_that_rebuilds_itself_leaves_caller_and_random_state_unchanged(
    encode, twin_of, same_model, same_random_state, samples, calls_of, own, texts
):
    model = own(BuildsItself())
    with same_random_state(), same_model(model):
        twin = twin_of(model)
        samples(twin, encode(texts))
    assert calls_of(twin) == 1
