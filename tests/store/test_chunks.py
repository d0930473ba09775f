"""Chunk files: written once, whole or not at all, and recognised when they are not what was written."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from oocml.errors import DamagedStore, DoesNotFit, InputError, OocmlError
from oocml.store import chunks as module
from oocml.store.buffers import aligned_empty
from oocml.store.chunks import LocalChunks, require_hard_links

SIZES = [1, 4095, 4096, 2**20, 2**20 + 1, 2**20 + 4096]
"""Some that may go past the page cache, and some that may not."""


def view(array):
    return memoryview(array.reshape(-1)).cast("B")


def filled(n_bytes, seed=0):
    array = aligned_empty((n_bytes,), "uint8")
    array[:] = np.random.default_rng(seed).integers(0, 256, n_bytes, np.uint8)
    return array


def read(chunks, key, n_bytes):
    array = aligned_empty((n_bytes,), "uint8")
    chunks.read_into(key, view(array))
    return array


@pytest.fixture(params=[True, False], ids=["direct", "page cache"])
def chunks(tmp_path, request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(module, "O_DIRECT", 0)
    return LocalChunks(tmp_path, durable=request.param)


@pytest.mark.parametrize("n_bytes", SIZES)
def test_what_is_put_is_read(chunks, n_bytes):
    data = filled(n_bytes)
    chunks.put("c.1", view(data))
    assert np.array_equal(read(chunks, "c.1", n_bytes), data)
    assert (chunks.root / "c.1").read_bytes() == data.tobytes()


@pytest.mark.parametrize("n_bytes", [8, 2**20])
def test_the_first_writer_of_a_key_wins(chunks, n_bytes):
    first, second = filled(n_bytes, 1), filled(n_bytes, 2)
    chunks.put("c.1", view(first))
    chunks.put("c.1", view(second))
    assert np.array_equal(read(chunks, "c.1", n_bytes), first)
    assert os.listdir(chunks.root) == ["c.1"]


def test_deleting_is_idempotent(chunks):
    chunks.put("c.1", view(filled(8)))
    chunks.delete(["c.1", "c.2"])
    chunks.delete(["c.1"])
    assert os.listdir(chunks.root) == []


@pytest.mark.parametrize("n_bytes", [100, 2**20])
@pytest.mark.parametrize("change", [-1, 1, 4096, -4096, None])
def test_a_missing_truncated_or_longer_chunk_is_damage(chunks, n_bytes, change):
    chunks.put("c.1", view(filled(n_bytes)))
    path = chunks.root / "c.1"
    if change is None:
        path.unlink()
    else:
        content = path.read_bytes() + bytes(5000)
        path.write_bytes(content[: max(0, n_bytes + change)])
    with pytest.raises(DamagedStore) as caught:
        read(chunks, "c.1", n_bytes)
    assert "c.1" in str(caught.value)
    assert "\n" not in str(caught.value)


FULL = OSError(errno.ENOSPC, "No space left on device")
DENIED = OSError(errno.EACCES, "Permission denied")
NO_LINKS = OSError(errno.EPERM, "Operation not permitted")
STRANGE = OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("write", FULL, "the disk is full"),
        ("open", DENIED, "not writable"),
        ("link", NO_LINKS, "hard links"),
        ("write", STRANGE, "Input/output error"),
        ("fsync", FULL, "the disk is full"),
    ],
)
def test_a_failed_write_says_why_and_leaves_nothing(tmp_path, monkeypatch, function, error, said):
    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OocmlError, match=said) as caught:
            LocalChunks(tmp_path, durable=True).put("c.1", view(filled(100)))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DoesNotFit) == (error is FULL)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("n_bytes", [100, 2**20])
def test_a_spare_gives_its_file(tmp_path, n_bytes):
    chunks = LocalChunks(tmp_path)
    chunks.put("c.1", view(filled(n_bytes)))
    inode = (tmp_path / "c.1").stat().st_ino
    second = filled(n_bytes)[::-1].copy()
    chunks.put("c.2", view(second), "c.1")
    assert os.listdir(tmp_path) == ["c.2"]
    assert (tmp_path / "c.2").stat().st_ino == inode
    assert np.array_equal(read(chunks, "c.2", n_bytes), second)


def test_a_spare_that_cannot_be_used_is_not_needed(tmp_path):
    chunks = LocalChunks(tmp_path)
    chunks.put("smaller", view(filled(50)))
    chunks.put("copied", view(filled(100)))
    os.link(tmp_path / "copied", tmp_path / "backup")
    new = filled(100)[::-1].copy()
    for spare in ("missing", "smaller", "copied"):
        chunks.put(f"c.{spare}", view(new), spare)
        assert np.array_equal(read(chunks, f"c.{spare}", 100), new)
    assert np.array_equal(read(chunks, "backup", 100), filled(100)), "a copy by hard links keeps what it has"
    assert sorted(os.listdir(tmp_path)) == ["backup", "c.copied", "c.missing", "c.smaller"]


def test_a_failed_write_over_a_spare_leaves_neither(tmp_path, monkeypatch):
    chunks = LocalChunks(tmp_path)
    chunks.put("c.1", view(filled(100)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, buffer: (_ for _ in ()).throw(STRANGE))
        with pytest.raises(OocmlError, match="Input/output error"):
            chunks.put("c.2", view(filled(100)), "c.1")
    assert os.listdir(tmp_path) == []


def test_the_first_writer_of_a_key_wins_with_a_spare_too(tmp_path):
    chunks, first = LocalChunks(tmp_path), filled(100)
    chunks.put("c.1", view(filled(100)))
    chunks.put("c.2", view(first))
    chunks.put("c.2", view(first[::-1].copy()), "c.1")
    assert np.array_equal(read(chunks, "c.2", 100), first)
    assert os.listdir(tmp_path) == ["c.2"]


@pytest.mark.parametrize("n_bytes", [10_000, 2**20])
def test_a_disk_that_takes_or_gives_only_parts_is_asked_again(chunks, monkeypatch, n_bytes):
    data, write, readv = filled(n_bytes), os.write, os.readv
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, buffer: write(fd, buffer[: max(1, len(buffer) // 3 & ~511)]))
        chunks.put("c.1", view(data))
        patch.setattr(
            os, "readv", lambda fd, buffers: readv(fd, [buffers[0][: max(1, len(buffers[0]) // 2 & ~511)]])
        )
        assert np.array_equal(read(chunks, "c.1", n_bytes), data)


def test_a_full_disk_stops_a_write_that_began(chunks, monkeypatch):
    write, left = os.write, [3]

    def fill_up(fd, buffer):
        left[0] -= 1
        if not left[0]:
            raise FULL
        return write(fd, buffer[:4096])

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(OocmlError, match="the disk is full"):
        chunks.put("c.1", view(filled(2**20)))
    assert os.listdir(chunks.root) == []


def test_a_file_system_that_refuses_direct_access_is_used_through_the_cache(tmp_path, monkeypatch):
    real = os.open

    def refuse(path, flags, *rest):
        if flags & module.O_DIRECT:
            if flags & os.O_CREAT:
                os.close(real(path, flags & ~module.O_DIRECT, *rest))  # some make the file before they refuse
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    chunks, data = LocalChunks(tmp_path), filled(2**20)
    chunks.put("c.1", view(data))
    assert np.array_equal(read(chunks, "c.1", 2**20), data)


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [("link", NO_LINKS, "no hard links"), ("link", OSError(errno.ENOTSUP, "Not supported"), "no hard links")],
)
def test_a_folder_without_hard_links_is_refused_before_any_work(tmp_path, monkeypatch, function, error, said):
    require_hard_links(tmp_path)
    with monkeypatch.context() as patch:

        def fail(*arguments, **options):
            raise error

        patch.setattr(os, function, fail)
        with pytest.raises(InputError, match=said):
            require_hard_links(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_writable_is_refused_before_any_work(tmp_path, monkeypatch):
    from pathlib import Path

    def fail(*arguments, **options):
        raise DENIED

    monkeypatch.setattr(Path, "touch", fail)
    with pytest.raises(InputError, match="not writable"):
        require_hard_links(tmp_path)
