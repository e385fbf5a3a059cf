"""A mixture that adapts to a model: `adapt`."""
