"""Why an ingest gives up: what it checks between its stages, and the one line that it then says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from oocml.data.ingest_job import Job
from oocml.data.parts import compression, count_lines
from oocml.data.readers import BadLines, Part, Schema
from oocml.data.source_files import fingerprint
from oocml.errors import DoesNotFit, InputError

COLUMN_BYTES = 24
NAME_BYTES = 60
"""A user or an item of ratings in memory: letters, hash, place in a table."""


def bad_line(part: Part, bad: BadLines, max_bad: int) -> InputError:
    """Names the first bad line of a part."""
    line = bad.first_line + 1
    if bad.unit == "row":
        line += part.lo
    elif part.lo and compression(part.path) is None:
        line += count_lines(part.path, part.lo)
        with open(part.path, "rb") as file:
            file.seek(part.lo - 1)
            line += file.read(1) != b"\n"
    more = (
        f"; more than {max_bad} bad lines (--max-bad)"
        if max_bad
        else "; --max-bad N skips up to N such lines"
    )
    return InputError(f"{part.path} {bad.unit} {line}: {bad.first_reason}{more}")


def nothing_left(path: str, job: Job) -> InputError:
    """There is no row: none at all, or none of those that are wanted."""
    split: dict[str, object] = {}
    if job.draw is not None:
        split = job.draw._asdict()
    elif job.options.get("share", "all") != "all":
        split = {"seed": job.options.get("split_seed", 0), **job.options}
    threshold = job.options.get("threshold")
    if not split and threshold is None:
        return InputError(f"{path} has no rows")
    wanted = "rows" if threshold is None else f"ratings of at least {threshold} (--threshold)"
    if not split:
        return InputError(f"{path} has no {wanted}; give a lower threshold")
    part = {"train": "training", "test": "test"}[str(split["share"])]
    return InputError(
        f"{path} has no {wanted} in the {part} part of --split {split['fraction']:g} with seed {split['seed']}; "
        "give another share or --seed, or leave out --split"
    )


def check_unchanged(job: Job, paths: Sequence[str]) -> None:
    """Raise `InputError` if a source is not what it was when the ingest began."""
    known = json.loads((job.work / "job.json").read_text())["sources"]
    for path, before in zip(paths, known, strict=True):
        if fingerprint(path) != before:
            raise InputError(f"{path} changed while it was read; ingest it again")


def check_memory(schema: Schema, path: str, memory: int, fewer: str | None) -> None:
    """Counts and sums of squares per column are held in memory, and the transform's values; names of ratings.

    ``fewer`` is what makes fewer columns, if anything does: see `fewer_columns`.
    """
    n_cols = schema.n_cols
    need = COLUMN_BYTES * n_cols
    if schema.rows is not None:
        need += NAME_BYTES * (schema.rows.n_rows + n_cols)
        if need > memory:
            raise DoesNotFit(
                f"{path} has {schema.rows.n_rows} users and {n_cols} items, whose names need "
                f"{need >> 20} MiB of memory, {memory >> 20} MiB given; raise --memory"
            )
    if need > memory:
        raise DoesNotFit(
            f"{path} has {n_cols} columns, whose counts need {need >> 20} MiB of memory, "
            f"{memory >> 20} MiB given; raise --memory{f', or {fewer}' if fewer else ''}"
        )


def fewer_columns(job: Job) -> str | None:
    """What would make fewer columns, of what the format has."""
    if job.format == "libsvm":
        return "number the features without gaps"
    if job.format != "text":
        return None
    hashed = job.options.get("hashing")
    return "lower --hashing" if hashed else "have fewer words by --max-features, --min-count or --hashing"


def check_disk(work: Path, n_bytes: int) -> None:
    """Raise `DoesNotFit` unless the disk has room for a dataset of ``n_bytes``."""
    free = shutil.disk_usage(work).free
    if n_bytes > free:
        raise DoesNotFit(
            f"the dataset needs {n_bytes >> 20} MiB more on the disk of {work.parent}, "
            f"which has {free >> 20} MiB free; make room and run it again to go on"
        )
