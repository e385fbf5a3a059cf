"""How kernels are compiled and run: numba's options and internals, nowhere else."""
