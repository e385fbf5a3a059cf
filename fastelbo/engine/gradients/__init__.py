"""Gradients of the ELBO and of importance-weighted bounds: `elbo_gradient`."""
