"""Opening what ingest wrote: nothing that is missing is made up, and what may not be read is told apart from damage."""

from __future__ import annotations

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from oocml.errors import DamagedStore, InputError


class StrictStore(WrapperStore[LocalStore]):
    """A store in which an absent chunk is damage, never the fill value."""

    _supports_sync_io = False

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        try:
            value = await super().get(key, prototype, byte_range)
        except PermissionError as error:
            raise unreadable(error) from None
        if value is None and "/c/" in key:
            raise DamagedStore(f"{self._store.root}: chunk {key} is missing; ingest the dataset again")
        return value


def unreadable(error: PermissionError) -> InputError:
    """What to raise for a file that may not be read."""
    return InputError(f"{error.filename} may not be read ({error.strerror}); change its permissions")
