"""A machine that runs kernels compiled to PTX, in NumPy, without a GPU.

numba's simulator runs the Python source of a kernel. This machine runs the compiled kernel. It
reports the errors that NVIDIA's compute-sanitizer reports: invalid addresses, two threads that
touch the same number without a barrier between, and barriers that some threads do not reach.

Memory that was never written reads as NaN. Products and sums are rounded separately, but a GPU's
assembler may fuse them, so results equal those of a GPU except for the last bits.

The machine knows the instructions in fastelbo's compiled kernels, as NVIDIA's "Parallel Thread
Execution ISA", version 9.0, describes them. It refuses others.
"""
