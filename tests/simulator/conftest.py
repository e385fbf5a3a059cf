"""Tests of the CUDA kernels in numba's simulator, which must be chosen before numba is imported.

``tests/test_cuda_simulator.py`` runs them in a process of their own. By hand:
``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/simulator``.
"""

import os
import sys

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
collect_ignore_glob = [] if SIMULATED else ["test_*.py"]
if SIMULATED:
    # The threads of a simulated block often wait for each other, so Python switches quickly.
    sys.setswitchinterval(1e-5)
