"""What comes back from an estimate."""
