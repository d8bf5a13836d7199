"""Which texts train a student, choose its epoch and measure it."""

import warnings

import pytest
from bayesian_text_classification.distillation.parts import parts_of
from hypothesis import given
from hypothesis import strategies as st


def test_parts_are_disjoint_and_do_not_depend_on_order_and_copies():
    texts = [f"text number {i}" for i in range(1_000)]
    parts = parts_of(texts)
    assert [len(part) for part in (parts.training, parts.choosing, parts.measuring)] == [800, 100, 100]
    assert sorted(parts.all) == sorted(texts)
    assert parts_of([*reversed(texts), *texts[:300]]) == parts
    assert parts_of([*texts, *(f"{text.replace(' ', '  ')} " for text in texts)]) == parts  # white space is no text


@given(st.integers(100, 300), st.integers(0, 10**9))
@pytest.mark.filterwarnings("ignore:.*are few for a student")
def test_a_new_text_changes_few_places(count, start):
    """Most texts stay in their part when one is added, so a repeated run measures on almost the same texts."""
    texts = [f"text {start + i}" for i in range(count)]
    before, after = parts_of(texts), parts_of([*texts, "one more"])
    assert len(set(before.training) - set(after.training)) <= 2


def test_pairs_are_texts_too():
    pairs = [{"text": f"question {i}", "text_pair": "answer"} for i in range(1_000)]
    assert len(parts_of([*pairs, *pairs]).all) == 1_000


def test_too_few_texts_are_refused_and_few_are_warned_about():
    with pytest.raises(ValueError, match=r"there are 99 distinct texts, .* at least 100; pass more texts"):
        parts_of([f"text {i}" for i in range(99)] * 3)
    with pytest.warns(UserWarning, match=r"999 distinct texts are few for a student.*pass more texts"):
        parts_of([f"text {i}" for i in range(999)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts_of([f"text {i}" for i in range(1_000)])


def test_a_single_text_is_refused():
    with pytest.raises(ValueError, match=r"texts is a single text; pass a list of texts"):
        parts_of("a good film" * 100)


def test_an_item_that_is_no_text_is_named():
    with pytest.raises(ValueError, match=r"input 1 is 3 \(int\)"):
        parts_of(["fine", 3])
