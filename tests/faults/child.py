"""One driver in a process of its own, for others to kill: ``python -m tests.faults.child '{"verb": ...}'``."""

from __future__ import annotations

import faulthandler
import json
import signal
import sys
from typing import Any

import oocml


def main(verb: str, **options: Any) -> None:
    if verb == "train":
        oocml.train(**options)
    else:
        oocml.resume(**options)


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        main(**json.loads(sys.argv[1]))
    except oocml.errors.OocmlError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(f"{type(error).__name__}: {error}")
