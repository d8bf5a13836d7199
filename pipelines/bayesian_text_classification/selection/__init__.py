"""Decide which texts to accept, and which texts to label first."""

from .heuristics import HEURISTICS, rank
from .thresholds import Threshold, threshold_for, upper_bound

__all__ = ["HEURISTICS", "Threshold", "rank", "threshold_for", "upper_bound"]
