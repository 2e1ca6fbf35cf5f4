"""The command line: one file per verb.

Importing it bounds how long torch's threads spin while they wait for each other: a fraction of a second by default,
which two processes on the same cores take from each other (docs/log.md: each was left a quarter of its speed, now
half). It must stand before torch is loaded; processes that are started inherit it, and your own setting goes before.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # What libgomp itself takes where it knows of more threads than cores; it does not know of other processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
