"""How well a pipeline found what was there."""

from lnsdk.metrics.froc import FALSE_POSITIVES, HIT_OVERLAP, Froc, froc, froc_by_group

__all__ = ["FALSE_POSITIVES", "HIT_OVERLAP", "Froc", "froc", "froc_by_group"]
