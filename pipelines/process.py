"""Trainings in processes of their own, as from the command line, so that limits and measurements hold all they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oocml.errors import OocmlError
from oocml.run import Run

from .training import discard


def train_alone(
    what: Sequence[str | Path],
    run: Path,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    under: Sequence[str] = (),
) -> dict[str, Any]:
    """Run ``oocml train``; the run is removed.

    Parameters
    ----------
    what
        Model and dataset.
    options
        Of the command line, without their dashes.
    under
        A program that runs the command which follows, and its arguments.

    Returns
    -------
    The keys of ``oocml report --json``.
    """
    command = [sys.executable, "-m", "oocml.cli", "train", *map(str, what), str(run), "--json", "--overwrite"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    done = subprocess.run([*under, *command], capture_output=True, text=True, env=environment, check=False)
    try:
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing was said"]
            error = next((line for line in lines if line.startswith("error")), lines[-1])
            raise OocmlError(f"{' '.join(map(str, what))}: exit {done.returncode}: {error}")
        # --json leaves the layout out, the run has it
        return {**json.loads(done.stdout), "config": Run(run).config}
    finally:
        discard(run)
