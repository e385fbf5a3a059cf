"""Drivers of a CUDA device, and what its threads do together."""
