"""The results of an estimate."""
