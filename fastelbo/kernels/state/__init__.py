"""The mergeable state of a data point, and its largest log weights."""
