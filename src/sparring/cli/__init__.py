"""The command line: one file per verb.

Importing it bounds, on machines of few cores, how long torch's threads spin while they wait for each other: for
milliseconds by default, which two processes on the same cores take from each other (docs/log.md: each was left a
quarter of its speed, with the bound half). It must stand before torch is loaded; processes that are started inherit
it, and your own setting takes precedence.
"""

import os

FEW_CORES = 8
"""most cores where the bound is set: it was measured on two, and waking many sleeping threads takes longer than few"""

if "OMP_WAIT_POLICY" not in os.environ and (os.cpu_count() or 1) <= FEW_CORES:
    # What libgomp itself takes where it knows of more threads than cores; it does not know of other processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
