"""Set-up of the whole test run."""

import os

# One thread per test process: several pools would only fight over the cores. Read when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
