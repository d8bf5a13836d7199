"""Publish the metrics, the demo and classifiers on the Hub."""

from .push import push
from .uploads import PublishError, Upload, metric_upload, pipeline_upload, space_upload

__all__ = ["PublishError", "Upload", "metric_upload", "pipeline_upload", "push", "space_upload"]
