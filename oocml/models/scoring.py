"""What evaluates and predicts with a trained model (see `oocml.models.protocol.Model.scoring`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from oocml.types import Bounds, Csr

if TYPE_CHECKING:
    from oocml.models.protocol import Array


class Scoring(Protocol):
    """How a trained model scores rows: column blocks stream by once, and no (rows x columns) array is ever made.

    The engine calls ``begin`` for a batch of rows, ``visit`` for every column block in order, then ``metrics``
    or ``predictions``.

    A model that keeps more of a batch than the engine can know says so: ``entry_bytes`` for each of its entries,
    ``column_bytes`` for each column that it has entries in. Panels are cut by rows where memory has no room for them.
    One whose metrics need the columns more than once says how often: ``streams`` (predictions have one).
    ``metric_names``: those of the scores that training may be judged by; a wrong ``--metric`` is then refused at once.
    Functions ``intervals(total)``, more numbers by name, and ``per_query(total)``, a list of records, are what
    ``evaluate`` tells beside ``scores``, if there are any.
    """

    reads: tuple[str, ...]
    """Names of the state arrays it needs; all of them exported."""
    seen: bool
    """Whether it is told which entries of a row the training had (`visit`)."""
    per_entry: bool
    """Whether `predictions` are of the data's entries rather than of its rows."""

    def begin(self, data: Any, n_rows: int, state: Mapping[str, Array]) -> Any:
        """Accumulators of a batch of rows (a NamedTuple of arrays).

        ``data`` is what ``prepare`` made of the batch, without entries for models of tiles. ``state`` has the shared
        arrays it reads, and the row arrays restricted to the batch's rows (zeros for rows the training did not have).
        """

    def visit(
        self, accumulator: Any, data: Any, cols: Bounds, col: Mapping[str, Array], seen: Csr | None
    ) -> None:
        """Take in one column block; ``data`` is the batch, or for models of tiles its entries in these columns.

        ``seen``: the training's entries in the same rows and columns, if asked for.
        """

    def metrics(self, accumulator: Any, data: Any) -> Any:
        """Small, picklable counts of a batch, added up by ``merge``; ``data`` as for ``begin``."""

    def merge(self, a: Any, b: Any) -> Any: ...

    def scores(self, total: Any) -> dict[str, float]:
        """The metrics by name."""

    def predictions(self, accumulator: Any, data: Any) -> dict[str, Array]:
        """Outputs by name, rows of the batch (or its entries, in any order) on the leading axis.

        ``columns`` are columns of the model, -1 for none; for models of tiles the engine makes them columns of the
        data. Outputs per entry are ``rows`` of the batch, ``columns`` and float32 ``values``.
        """
