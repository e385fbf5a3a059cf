"""Compiled kernels. Nothing above this package imports numba, nothing in it knows a distribution class."""
