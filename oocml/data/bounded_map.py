"""Many tasks on an executor, few of them submitted at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any


def bounded_map(
    pool: Executor, tasks: Iterable[tuple[Any, ...]], window: int, *, stop: Callable[[], bool] = lambda: False
) -> Iterator[Any]:
    """Results of ``function(*arguments)`` for each task, in order of completion.

    Parameters
    ----------
    tasks
        Tuples (function, argument, ...), started in order.
    window
        Tasks submitted and not yet finished, at most.
    stop
        Asked before another task is started; those under way still finish, so that of several failures the
        first in task order is among the results.

    Raises
    ------
    The first exception of a task, after those under way have ended.
    """
    waiting: set[Future[Any]] = set()
    todo = iter(tasks)
    failure: BaseException | None = None
    more = True
    while more or waiting:
        while more and len(waiting) < window:
            task = None if failure or stop() else next(todo, None)
            more = task is not None
            if task is not None:
                waiting.add(pool.submit(*task))
        if not waiting:
            break
        finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            error = future.exception()
            if error is None:
                yield future.result()
            else:
                failure = failure or error
    if failure is not None:
        raise failure
