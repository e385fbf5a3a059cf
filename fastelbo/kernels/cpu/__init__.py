"""Drivers of the CPU: which blocks are evaluated, by whom, in what order states are merged."""
