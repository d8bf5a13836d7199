"""Decide which texts to accept, and which texts to label first."""

from .heuristics import HEURISTICS, rank
from .label_thresholds import label_thresholds
from .thresholds import Threshold, threshold_for, upper_bound

__all__ = ["HEURISTICS", "Threshold", "label_thresholds", "rank", "threshold_for", "upper_bound"]
