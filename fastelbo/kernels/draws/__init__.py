"""Blocks of draws: sampling, log densities and log weights."""
