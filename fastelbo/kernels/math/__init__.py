"""Building blocks of kernels: scalar functions, sums, selection, copies and instructions."""
