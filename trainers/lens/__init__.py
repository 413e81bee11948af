"""LENS: training of the universal lesion detector (Yan et al., sections IV and VI)."""
