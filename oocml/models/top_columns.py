"""What a model may tell about itself in words of the data: which columns its parts are made of.

A model that has a method ``summary(problem, state)``, and ``summary_reads`` with the names of the shared arrays that it
needs, has its answer shown by ``oocml report`` and ``oocml info``, columns by their names.
"""

from __future__ import annotations

from typing import NamedTuple

from oocml.models.protocol import Array


class TopColumns(NamedTuple):
    """Parts of a model (topics, say), and the columns that weigh most in each."""

    what: str
    """What the parts are called: "topics"."""
    share: Array
    """Shape (parts,): how much of everything each is."""
    columns: Array
    """Shape (parts, n), integers: columns of the dataset (`Problem.feature_ids`), the weightiest first; -1 where
    there are fewer."""
    weights: Array
    """Shape (parts, n): of these columns."""
