"""The experiments with RoBiRank: graded rows of queries, and items that users took.

    python -m pipelines.ranking --out DIR --data-dir FILES
    python -m pipelines.ranking --out DIR --data-dir FILES --only explicit --set mq2008

Every section writes a CSV file of its name, and figures with goals go to ``findings.csv``. Other libraries are compared
with where they are installed, on one thread, and scored by the same code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from oocml.errors import OocmlError

from .ranking_explicit import explicit
from .ranking_implicit import implicit, noise
from .ranking_interactions import SETS as INTERACTIONS
from .ranking_options import Chosen
from .sections import run_sections
from .table import Section

SECTIONS: dict[str, Callable[[Chosen], Section]] = {
    "explicit": explicit,
    "implicit": implicit,
    "noise": noise,
}


def sections_of(sets: tuple[str, ...]) -> Mapping[str, Callable[[Chosen], Section]]:
    """The sections that some of these sets belong to, each with its own; all if there are none."""
    if not sets:
        return SECTIONS
    items = tuple(name for name in sets if name in INTERACTIONS)
    graded = tuple(name for name in sets if name not in INTERACTIONS)
    own = {name: graded if name == "explicit" else items for name in SECTIONS}
    return {name: _with_sets(SECTIONS[name], own[name]) for name in SECTIONS if own[name]}


def _with_sets(run: Callable[[Chosen], Section], sets: tuple[str, ...]) -> Callable[[Chosen], Section]:
    return lambda options: run(replace(options, sets=sets))


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("oocml-ranking"), help="Folder to write."
)
@click.option("--only", metavar="NAME[,NAME...]", help=f"Of {', '.join(SECTIONS)} (default: all).")
@click.option("--set", "sets", multiple=True, metavar="NAME", help="Data sets (default: the sections' own).")
@click.option("--full", is_flag=True, help="Finer grids, and more methods.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=3, help="Draws of noise on small sets (default: 3)."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Holds NAME/S1.txt ... S5.txt (five folds) or NAME/train.txt, vali.txt, test.txt of LETOR sets, got by hand.",
)
@click.option("--seed", default=0)
def main(only: str | None, **given: Any) -> None:
    """Compare RoBiRank with other rankers."""
    try:
        run_sections(SECTIONS if only else sections_of(given["sets"]), only, Chosen(**given, memcap=None))
    except OocmlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
