"""Tests of the CUDA kernels in numba's simulator, which has to be chosen before numba is imported.

``tests/test_cuda_simulator.py`` runs them in a process of their own; by hand it is
``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/simulator``.
"""

import os
import sys

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
collect_ignore_glob = [] if SIMULATED else ["test_*.py"]
if SIMULATED:
    # The threads of a simulated block wait for one another all the time.
    sys.setswitchinterval(1e-5)
