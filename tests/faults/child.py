"""One driver in a process of its own, for others to kill: ``python -m tests.faults.child '{"verb": ...}'``."""

from __future__ import annotations

import json
import sys
from typing import Any

import oocml


def main(verb: str, **options: Any) -> None:
    if verb == "train":
        oocml.train(**options)
    else:
        oocml.resume(**options)


if __name__ == "__main__":
    try:
        main(**json.loads(sys.argv[1]))
    except oocml.errors.OocmlError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(f"{type(error).__name__}: {error}")
