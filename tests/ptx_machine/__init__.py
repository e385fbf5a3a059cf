"""A machine that runs kernels compiled to PTX, in NumPy, where there is no GPU.

numba's simulator runs the Python source of a kernel. This runs what its compiler makes of it, and
tells, as NVIDIA's compute-sanitizer does, of addresses where nothing is, of two threads that touch
the same number with no barrier between, and of barriers that not all threads come to. What was
never written reads as NaN. Sums and products are rounded apart where a GPU's assembler may fuse
them: results are those of a GPU but for the last bits.

It knows the instructions that fastelbo's kernels are compiled to, as "Parallel Thread Execution
ISA", version 9.0, by NVIDIA describes them, and refuses others.
"""
