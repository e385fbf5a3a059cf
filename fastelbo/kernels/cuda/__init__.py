"""Kernels for a CUDA device, and their launches."""
