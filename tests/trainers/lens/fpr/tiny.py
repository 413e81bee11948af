"""A network of false-positive reduction that is small enough for tests."""

from lnsdk.trainers.networks.fpr import FprShape
from lnsdk.trainers.networks.lens import FULL_WINDOW

TINY = FprShape(patch=(8, 32, 32), stem_kernel=3, widths=(4, 4, 8, 8), layers=1, bins=(1, 2, 2), windows=(FULL_WINDOW,))
