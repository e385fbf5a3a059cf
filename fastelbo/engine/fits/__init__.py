"""Fits of q, and of models: `fit` and `fit_mixture`."""
