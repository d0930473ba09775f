"""What is left, and what to try, when numbers are no longer finite."""

from __future__ import annotations

from oocml.models.protocol import Settings


def what_is_kept(n_epochs: int) -> str:
    """Of a training that fails when so many epochs are done."""
    return "the last good state is kept" if n_epochs else "no epoch was done"


def smaller_steps(settings: Settings, step: float | None = None) -> str:
    """For a model with these settings; ``step`` is the step that was taken, if it is known."""
    if "learning_rate" not in settings:
        return "stronger regularisation or priors, or look for huge values in the data"
    return f"--set learning_rate={step / 10:.2g}" if step else "a smaller --set learning_rate"
