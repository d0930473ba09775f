"""The experiments with variational inference: ESVI against VI and SVI, for topics of documents and for mixtures.

    python -m pipelines.vi --out DIR --data-dir FILES             small: some minutes
    python -m pipelines.vi --only gmm,kernel --full --data-dir FILES

Sections write a CSV file each, ``lda`` and ``gmm`` a plot as well. Every line is a training of its own, from the start,
with that many epochs, in one process on one thread. ``elbo`` is the evidence lower bound per word (row) of the training
data at the topics (components) it ended with, documents inferred anew, by the same code for every method; ``heldout``
is the log likelihood per word of the second halves of test documents. Seconds go from the first dispatch to the last
commit; ``cpu_seconds`` are the process's over the same time.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from oocml import api
from oocml.engine.events import Event, RunDone, RunStarted
from oocml.errors import OocmlError, UsageError
from oocml.models.registry import load_model

from . import vi_peers, vi_sets
from .bench_options import Options, one_thread, say
from .datasets import Splits
from .plots import Panel, curves
from .sections import run_sections
from .table import Finding, Section
from .training import discard, measure
from .vi_findings import add_mixture_findings, add_topic_findings
from .vi_kernels import kernel
from .vi_peers import PEERS, SCORES

Row = dict[str, Any]
TOPICS = {"alpha": 0.1, "eta": 0.01}
SETS = {"ap": 128, "kos": 128, "nips": 64, "enron": 64, "nytimes": 64, "pubmed": 64}
"""Data sets of documents, and the number of topics."""
ROW_SETS = {"toy": 32, "ap": 64, "nips": 64, "fashion_mnist": 256}
"""Data sets of dense rows, and the number of components."""
LENGTHS, MORE_LENGTHS = (10, 20, 30, 40), (5, 10, 15, 20, 25, 30, 35, 40)
MIXTURE_LENGTHS, MORE_MIXTURE_LENGTHS = (2, 5, 6, 8, 10, 12), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 20)
MEMORY, SMALL = 4 * 2**30, 2**28
"""Of a training, and of the responsibilities of a row block, in bytes."""
SAME = 0.01
"""Nats per word that 12 % of the responsibilities may cost."""


@dataclass(frozen=True)
class Chosen(Options):
    """What was asked for."""

    sets: tuple[str, ...] = ()
    """Names of data sets; none: all."""
    methods: tuple[str, ...] = ()
    """Parts of names of methods; none: all."""
    seed: int = 0

    def wants(self, method: str) -> bool:
        return not self.methods or any(part in method for part in self.methods)


@dataclass(frozen=True)
class Way:
    """A way to train."""

    name: str
    settings: Mapping[str, Any]
    row_blocks: int | None = None
    """Else one block where it is small, and as planned where it isn't."""


TOPIC_WAYS = (
    Way("ESVI, CVB0 start", {"inference": "esvi"}),
    Way("ESVI, cold", {"inference": "esvi", "start": "cold"}),
    Way("ESVI, CVB0 start, no z", {"inference": "esvi", "store_z": False}),
    Way("CVB0", {"inference": "cvb0"}),
    Way("VI, cold", {"inference": "vi", "start": "cold"}),
    Way("VI, cold, inner 100", {"inference": "vi", "start": "cold", "inner": 100}),
    Way("VI, CVB0 start", {"inference": "vi", "start": "cvb0"}),
    Way("SVI", {"inference": "svi", "inner": 10}, row_blocks=8),
)
MIXTURE_WAYS = (
    Way("ESVI", {"inference": "esvi"}),
    Way("ESVI, subsets of half", {"inference": "subset", "n_groups": 2}),
    Way("VI", {"inference": "vi"}),
    Way("SVI", {"inference": "svi"}),
)


@dataclass
class Clock:
    """A monitor that takes the process's time from the first dispatch to the last commit."""

    seconds: float = 0.0
    _began: float = field(default_factory=time.process_time)

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._began = time.process_time()
        elif isinstance(event, RunDone):
            self.seconds = time.process_time() - self._began


def known_ways(model: str, ways: Iterable[Way], section: Section, options: Chosen) -> list[Way]:
    """Those that were asked for and whose settings the model has."""
    found = []
    for way in filter(lambda way: options.wants(way.name), ways):
        unknown = sorted(set(way.settings) - set(load_model(model).defaults()))
        if unknown:
            section.notes.append(f"{way.name} left out: {model} has no setting {unknown[0]}")
        else:
            found.append(way)
    return found


def lines(
    model: str, splits: Splits, way: Way, lengths: Sequence[int], settings: Mapping[str, Any], options: Chosen
) -> list[Row]:
    """A line for each length; none, and a word on why, where a training fails."""
    found = []
    try:
        for n_epochs in lengths:
            found.append(train(model, splits, way, n_epochs, settings, options))
    except OocmlError as error:
        say(f"{splits.name}: {way.name} left out: {error}")
    return found


def train(
    model: str, splits: Splits, way: Way, n_epochs: int, settings: Mapping[str, Any], options: Chosen
) -> Row:
    """Train from the start and score; a line of the table."""
    say(f"{splits.name}: {way.name}, {n_epochs} epochs")
    clock = Clock()
    done = measure(
        splits.train,
        options.scratch,
        {**settings, **way.settings},
        model=model,
        also=[clock],
        epochs=n_epochs,
        schedule="serial",
        seed=options.seed,
        row_blocks=way.row_blocks or whole(splits, settings),
        memory=MEMORY,
    )
    row: Row = {"dataset": splits.name, "method": way.name, "epochs": n_epochs, "seconds": done.seconds}
    row["cpu_seconds"] = clock.seconds
    scores = {
        part: done.run.evaluate(str(path)) for part, path in (("train", splits.train), ("test", splits.test))
    }
    if model == "lda":
        row["elbo"] = scores["train"][SCORES["elbo"]]
        row |= {name: scores["test"][SCORES[name]] for name in ("heldout", "npmi")}
    else:
        row["elbo"] = scores["train"]["elbo_per_row"]
        row["log_likelihood"] = scores["test"]["log_likelihood_per_row"]
    discard(options.scratch)
    return row


def find(names: Iterable[str], get: Callable[..., Splits], options: Chosen) -> list[tuple[str, Splits]]:
    """What can be had of the data sets that were asked for, with their names."""
    found = []
    for name in names:
        if options.sets and name not in options.sets:
            continue
        try:
            splits = get(name, options.data, options.data_dir, options.seed, full=options.full)
        except OocmlError as error:
            say(f"{name} left out: {error}")
            continue
        found.append((name, splits))
    if not found:
        raise UsageError("no dataset could be had; give --data-dir with files got by hand")
    return found


def lda(options: Chosen) -> Section:
    """Bound and held-out likelihood against time, for every way to train and for other libraries."""
    section = Section("lda", "topics: the longest training of every method, one thread")
    lengths = MORE_LENGTHS if options.full else LENGTHS
    rows: list[Row] = []
    with one_thread():
        for name, splits in find(list(SETS), vi_sets.documents, options):
            settings = {**TOPICS, "n_topics": SETS[name]}
            for way in known_ways("lda", TOPIC_WAYS, Section("", ""), options):
                rows += lines("lda", splits, way, lengths, settings, options)
            rows += [
                peer_row(peer, splits, lengths[-1], settings, options.seed)
                for peer in filter(options.wants, vi_peers.installed())
            ]
            add_topic_findings(section, name, splits.name, rows)
    known_ways("lda", TOPIC_WAYS, section, options)
    section.rows = rows
    panels = [
        Panel(s, "seconds", y, log=False)
        for s in dict.fromkeys(r["dataset"] for r in rows)
        for y in ("elbo", "heldout")
    ]
    curves(rows, panels, options.out / "lda.png", n_columns=2)
    section.notes.append(
        "VI's inner iterations end at 10 unless the name says otherwise; scikit-learn's at 100"
    )
    return section


def whole(splits: Splits, settings: Mapping[str, Any]) -> int | None:
    """1 where all documents make a small row block, so that no method pays for small tasks."""
    dataset = api.open_dataset(splits.train)
    small = 4 * dataset.nnz * int(settings.get("n_topics", 0)) <= SMALL
    return 1 if dataset.sparse and small else None


def peer_row(name: str, splits: Splits, n_iterations: int, settings: Mapping[str, Any], seed: int) -> Row:
    """A line for another library's topic model, scored by our code."""
    if name == "tomotopy":
        n_iterations *= 10  # sweeps of a sampler are cheaper and do less
    say(f"{splits.name}: {name}, {n_iterations} iterations")
    done = PEERS[name](splits, n_iterations, settings, seed)
    known = {"dataset": splits.name, "method": name, "epochs": n_iterations}
    spent = {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds}
    return {**known, **spent, **vi_peers.score_topics(done.made, splits, settings, seed)}


def top_k(options: Chosen) -> Section:
    """What keeping a share of the responsibilities costs: all, half, a quarter, an eighth."""
    section = Section("top_k", "topics: share of responsibilities kept, 40 epochs")
    if "top_k" not in load_model("lda").defaults():
        raise UsageError("lda has no setting top_k")
    with one_thread():
        name, splits = find(["ap", "enron"], vi_sets.documents, options)[0]
        k = SETS[name]
        for share in (1, 2, 4, 8):
            way = Way(f"{100 / share:.0f} %", {"top_k": 0 if share == 1 else k // share})
            section.rows.append(train("lda", splits, way, LENGTHS[-1], {**TOPICS, "n_topics": k}, options))
    whole, least = section.rows[0], section.rows[-1]
    for key in ("elbo", "heldout"):
        what = f"{splits.name}: {key} lost with {least['method']}"
        section.findings.append(Finding(what, whole[key] - least[key], SAME, at_least=False))
    return section


def gmm(options: Chosen) -> Section:
    """Bound and test log likelihood against time, beside scikit-learn's expectation maximisation."""
    section = Section("gmm", "diagonal mixtures, one thread")
    lengths = MORE_MIXTURE_LENGTHS if options.full else MIXTURE_LENGTHS
    rows: list[Row] = []
    with one_thread():
        for name, splits in find(list(ROW_SETS), vi_sets.rows, options):
            k = ROW_SETS[name]
            for way in known_ways("gmm", MIXTURE_WAYS, Section("", ""), options):
                rows += lines("gmm", splits, way, lengths, {"n_components": k}, options)
            for name_of_peer, dtype in vi_peers.MIXTURES.items():
                if not options.wants(name_of_peer):
                    continue
                for n in lengths:
                    say(f"{splits.name}: {name_of_peer}, {n} iterations")
                    known = {"dataset": splits.name, "method": name_of_peer, "epochs": n, "elbo": math.nan}
                    rows.append(known | vi_peers.sklearn_mixture(splits, n, k, options.seed, dtype))
            add_mixture_findings(section, name, splits.name, rows)
    section.rows = rows
    panels = [
        Panel(s, "seconds", y, log=False)
        for s in dict.fromkeys(r["dataset"] for r in rows)
        for y in ("elbo", "log_likelihood")
    ]
    curves(rows, panels, options.out / "gmm.png", n_columns=2)
    section.notes.append(
        "documents: tf-idf rows on 64 leading singular vectors; images: 64 principal components; columns standardised"
    )
    return section


SECTIONS: dict[str, Callable[[Chosen], Section]] = {"lda": lda, "top_k": top_k, "gmm": gmm, "kernel": kernel}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("oocml-vi"), help="Folder to write.")
@click.option("--only", metavar="NAME[,NAME...]", help=f"Of {', '.join(SECTIONS)} (default: all).")
@click.option(
    "--set", "sets", multiple=True, type=click.Choice([*SETS, "toy", "fashion_mnist"]), help="Default: all."
)
@click.option("--method", "methods", multiple=True, help="Part of the names of methods (default: all).")
@click.option("--full", is_flag=True, help="More lengths of trainings, and stand-ins ten times as large.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, help="Timings of kernels (default: 5).")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Holds ap/ap.ldac, kos/docword.kos.txt, nips/docword.nips.txt and their vocabularies, got by hand.",
)
@click.option("--seed", default=0)
def main(only: str | None, **given: Any) -> None:
    """Compare ESVI with VI and SVI."""
    try:
        run_sections(SECTIONS, only, Chosen(**given, memcap=None))
    except OocmlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
