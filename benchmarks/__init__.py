"""Speed of the arithmetic, of training and of peers; ``make bench`` runs it and writes reports/bench."""

import os

# The yardstick is one thread of numpy's float32 product: its libraries read this when numpy is loaded.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")
