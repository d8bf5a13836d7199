"""Classify rows at scale, on one machine or many."""

from .cluster import Cluster
from .predict import Summary, predict_dataset, predict_file

__all__ = ["Cluster", "Summary", "predict_dataset", "predict_file"]
