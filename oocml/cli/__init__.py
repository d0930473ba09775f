"""The command line: a thin face over ``oocml.api``. Heavy imports wait until a verb runs."""

from oocml.cli.commands import app, main, run

__all__ = ["app", "main", "run"]
