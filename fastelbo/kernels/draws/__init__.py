"""A block of draws: sampled, then weighed by its log densities."""
