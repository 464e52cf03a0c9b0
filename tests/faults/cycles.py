"""How often a fault is repeated: a few times among the other tests, and 20 times by `make faults`."""

import os

CYCLES = int(os.environ.get("HINDCAST_FAULT_CYCLES", "2"))
