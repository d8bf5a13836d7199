from itertools import count, islice

import pytest
from bayesian_text_classification.pipeline.batching import TokenBudget, plan, windows
from bayesian_text_classification.pipeline.masks import GROUP_SIZE
from bayesian_text_classification.pipeline.text_sampler import TOKENS_PER_BATCH
from hypothesis import given, settings
from hypothesis import strategies as st

lengths = st.lists(st.integers(0, 40), max_size=30)
anything = {
    "lengths": lengths,
    "samples": st.builds(lambda first, count: range(first, first + count), st.integers(0, 12), st.integers(1, 25)),
    "budget": st.integers(1, 600),
    "max_texts": st.none() | st.integers(1, 8),
    "apart": st.none() | st.lists(st.integers(-1, 1), min_size=30, max_size=30),
}


def batches(lengths, samples, budget, **options):
    """The plan as a list. Fails if there are more batches than rows, which means that the plan never ends."""
    found = list(islice(plan(lengths, samples, TokenBudget(budget), **options), len(lengths) * len(samples) + 1))
    assert len(found) <= len(lengths) * len(samples), "the plan does not end"
    return found


@settings(max_examples=150)
@given(**anything)
def test_every_sample_of_every_text_is_planned_once(lengths, samples, budget, max_texts, apart):
    rows = [
        (text, sample)
        for batch in batches(lengths, samples, budget, max_texts=max_texts, apart=apart)
        for text in batch.texts
        for sample in batch.samples
    ]
    assert sorted(rows) == [(text, sample) for text in range(len(lengths)) for sample in samples]


@settings(max_examples=150)
@given(**anything)
def test_batches_respect_their_limits(lengths, samples, budget, max_texts, apart):
    for batch in batches(lengths, samples, budget, max_texts=max_texts, apart=apart):
        rows, longest = len(batch.texts) * len(batch.samples), max(lengths[i] for i in batch.texts)
        assert rows >= 1
        group = len({sample // GROUP_SIZE for sample in batch.samples}) == 1 and len(batch.texts) == 1
        assert rows * longest <= budget or rows == 1 or (group and 3 * rows * longest <= 5 * budget)
        assert max_texts is None or len(batch.texts) <= max_texts
        if apart is not None:
            assert len({apart[i] for i in batch.texts}) == 1


@settings(max_examples=100)
@given(**anything)
def test_longest_texts_come_first(lengths, samples, budget, max_texts, apart):
    """If memory runs out, it runs out at the start."""
    planned = batches(lengths, samples, budget, max_texts=max_texts, apart=apart)
    for number in {0} if apart is None else set(apart):
        order = [lengths[i] for batch in planned for i in batch.texts if apart is None or apart[i] == number]
        assert order == sorted(order, reverse=True)


@settings(max_examples=100)
@given(**anything)
def test_samples_are_split_only_if_one_text_exceeds_the_budget(lengths, samples, budget, max_texts, apart):
    for batch in batches(lengths, samples, budget, max_texts=max_texts, apart=apart):
        if len(batch.samples) < len(samples):
            assert len(batch.texts) == 1
            assert len(samples) * max(lengths[batch.texts[0]], 1) > budget


def test_planned_batches_match_hand_calculation():
    planned = [(list(b.texts), b.samples) for b in plan([3, 10, 4, 4], samples=range(2), budget=TokenBudget(24))]
    # 24 tokens hold two rows of 10 (one text) or six rows of 4 (three texts).
    assert planned == [([1], range(2)), ([2, 3, 0], range(2))]


@pytest.mark.parametrize(
    ("length", "samples", "budget", "expected"),
    [
        (10, range(20), 100, [range(10), range(10, 20)]),
        (10, range(20), 199, [range(10), range(10, 20)]),
        (10, range(20), 60, [range(10), range(10, 20)]),  # passes of a group may take two thirds more
        (10, range(20), 40, [range(i, i + 5) for i in range(0, 20, 5)]),
        (10, range(10), 24, [range(4), range(4, 8), range(8, 10)]),
        (10, range(5, 32), 250, [range(5, 20), range(20, 32)]),
        (10, range(5, 12), 17, [range(5, 7), range(7, 9), range(9, 10), range(10, 12)]),
        (10, range(5, 12), 30, [range(5, 9), range(9, 10), range(10, 12)]),
        (10, range(3), 24, [range(3)]),
    ],
)
def test_samples_of_a_long_text_are_split_at_groups(length, samples, budget, expected):
    assert [b.samples for b in plan([length], samples=samples, budget=TokenBudget(budget))] == expected


@pytest.mark.parametrize(("width", "rows"), [(None, 5), (1_024, 5), (768, 5), (600, 5), (384, 10), (32, 10)])
def test_a_batch_of_a_narrow_model_may_hold_more_passes_of_a_long_text(width, rows):
    parts = [len(b.samples) for b in plan([512], samples=range(10), budget=TokenBudget(1_536, width))]
    assert max(parts) == rows
    budget = TokenBudget(1_536, width)
    budget.set(1_535)  # what a user sets is never exceeded
    assert max(len(b.samples) for b in plan([512], samples=range(10), budget=budget)) == 2


def test_texts_of_equal_length_keep_their_order():
    assert [list(b.texts) for b in plan([4] * 5, samples=range(1), budget=TokenBudget(8))] == [[0, 1], [2, 3], [4]]


def test_texts_without_tokens_terminate():
    """A tokenizer without special tokens (GPT-2) returns zero tokens for an empty text."""
    assert len(batches([0, 3, 0], range(2), 100, apart=[0, 3, 0])) == 2


def test_budget_that_shrinks_while_planning_is_respected():
    budget = TokenBudget(40)
    planned = plan([10, 10, 10, 10, 10, 10, 10], range(1), budget)
    assert len(next(planned).texts) == 4
    budget.halve(40)
    assert [len(batch.texts) for batch in planned] == [2, 1]


def test_budget_is_halved_from_the_failed_size_and_stays_positive():
    budget = TokenBudget(1000)
    budget.halve(60)  # a batch far below the budget did not fit
    assert budget.tokens == 30
    budget.halve(500)  # a batch planned earlier fails later
    assert budget.tokens == 15
    for _ in range(9):
        budget.halve(1)
    assert budget.tokens == 1


def test_no_texts_give_no_batches():
    assert list(plan([], range(20), TokenBudget(100))) == []


@pytest.mark.parametrize(("items", "expected"), [(0, []), (3, [3]), (4, [4]), (9, [4, 4, 1])])
def test_windows_are_consecutive(items, expected):
    found = list(windows(range(items), 4))
    assert [len(window) for window in found] == expected
    assert [item for window in found for item in window] == list(range(items))


def test_windows_read_only_the_items_they_yield():
    numbers = count()
    assert next(windows(numbers, 4)) == [0, 1, 2, 3]
    assert next(numbers) == 4


def test_budget_counts_only_texts_when_samples_run_one_by_one():
    # 100 tokens of budget, texts of 10: ten rows are ten texts, whatever the number of samples.
    found = batches([10] * 25, range(20), 100, samples_are_rows=False)
    assert [(len(batch.texts), batch.samples) for batch in found] == [(10, range(20)), (10, range(20)), (5, range(20))]


def test_a_batch_that_does_not_fit_is_repeated_within_the_budget():
    """The passes of a group may exceed the budget, but never again once that failed."""
    budget = TokenBudget(2048)
    assert [len(b.samples) for b in plan([512], range(20), budget)] == [5, 5, 5, 5]
    budget.halve(2560)
    assert (budget.tokens, budget.lenient) == (2047, False)
    assert [len(b.samples) for b in plan([512], range(10), budget)] == [3, 3, 3, 1]
    budget.halve(3 * 512)
    assert budget.tokens == 768
    budget = TokenBudget(1)
    for _ in range(3):
        budget.halve(4)
    assert budget.tokens == 1 and [len(b.samples) for b in plan([4], range(2), budget)] == [1, 1]


def test_the_budget_of_a_cpu_holds_whole_groups_of_short_texts_and_even_parts_of_long_ones():
    budget, samples = TokenBudget(TOKENS_PER_BATCH["cpu"]), range(20)
    sizes = {length: [b.rows for b in plan([length] * 3, samples, budget)] for length in (25, 128, 192, 256, 384, 512)}
    assert sizes == {25: [60], 128: [10] * 6, 192: [10] * 6, 256: [10] * 6, 384: [5] * 12, 512: [5] * 12}


def test_a_budget_that_is_set_is_not_exceeded():
    budget = TokenBudget(2048)
    budget.set(2048)
    assert budget.lenient
    budget.set(2000)
    assert [len(b.samples) for b in plan([512], range(10), budget)] == [3, 3, 3, 1]


def test_a_budget_that_shrinks_counts_for_the_next_batch_of_a_text():
    budget = TokenBudget(1000)
    batches = plan([100], range(40), budget)
    assert next(batches).samples == range(10)
    budget.halve(1000)
    assert next(batches).samples == range(10, 15)
