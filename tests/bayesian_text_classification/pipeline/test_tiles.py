from math import prod

import torch
from bayesian_text_classification.pipeline.tiles import even, one_row_at_a_time, tile_size, tiles
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 400))
def test_tiles_cover_each_place_once_in_order(sizes, most):
    numbers = torch.arange(prod(sizes)).view(sizes)
    found = [numbers[tile].flatten() for tile in tiles(sizes, most)]
    assert torch.cat(found).tolist() == list(range(prod(sizes)))
    assert all(len(part) <= max(most, 1) for part in found)


@given(st.integers(1, 10_000), st.integers(0, 500))
def test_even_parts_are_at_most_as_large_as_asked_and_as_few_as_possible(size, most):
    step, most = even(size, most), max(most, 1)
    assert 1 <= step <= most
    assert -(-size // step) == -(-size // most)


def test_a_tensor_without_numbers_is_one_tile():
    assert list(tiles((3, 0, 5), 10)) == [(slice(0, 3), slice(0, 0), slice(0, 5))]


def test_threads_share_a_tile():
    assert tile_size(torch.device("cpu")) == 2**17 * torch.get_num_threads()
    assert tile_size(torch.device("meta")) == 2**24


def test_large_rows_are_tiles_by_themselves_on_a_cpu():
    least = 2**15 * torch.get_num_threads()
    assert one_row_at_a_time(least, torch.device("cpu"))
    assert not one_row_at_a_time(least - 1, torch.device("cpu"))
    assert not one_row_at_a_time(least, torch.device("meta"))
