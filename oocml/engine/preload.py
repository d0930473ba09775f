"""What the process that workers are forked from imports: everything a task needs, so that workers share its pages.

It must stay single-threaded and do no I/O through Zarr, whose threads would not survive the fork.
"""

import gc
import json
import os

import distributed.nanny
import distributed.worker  # noqa: F401
import numpy as np

import oocml.engine.score
import oocml.engine.task  # noqa: F401
from oocml.engine.cluster import REHEARSE
from oocml.engine.malloc import give_back_memory
from oocml.engine.rehearsal import rehearse
from oocml.kernels.finite import all_finite
from oocml.models.registry import load_model

all_finite(np.zeros(1, np.float32))  # loads numba's tables, the largest part
if REHEARSE in os.environ:
    reference, settings = json.loads(os.environ[REHEARSE])
    rehearse(load_model(reference), settings)
gc.collect()
give_back_memory()  # loading takes more than what is left of it, and compiling, where nothing was on disk, much more
gc.freeze()
