"""What can be p and q."""
