"""Scalar functions, sums, selection, copies and instructions that kernels are made of."""
