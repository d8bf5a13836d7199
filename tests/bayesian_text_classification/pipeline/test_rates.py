import numpy as np
import pytest
from bayesian_text_classification.pipeline.options import Options
from bayesian_text_classification.pipeline.rates import OWN, Rates


def test_a_number_is_for_sites_without_a_rate_and_a_factor_for_those_with_one():
    inserted, doubled = Rates.of_option(0.1), Rates.of_option("2x")
    assert (inserted.of(0.0), inserted.of(0.3)) == (0.1, 0.3)
    assert (doubled.of(0.0), doubled.of(0.3)) == (0.0, 0.6)
    assert (OWN.of(0.0), OWN.of(0.3)) == (0.0, 0.3)


@pytest.mark.parametrize(
    ("given", "option"),
    [(None, None), (0.1, 0.1), ("0.1", 0.1), (np.float32(0.5), 0.5), ("2x", "2x"), (" 2.0 x", "2x"), (".5x", "0.5x"),
     ("1x", None), ("1.00001x", None), ("100x", "100x"), ("0.0123x", "0.0123x")],
)  # fmt: skip
def test_equal_rates_have_one_option(given, option):
    assert Options(dropout=given).dropout == option
    assert Rates.of_option(Rates.of_option(given).option) == Rates.of_option(given)


@pytest.mark.parametrize("bad", [0, 1, -0.1, 1.5, True, "x", "0x", "-2x", "half", float("nan"), [0.1], "0.001x", "1e9x",
                                 "9" * 400 + "x", np.array([0.1, 0.2]), b"0.1"])  # fmt: skip
def test_other_options_are_refused(bad):
    with pytest.raises(ValueError, match="must be a rate above 0 and below 1") as error:
        Options(dropout=bad)
    assert "\n" not in str(error.value)


def test_auto_is_not_for_calls():
    with pytest.raises(ValueError, match="is for calibrate and evaluate; call"):
        Options(dropout="auto")
