"""Facts about data sets: one TOML file each in ``data_specs``, read and checked here.

A spec says what a data set is (task, shape, format, origin, licence), how `fetch` gets it, how `ingest`
should read each of its splits, and what `synth` should imitate. What nobody has checked against the data
itself is listed under ``unverified``; what is not known is left out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from oocml.data.toml_table import TomlTable
from oocml.data.transforms import KINDS
from oocml.errors import InputError, UsageError

TASKS = {
    "classification": "one class per row (mlr)",
    "multilabel": "a set of classes per row (mlr)",
    "regression": "a real target per row (fm)",
    "factors": "a rating per (user, item) pair (mf, fm)",
    "topics": "word counts per document (lda)",
    "clusters": "rows to be grouped (gmm)",
    "positives": "the items each user took (robirank, implicit)",
    "ranking": "graded documents per query (robirank, explicit)",
}
FORMATS = (
    "libsvm", "xmc", "text", "docword", "ldac", "ratings", "ratings-matrix", "interactions", "letor", "npy", "npz",
    "mtx", "csv", "anndata", "parquet",
)  # fmt: skip
CONVERSIONS = ("idx", "table")

_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class SourceFile:
    """One file that `fetch` delivers."""

    to: str
    """Its name in the user's folder."""
    member: str | None = None
    """Its path inside the package (None for files to be got by hand)."""
    sha256: str | None = None
    """Of the file itself; always there for packages."""


@dataclass(frozen=True)
class Conversion:
    """A file that `fetch` makes from delivered ones, because no ingest format reads them as they are."""

    kind: Literal["idx", "table"]
    to: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where the files come from."""

    kind: Literal["pypi", "debian", "manual"]
    files: tuple[SourceFile, ...]
    convert: tuple[Conversion, ...] = ()
    project: str | None = None
    """PyPI project or Debian package."""
    version: str | None = None
    filename: str | None = None
    """The wheel: it fixes version, Python and platform, so that everyone gets the same bytes."""
    sha256: str | None = None
    """Of the wheel (a Debian package may be rebuilt; its members are verified instead)."""
    instructions: str | None = None
    """What a person must do, for ``manual``."""


@dataclass(frozen=True)
class Split:
    """The size of one part of the data; None where it isn't known."""

    rows: int | None = None
    nnz: int | None = None
    tokens: int | None = None
    """Words (counted with repeats), where rows are documents."""


@dataclass(frozen=True)
class IngestOptions:
    """How `ingest` reads one split."""

    format: str
    files: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the format."""
    transform: str = "none"
    """What suits the data; a test split gets the training set's by ``like``."""


@dataclass(frozen=True)
class Spec:
    """All that is known of one data set."""

    name: str
    title: str
    task: str
    format: str
    licence: str
    origin: str
    source: Source
    url: str | None = None
    cols: int | None = None
    classes: int | None = None
    """Classes or labels."""
    splits: Mapping[str, Split] = field(default_factory=dict)
    ingest: Mapping[str, IngestOptions] = field(default_factory=dict)
    thesis: Mapping[str, Any] = field(default_factory=dict)
    """``row``: its name in the thesis's tables; other keys: what is printed there, where it differs."""
    synth: Mapping[str, Any] = field(default_factory=dict)
    """What a stand-in should imitate beyond the shape: ``nnz_per_row``, ``values``, ``exponent``, ``normalise``."""
    note: str = ""
    unverified: tuple[str, ...] = ()
    """Facts (dotted keys) not checked against the data or a text of its origin."""

    @property
    def rows(self) -> int | None:
        """Rows of the training split."""
        return self.splits["train"].rows if "train" in self.splits else None

    @property
    def nnz(self) -> int | None:
        """Stored entries of the training split."""
        return self.splits["train"].nnz if "train" in self.splits else None

    @property
    def nnz_per_row(self) -> float | None:
        """Mean stored entries per training row, where they are known or the stand-in has a value."""
        if "nnz_per_row" in self.synth:
            return float(self.synth["nnz_per_row"])
        if self.rows and self.nnz:
            return self.nnz / self.rows
        return None

    @property
    def expected_nnz(self) -> int | None:
        """Stored entries of the training split: the stated number, or rows times the mean per row.

        Rows that are ranked are taken to have an entry in every column.
        """
        if self.nnz is None and self.rows and self.nnz_per_row:
            return round(self.rows * self.nnz_per_row)
        if self.nnz is None and self.rows and self.cols and self.has_queries:
            return self.rows * self.cols
        return self.nnz

    @property
    def has_queries(self) -> bool:
        """Whether rows belong to queries."""
        return self.task == "ranking"

    def summary(self) -> dict[str, Any]:
        """The line of ``oocml specs``."""
        test = self.splits.get("test", Split())
        return {
            "name": self.name,
            "title": self.title,
            "task": self.task,
            "rows": self.rows,
            "test_rows": test.rows,
            "cols": self.cols,
            "nnz": self.nnz,
            "classes": self.classes,
            "format": self.format,
            "source": self.source.kind,
            "needs": self.source.project or "files got by hand",
            "licence": self.licence,
            "thesis": self.thesis.get("row"),
            "unverified": list(self.unverified),
        }


def list_specs() -> list[str]:
    """Names of all specs that come with the library, sorted."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def load_spec(name: str | Path) -> Spec:
    """Read the spec of that name, or the TOML file at that path.

    Raises
    ------
    UsageError
        If no spec has that name.
    InputError
        If the file is not a valid spec.
    """
    if str(name).endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(
                f"no spec file {path}; 'oocml specs' lists the names of those that come with oocml"
            )
        return parse_spec(path.read_text(encoding="utf-8"), where=str(path), name=path.stem)
    found = _folder() / f"{name}.toml"
    if not _NAME.fullmatch(str(name)) or not found.is_file():
        near = str(name).lower().replace("-", "_")
        hint = f"did you mean {near}?" if near in list_specs() else "'oocml specs' lists them"
        raise UsageError(f"no data set is called {str(name)!r}; {hint}")
    return parse_spec(found.read_text(encoding="utf-8"), where=f"data_specs/{name}.toml", name=str(name))


def parse_spec(text: str, *, where: str, name: str) -> Spec:
    """Make a `Spec` of a TOML text; ``where`` is what errors call it, ``name`` what it must call itself."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML: {error}") from None
    reader = TomlTable(table, where)
    spec = Spec(
        name=reader.text("name"),
        title=reader.text("title"),
        task=reader.one_of("task", TASKS),
        format=reader.one_of("format", (*FORMATS, "arff", "idx", "table", "other")),
        licence=reader.text("licence"),
        cols=reader.count("cols"),
        classes=reader.count("classes"),
        note=reader.text("note", default=""),
        unverified=reader.texts("unverified"),
        thesis=reader.free("thesis"),
        synth=reader.free("synth", ("nnz_per_row", "values", "exponent", "normalise")),
        splits={split: _split(sub) for split, sub in reader.tables("splits")},
        ingest={split: _ingest(sub) for split, sub in reader.tables("ingest")},
        origin=(origin := reader.table("origin")).text("name"),
        url=origin.text("url", default="") or None,
        source=_source(reader.table("source")),
    )
    origin.done()
    reader.done()
    if spec.name != name:
        raise InputError(f"{where}: name is {spec.name!r}; it must be {name!r}, like the file")
    for dotted in spec.unverified:
        if not _holds(table, dotted):
            raise InputError(f"{where}: unverified lists {dotted!r}, which the spec does not state")
    _check_files(spec, where)
    return spec


def _holds(table: Mapping[str, Any], dotted: str) -> bool:
    here: Any = table
    for key in dotted.split("."):
        if not isinstance(here, Mapping) or key not in here:
            return False
        here = here[key]
    return True


def _check_files(spec: Spec, where: str) -> None:
    """Every file a split or a conversion reads must be one that the source delivers."""
    delivered = {f.to for f in spec.source.files} | {c.to for c in spec.source.convert}
    if spec.source.kind == "manual" and not delivered:
        return
    for conversion in spec.source.convert:
        for missing in set(conversion.inputs) - delivered:
            raise InputError(f"{where}: convert reads {missing!r}, which source.files does not deliver")
    for split, options in spec.ingest.items():
        for missing in set(options.files) - delivered:
            raise InputError(f"{where}: ingest.{split} reads {missing!r}, which source does not deliver")


def _split(t: TomlTable) -> Split:
    split = Split(rows=t.count("rows"), nnz=t.count("nnz"), tokens=t.count("tokens"))
    t.done()
    return split


def _ingest(t: TomlTable) -> IngestOptions:
    made = IngestOptions(
        format=t.one_of("format", FORMATS),
        files=t.texts("files"),
        options=t.free("options"),
        transform=t.one_of("transform", KINDS, default="none"),
    )
    t.done()
    if not made.files:
        t.fail("files", "must name at least one file")
    return made


def _source(t: TomlTable) -> Source:
    kind = t.one_of("kind", ("pypi", "debian", "manual"))
    source = Source(
        kind=kind,  # type: ignore[arg-type]
        files=tuple(_source_file(sub, packaged=kind != "manual") for sub in t.array("files")),
        convert=tuple(_conversion(sub) for sub in t.array("convert")),
        project=t.text("project", default="") or None,
        version=t.text("version", default="") or None,
        filename=t.text("filename", default="") or None,
        sha256=t.sha256("sha256"),
        instructions=t.text("instructions", default="") or None,
    )
    t.done()
    needed = {
        "pypi": ("project", "version", "filename", "sha256", "files"),
        "debian": ("project", "files"),
        "manual": ("instructions",),
    }[kind]
    for key in needed:
        if not getattr(source, key):
            t.fail(key, f"is needed where kind is {kind!r}")
    return source


def _source_file(t: TomlTable, *, packaged: bool) -> SourceFile:
    made = SourceFile(
        to=t.text("to"),
        member=t.text("member", default="") or None,
        sha256=t.sha256("sha256"),
    )
    t.done()
    if "/" in made.to or made.to.startswith("."):
        t.fail("to", f"must be a plain file name, not {made.to!r}")
    if packaged and not (made.member and made.sha256):
        t.fail("member" if not made.member else "sha256", "is needed for a file out of a package")
    return made


def _conversion(t: TomlTable) -> Conversion:
    made = Conversion(
        kind=t.one_of("kind", CONVERSIONS),  # type: ignore[arg-type]
        to=t.text("to"),
        inputs=t.texts("inputs"),
        options=t.free("options"),
    )
    t.done()
    return made


def _folder() -> Traversable:
    """``data_specs`` inside the installed package, or beside it in a checkout."""
    packaged = resources.files("oocml") / "data_specs"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "data_specs"
