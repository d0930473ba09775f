"""A model's program taken up where it stopped: what the ledger keeps of its items, and what it is sent again."""

from __future__ import annotations

import copy
from typing import Any

from oocml.models.protocol import Epoch, Epochs, Final, Item, Pass, Verdict


def mark(item: Item) -> dict[str, Any]:
    """What the ledger keeps of an item beside its result: enough to notice that a program was changed."""
    if isinstance(item, Pass):
        return {"pass": item.name}
    if isinstance(item, Epochs):
        return {"pass": item.pass_.name, "epochs": len(item.params)}
    return {"epoch": item.number} if isinstance(item, Epoch) else {"final": True}


def matches(item: Item, result: dict[str, Any]) -> bool:
    """Whether a result in the ledger may be that of an item."""
    return all(result.get(key) == value for key, value in mark(item).items())


def as_sent(item: Item, result: dict[str, Any]) -> Any:
    """What the program was sent when the item had this result."""
    if isinstance(item, Epoch):
        return Verdict(bool(result["stop"]))
    return None if isinstance(item, Final) else copy.deepcopy(result["parts"])


def send(program: Any, value: Any) -> Item | None:
    """The program's next item; None at its end."""
    try:
        return program.send(value)  # type: ignore[no-any-return]
    except StopIteration:
        return None
