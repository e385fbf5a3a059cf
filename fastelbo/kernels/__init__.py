"""Compiled kernels. Only this folder imports numba; it knows no distribution class."""
