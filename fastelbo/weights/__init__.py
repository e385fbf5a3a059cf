"""Log weights that exist already: reductions, bounds, smoothing, diagnostics."""
