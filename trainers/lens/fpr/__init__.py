"""Training of 3D false-positive reduction on what the detector finds (LENS IV-D, VI-B)."""
