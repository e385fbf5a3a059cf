"""The path of an estimate, from request to result."""
