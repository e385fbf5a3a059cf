"""The mergeable state of a data point, and the top k of its log weights."""
