"""Errors a user can meet. Each one is a single line: what is wrong, where, what to try.

The command line turns them into exit codes (``exit_code``); the Python API raises them as they are.
"""


class OocmlError(Exception):
    """Base of every error this library raises on purpose."""

    exit_code = 1


class UsageError(OocmlError, ValueError):
    """A name, a value or a combination of options that means nothing."""

    exit_code = 2


class DoesNotFit(OocmlError):
    """The plan needs more memory or disk than it was given; raised before any work."""

    exit_code = 3


class InputError(OocmlError):
    """Bad, damaged or mismatched input: a file, a dataset, a run."""

    exit_code = 4


class DamagedStore(InputError):
    """A block that the ledger names is missing, truncated or altered."""


class NonFinite(OocmlError):
    """A state or an objective became NaN or infinite; the last good ledger stays."""


class RunBusy(OocmlError):
    """Another driver holds the run."""


class WorkersLost(OocmlError):
    """One task lost three workers while it ran, or nothing progresses."""
