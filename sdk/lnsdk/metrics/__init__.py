"""How well a pipeline found what was there."""

from lnsdk.metrics.froc import FALSE_POSITIVES, Froc, froc, froc_by_group

__all__ = ["FALSE_POSITIVES", "Froc", "froc", "froc_by_group"]
