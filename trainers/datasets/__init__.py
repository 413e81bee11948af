"""Readers of the published data sets that LENS is trained on (Table I), and their way onto the network's grid."""
