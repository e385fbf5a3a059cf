"""Compiled kernels: only here is numba imported, and nothing here knows a distribution class."""
