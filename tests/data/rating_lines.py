"""Random ratings, the many ways to write them as lines, and what a reader or a dataset makes of them."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from oocml.data.dataset import Dataset
from oocml.data.ratings import RatingsReader
from oocml.data.readers import BadLines, Totals
from tests.data.sparse_files import COMPRESS

plain_names = st.text("abcXYZ019_", min_size=1, max_size=6)
any_names = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs"), exclude_characters="\ufeff"),
    min_size=1,
    max_size=6,
)
values = st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, width=32))


class Style(NamedTuple):
    """How a file is written."""

    sep: str
    columns: tuple[str, ...]
    header: bool
    newline: str
    trailing_newline: bool
    compression: str


def styles(seps):
    return st.builds(
        Style,
        sep=st.sampled_from(seps),
        columns=st.sampled_from(
            [
                ("user", "item", "value"),
                ("user", "item", "value", "time"),
                ("item", "time", "user", "value"),
            ]
        ),
        header=st.booleans(),
        newline=st.sampled_from(["\n", "\r\n"]),
        trailing_newline=st.booleans(),
        compression=st.sampled_from(list(COMPRESS)),
    )


def quoted(text, sep):
    """As the csv module would: quoted where needed."""
    needs = len(sep) == 1 and sep != " " and (sep in text or '"' in text)
    return '"' + text.replace('"', '""') + '"' if needs else text


def text_of(ratings, style):
    fields = {"time": "881250949"}
    lines = [style.sep.join(style.columns)] if style.header else []
    for user, item, value in ratings:
        fields |= {"user": quoted(user, style.sep), "item": quoted(item, style.sep), "value": repr(value)}
        lines.append(style.sep.join(fields[name] for name in style.columns))
    return style.newline.join(lines) + (style.newline if style.trailing_newline else "")


def write(path, ratings, style):
    path.write_bytes(COMPRESS[style.compression](text_of(ratings, style).encode()))
    return path


def put(path, ratings):
    """Plain csv with a header."""
    lines = [f"{user},{item},{value:g}" for user, item, value in ratings]
    path.write_text("\n".join(["user,item,rating", *lines]) + "\n")
    return path


def read(paths, *, reader=RatingsReader, part_bytes=1 << 20, max_bad=0, **options):
    """{(user, item): value} of the files as a reader gives them, later ratings instead of earlier ones."""
    reader = reader(**options)
    parts = reader.parts([str(path) for path in paths], part_bytes)
    facts, batches, bad = [], [], [BadLines(max_bad) for _ in parts]
    for part, bads in zip(parts, bad, strict=True):
        batches.append(list(reader.read(part, bads)))
        facts.append(reader.facts())
    totals = Totals(0, 0, -1, -1, 0, 0, None, False, False, sum(b.count for b in bad))
    schema = reader.merge(parts, facts, totals, None)
    found = {}
    for part, of_part in zip(parts, batches, strict=True):
        rows, columns = schema.rows.row_map(part.index), schema.column_map(part.index)
        for batch in of_part:
            users, items = rows[batch.row].tolist(), columns[batch.column].tolist()
            for user, item, value in zip(users, items, batch.value.tolist(), strict=True):
                found[schema.rows.names[user], schema.feature_names[item]] = value
    return found


def expected(ratings):
    return {(user, item): float(np.float32(value)) for user, item, value in ratings}


def stored(path):
    """{(user, item): value} of a dataset."""
    dataset = Dataset.open(path)
    users, items = dataset.row_names, dataset.feature_names
    found = {}
    for p in range(dataset.n_panels):
        X, _, row_ids, _ = dataset.read_panel(p)
        for i, row in enumerate(row_ids.tolist()):
            for e in range(X.indptr[i], X.indptr[i + 1]):
                place = users[row], items[X.indices[e]]
                assert place not in found
                found[place] = float(X.data[e])
    return found


def some_ratings(n_users=60, n_items=30, n=400, seed=0):
    """Distinct places, in random order."""
    draw = random.Random(seed)
    places = draw.sample([(u, i) for u in range(n_users) for i in range(n_items)], n)
    return [(f"u{u}", f"i{i}", draw.choice([0.0, 0.5, 1.0, 2.5, 5.0, -3.0])) for u, i in places]
