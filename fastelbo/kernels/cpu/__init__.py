"""CPU drivers: which thread evaluates which blocks, and the order in which states are merged."""
