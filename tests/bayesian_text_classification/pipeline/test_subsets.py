from collections import defaultdict
from fractions import Fraction
from itertools import combinations
from math import comb

import pytest
import torch
from bayesian_text_classification.pipeline.masks import GROUP_SIZE, KeyedMasks, Layout
from bayesian_text_classification.pipeline.subsets import BIT_OF_PASS, subsets_for

RATES = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.7, 0.9]
CPU = torch.device("cpu")


def law(p, size=GROUP_SIZE):
    """Probability of each set of dropped passes, exactly, from the table."""
    found = subsets_for(p, size, CPU)
    share = Fraction(found.end, 1 << found.bits)
    probability = defaultdict(Fraction)
    for word in found.words.tolist():
        dropped = frozenset(t for t in range(size) if word >> BIT_OF_PASS[t] & 1)
        extra = frozenset(t for t in range(size) if word >> (BIT_OF_PASS[t] + 16) & 1)
        probability[dropped] += (1 - share) / len(found.words)
        probability[dropped | extra] += share / len(found.words)
    return {one: weight for one, weight in probability.items() if weight}


def covariance(p):
    """Exact covariances of one unit's drops in the passes of a group."""
    probability = law(p)
    mean = [sum(w for one, w in probability.items() if t in one) for t in range(GROUP_SIZE)]

    def both(s, t):
        return sum(w for one, w in probability.items() if {s, t} <= one)

    return [[both(s, t) - mean[s] * mean[t] for t in range(GROUP_SIZE)] for s in range(GROUP_SIZE)]


@pytest.mark.parametrize("p", RATES)
def test_each_pass_drops_a_unit_with_probability_p(p):
    for t in range(GROUP_SIZE):
        assert abs(sum(w for one, w in law(p).items() if t in one) - p) < 1e-7


@pytest.mark.parametrize("p", RATES)
def test_all_subsets_of_one_size_are_equally_likely(p):
    """Hand arithmetic: a mean of floor(pG) and ceil(pG) passes, with pG on average."""
    by_size = defaultdict(list)
    for one, weight in law(p).items():
        by_size[len(one)].append(weight)
    share, whole = p * 10 % 1, int(p * 10 + 1e-9)
    assert set(by_size) <= {whole, whole + 1}
    for size, weights in by_size.items():
        assert len(weights) == comb(10, size)
        assert max(weights) == min(weights)
        assert float(sum(weights)) == pytest.approx(1 - abs(size - p * 10), abs=1e-6), (size, share)


@pytest.mark.parametrize("p", RATES)
def test_two_units_vary_together_at_most_1_15_times_as_much_as_with_independent_masks(p):
    """Var sum_t (a_t - p)(b_t - p) is the sum of squared covariances, for two units with the same law."""
    variance = sum(c * c for row in covariance(p) for c in row)
    assert 1 <= variance / (10 * p**2 * (1 - p) ** 2) <= 1.15


@pytest.mark.parametrize("size", [1, GROUP_SIZE])
@pytest.mark.parametrize("p", [*RATES, 0.33, 1.0])
def test_a_word_is_a_normal_number_of_every_type_with_the_sign_of_any_pass(p, size):
    """So no processor takes it for zero or for no number, whatever else its bits say."""
    found = subsets_for(p, size, CPU)
    words = torch.cat([found.words, found.words ^ (found.words >> 16)])  # without and with the extra pass
    for integer, kind in [(torch.int16, torch.bfloat16), (torch.int16, torch.float16), (torch.int32, torch.float32),
                          (torch.int64, torch.float64)]:  # fmt: skip
        for t in range(size):
            number = (words.to(integer) << 8 * kind.itemsize - 1 - BIT_OF_PASS[t]).view(kind)
            assert number.isfinite().all() and (number.abs() >= torch.finfo(kind).tiny).all()
            assert torch.equal(number < 0, words >> BIT_OF_PASS[t] & 1 > 0)


@pytest.mark.parametrize("p", [0.1, 0.2, 0.3, 0.5])
def test_the_pair_factor_is_that_of_a_latin_hypercube_where_every_subset_has_one_size(p):
    variance = sum(c * c for row in covariance(p) for c in row)
    assert float(variance) / (10 * p**2 * (1 - p) ** 2) == pytest.approx(10 / 9, abs=1e-6)


@pytest.mark.parametrize("p", RATES)
def test_the_masks_follow_the_table(p):
    """The hash picks each subset as often as the table says, and pairs of units vary together as they should."""
    keyed = KeyedMasks(torch.arange(1, 41) * 0x9E3779B97F4A7C1, None, range(10), 1, seed=3, balanced=True)
    mask = keyed.mask(0, (400, 40, 64), p, Layout(0, (0,)), torch.float32, torch.device("cpu"))
    kept = mask.whole().view(40, 10, 40 * 64) > 0
    dropped = (~kept).double()
    counts = dropped.sum(1)
    assert set(counts.unique().tolist()) <= {float(int(p * 10 + 1e-9)), float(int(p * 10 + 1e-9) + 1)}
    away = dropped - p
    first, second = away[:, :, 0::2], away[:, :, 1::2]
    factor = (first * second).sum(1).square().mean() / (10 * p**2 * (1 - p) ** 2)
    expected = sum(c * c for row in covariance(p) for c in row) / (10 * p**2 * (1 - p) ** 2)
    assert float(factor) == pytest.approx(float(expected), rel=0.05)
    together = {pair: float((away[:, pair[0]] * away[:, pair[1]]).mean()) for pair in combinations(range(10), 2)}
    for value in together.values():
        assert value == pytest.approx(float(covariance(p)[0][1]), abs=6 * p * (1 - p) / counts.numel() ** 0.5)


def test_single_passes_are_one_draw_each():
    assert law(0.3, size=1).keys() == {frozenset(), frozenset({0})}
    assert float(law(0.3, size=1)[frozenset({0})]) == pytest.approx(0.3, abs=1e-8)


@pytest.mark.parametrize(("p", "passes"), [(1.0, 10), (0.99999999999, 10), (1e-12, 0)])
def test_rates_next_to_0_and_1(p, passes):
    (only,) = law(p)
    assert len(only) == passes
