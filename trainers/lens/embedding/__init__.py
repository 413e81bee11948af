"""The lesion embedding that intra-patient matching compares lesions by (LENS V-B)."""
