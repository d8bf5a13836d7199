import weakref

import numpy as np
import pytest
import torch
from bayesian_text_classification.pipeline.batching import TokenBudget
from bayesian_text_classification.pipeline.errors import InputError
from bayesian_text_classification.pipeline.options import Options
from bayesian_text_classification.pipeline.sampling import FIRST_LOOK, Passes, fixed, until_precise
from hypothesis import given, settings
from hypothesis import strategies as st


def value(text, sample, label):
    return text + sample / 100 + label / 1000


class Model:
    """Values that encode their text, sample and class; batches of more than `most` tokens run out of memory."""

    def __init__(self, lengths, most=10**9, error=None):
        self.lengths, self.most, self.seen, self.failed = lengths, most, [], []
        self.error = error or RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")

    def __call__(self, texts, samples):
        tokens = len(texts) * len(samples) * max(self.lengths[i] for i in texts)
        if tokens > self.most:
            activations = torch.empty(3)  # stands for the tensors of a real failed pass
            self.failed.append(weakref.ref(activations))
            raise type(self.error)(*self.error.args)  # raising a stored instance would keep the frame alive
        if self.failed:
            assert self.failed[-1]() is None, "the failed pass still holds memory while the next one runs"
        self.seen.append(tokens)
        return np.array([[[value(i, t, c) for c in range(2)] for t in samples] for i in texts], np.float32)


def expected(texts, samples):
    return np.array([[[value(i, t, c) for t in samples] for c in range(2)] for i in texts], np.float32)


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=12),
    st.integers(0, 7),
    st.integers(1, 9),
    st.integers(1, 300),
    st.integers(20, 200),
    st.data(),
)
def test_values_keep_their_positions_for_any_memory_limit(lengths, first, count, budget, most, data):
    texts = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, unique=True))
    samples = range(first, first + count)
    rows = []
    passes = Passes(Model(lengths, most), lengths, TokenBudget(budget), progress=rows.append)
    np.testing.assert_array_equal(passes(texts, samples), expected(texts, samples))
    assert sum(rows) == len(texts) * count


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_halves_the_budget_permanently(error):
    lengths = [10] * 8
    model, budget = Model(lengths, most=100, error=error), TokenBudget(1000)
    passes = Passes(model, lengths, budget)
    np.testing.assert_array_equal(passes(range(8), range(5)), expected(range(8), range(5)))
    assert len(model.failed) == 2  # 400 tokens, 200; 100 fit
    assert budget.tokens == 100
    passes(range(8), range(5))
    assert len(model.failed) == 2, "a size that ran out of memory must not be tried again"
    assert max(model.seen) == 100


def test_out_of_memory_for_a_single_row_raises():
    lengths = [10, 500]
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        Passes(Model(lengths, most=100), lengths, TokenBudget(1000))(range(2), range(2))


def test_texts_of_a_failed_batch_run_one_by_one():
    """The model takes 100 tokens in two samples: text 1 alone is too long, texts 0 and 2 only when together."""
    lengths = [10, 500, 45]
    model = Model(lengths, most=100, error=RuntimeError("mat1 and mat2 shapes\ncannot be multiplied"))
    with pytest.raises(InputError, match=r"^input 8: the model cannot run on it: mat1 .* be multiplied$") as caught:
        Passes(model, lengths, TokenBudget(10**6), first=7)(range(3), range(2))
    assert caught.value.inputs == (8,)
    assert sorted(model.seen) == [20, 90]
    good = Passes(Model(lengths, most=100, error=RuntimeError("odd")), lengths, TokenBudget(10**6))
    np.testing.assert_array_equal(good([2, 0], range(2)), expected([2, 0], range(2)))


def test_errors_of_the_device_are_raised():
    lengths = [10, 500]
    model = Model(lengths, most=100, error=torch.AcceleratorError("CUDA error: device-side assert triggered"))
    with pytest.raises(torch.AcceleratorError):
        Passes(model, lengths, TokenBudget(1000))(range(2), range(2))
    assert len(model.failed) == 1


def test_a_fixed_number_of_samples_gives_one_group():
    lengths = [3, 4]
    draws = fixed(Passes(Model(lengths), lengths, TokenBudget(100)), 2, range(2, 5))
    ((texts, values),) = draws.by_count()
    assert texts.tolist() == [0, 1]
    np.testing.assert_array_equal(values, expected([0, 1], range(2, 5)))


def falling(starts):
    """A standard error that starts at `starts[text]` and falls by 1 per sample; values identify their text."""

    def error(samples):
        texts = samples[:, 0, 0].astype(int)
        return np.asarray(starts)[texts] - samples.shape[2]

    return error


def test_texts_stop_once_below_tolerance():
    starts, lengths = [4.2, 10.9, 20.5, 99.0, 4.3], [3, 9, 4, 1, 2]
    model = Model(lengths)
    draws = until_precise(Passes(model, lengths, TokenBudget(50)), 5, 27, 1.0, falling(starts))
    # Standard errors: after 4 samples text 0 has .2, below a quarter of the tolerance, and text 4 has .3; after 10
    # text 1 has .9; after 20 text 2 has .5; text 3 never drops below the tolerance and gets the maximum, 27.
    assert draws.counts.tolist() == [4, 10, 20, 27, 10]
    assert sum(model.seen) < 27 * 5 * 9
    for texts, values in draws.by_count():
        count = draws.counts[texts[0]]
        np.testing.assert_array_equal(values, expected(texts, range(count)))
    assert sorted(i for texts, _ in draws.by_count() for i in texts) == [0, 1, 2, 3, 4]


def test_texts_stop_between_the_first_check_and_the_maximum():
    lengths = [2, 2]
    passes = Passes(Model(lengths), lengths, TokenBudget(50))
    assert until_precise(passes, 2, 40, 1e9, falling([0, 0])).counts.tolist() == [FIRST_LOOK, FIRST_LOOK]
    assert until_precise(passes, 2, 3, 1e9, falling([0, 0])).counts.tolist() == [3, 3]
    assert until_precise(passes, 2, 12, 1e-9, lambda samples: np.full(len(samples), np.nan)).counts.tolist() == [12, 12]


@pytest.mark.parametrize("tolerance", [0, -0.1, float("nan"), float("inf"), "0.1", True])
def test_tolerance_out_of_range_raises(tolerance):
    with pytest.raises(ValueError, match=r"tolerance=.*positive number"):
        Options(tolerance=tolerance)
    assert Options(tolerance=np.float32(0.5)).tolerance == 0.5


def test_undrawn_samples_take_no_memory():
    passes = Passes(Model([1] * 3), [1] * 3, TokenBudget(100))
    found = until_precise(passes, 3, 10**12, 0.1, lambda values: np.zeros(len(values)))
    assert found.values.shape == (3, 2, FIRST_LOOK)
    np.testing.assert_array_equal(found.values, expected(range(3), range(FIRST_LOOK)))


def test_budget_is_halved_by_texts_when_samples_run_one_by_one():
    """One sample at a time, four texts of five tokens are a pass of 20 tokens, whatever the number of samples."""
    model = Model([5] * 4, most=10**9)

    def run(texts, samples):
        if len(texts) * 5 > 10:
            raise RuntimeError("out of memory")
        return model(texts, samples)

    budget = TokenBudget(100)
    passes = Passes(run, [5] * 4, budget, samples_are_rows=False)
    np.testing.assert_array_equal(passes(range(4), range(8)), expected(range(4), range(8)))
    assert budget.tokens == 10
