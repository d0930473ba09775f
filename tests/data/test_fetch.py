"""What `fetch` delivers is whole and verified, or it delivers nothing."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from oocml.data import fetch as module
from oocml.data.fetch import FetchError, fetch
from oocml.data.specs import Spec, load_spec, parse_spec
from oocml.errors import InputError, UsageError

CONTENT = {"a.txt": b"first\n" * 50, "b.txt": b"second\n" * 70, "unwanted.txt": b"no"}
SPEC = """
name = "boxed"
title = "Boxed"
task = "classification"
format = "text"
licence = "MIT"
[origin]
name = "here"
[source]
{source}
[[source.files]]
member = "boxed_data/a.txt"
to = "a.txt"
sha256 = "{a}"
[[source.files]]
member = "boxed_data/b.txt"
to = "b.txt"
sha256 = "{b}"
"""


def sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder: Path) -> Path:
    path = folder / "oocml_boxed-1.0-py3-none-any.whl"
    info = "oocml_boxed-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in CONTENT.items():
            wheel.writestr(f"boxed_data/{name}", content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: oocml-boxed\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def boxed(source: str, **sums: str) -> Spec:
    known = {"a": sum_of(CONTENT["a.txt"]), "b": sum_of(CONTENT["b.txt"])} | sums
    return parse_spec(SPEC.format(source=source, **known), where="boxed.toml", name="boxed")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip finds only through the user's own settings."""
    (tmp_path / "links").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return make_wheel(tmp_path / "links")


def pypi(wheel: Path, **sums: str) -> Spec:
    whole = sums.pop("whole", sum_of(wheel.read_bytes()))
    return boxed(
        f'kind = "pypi"\nproject = "oocml-boxed"\nversion = "1.0"\nfilename = "{wheel.name}"\nsha256 = "{whole}"',
        **sums,
    )


def left(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.exists() else set()


def test_named_members_come_out_of_a_wheel(wheel: Path, tmp_path: Path):
    paths = fetch(pypi(wheel), tmp_path / "out")
    assert [p.read_bytes() for p in paths] == [CONTENT["a.txt"], CONTENT["b.txt"]]
    assert left(tmp_path / "out") == {"a.txt", "b.txt"}


def test_what_is_there_and_verified_is_not_fetched_again(wheel: Path, tmp_path: Path):
    spec = pypi(wheel)
    fetch(spec, tmp_path / "out")
    wheel.unlink()
    before = os.stat(tmp_path / "out" / "a.txt").st_mtime_ns
    fetch(spec, tmp_path / "out")
    assert os.stat(tmp_path / "out" / "a.txt").st_mtime_ns == before


def test_altered_file_is_fetched_again(wheel: Path, tmp_path: Path):
    fetch(pypi(wheel), tmp_path / "out")
    (tmp_path / "out" / "b.txt").write_bytes(b"altered")
    assert fetch(pypi(wheel), tmp_path / "out")[1].read_bytes() == CONTENT["b.txt"]


def test_wrong_sum_of_a_package_leaves_nothing(wheel: Path, tmp_path: Path):
    with pytest.raises(InputError, match="not the package of the spec"):
        fetch(pypi(wheel, whole="0" * 64), tmp_path / "out")
    assert not {"a.txt", "b.txt"} & left(tmp_path / "out")


def test_wrong_sum_of_a_member_leaves_no_file_of_that_name(wheel: Path, tmp_path: Path):
    with pytest.raises(InputError, match=f"where the spec says {'0' * 64}") as caught:
        fetch(pypi(wheel, b="0" * 64), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "b.txt" not in left(tmp_path / "out")
    assert ".b.txt.partial" not in left(tmp_path / "out")


def test_interrupted_fetch_goes_on_without_downloading_again(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec, deliver, seen = pypi(wheel), module._deliver, []

    def stop_at_the_second(stream, file, folder, what):
        seen.append(file.to)
        if len(seen) == 2:
            (folder / ".b.txt.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        deliver(stream, file, folder, what)

    monkeypatch.setattr(module, "_deliver", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        fetch(spec, tmp_path / "out")
    assert "b.txt" not in left(tmp_path / "out")
    wheel.unlink()  # pip could not find it any more
    fetch(spec, tmp_path / "out")
    assert seen == ["a.txt", "b.txt", "b.txt"]
    assert left(tmp_path / "out") == {"a.txt", "b.txt"}


def test_missing_package_is_one_line(wheel: Path, tmp_path: Path):
    wheel.unlink()
    spec = parse_spec(
        SPEC.format(
            source=f'kind = "pypi"\nproject = "oocml-boxed"\nversion = "1.0"\n'
            f'filename = "{wheel.name}"\nsha256 = "{"0" * 64}"',
            a="0" * 64,
            b="0" * 64,
        ),
        where="boxed.toml",
        name="boxed",
    )
    with pytest.raises(FetchError, match="cannot be downloaded: ERROR: .*oocml-boxed") as caught:
        fetch(spec, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_wheel_of_another_platform_is_asked_for_by_its_tags():
    command = module._pip_command(load_spec("reuters_395").source)
    assert command[command.index("--python-version") + 1] == "311"
    assert "manylinux2014_x86_64" in command
    assert "--abi=cp311" in command


def test_installed_package_saves_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(module, "_run", lambda *_: pytest.fail("asked a package client"))
    raw, table = fetch("digits", tmp_path)
    assert module.sha256_of(raw) == load_spec("digits").source.files[0].sha256
    X = sp.load_npz(table)
    assert (X.shape, X.nnz) == ((1797, 64), load_spec("digits").nnz)
    with np.load(table) as arrays:
        assert set(arrays["y"]) == set(range(10))


def test_debian_package_is_got_by_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb on this machine")
    tree = tmp_path / "tree"
    (tree / "boxed_data").mkdir(parents=True)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: oocml-boxed\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <n@example.org>\nDescription: box\n"
    )
    for name, content in CONTENT.items():
        (tree / "boxed_data" / name).write_bytes(content)
    package = tmp_path / "boxed_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(package)], check=True, capture_output=True)
    clients = tmp_path / "bin"
    clients.mkdir()
    (clients / "apt-get").write_text(f'#!/bin/sh\n[ "$*" = "download oocml-boxed" ] && cp {package} .\n')
    (clients / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{clients}:{os.environ['PATH']}")
    paths = fetch(boxed('kind = "debian"\nproject = "oocml-boxed"'), tmp_path / "out")
    assert [p.read_bytes() for p in paths] == [CONTENT["a.txt"], CONTENT["b.txt"]]
    assert left(tmp_path / "out") == {"a.txt", "b.txt"}


def test_machine_without_the_client_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="apt-get is not on this machine"):
        fetch(boxed('kind = "debian"\nproject = "oocml-boxed"'), tmp_path / "out")


def test_manual_set_says_what_to_do(tmp_path: Path):
    with pytest.raises(UsageError, match=r"docword\.kos\.txt\.gz, vocab\.kos\.txt into") as caught:
        fetch("kos", tmp_path)
    assert "\n" not in str(caught.value)


def test_manual_set_that_is_there_is_verified(tmp_path: Path):
    (tmp_path / "a9a").write_text("not it")
    (tmp_path / "a9a.t").write_text("not it")
    with pytest.raises(InputError, match="is not the file of a9a"):
        fetch("a9a", tmp_path)


def test_unwritable_folder_is_one_line(tmp_path: Path, wheel: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="boxed cannot be written to"):
        fetch(pypi(wheel), tmp_path / "file" / "out")


def test_idx_files_become_arrays(tmp_path: Path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    with gzip.open(tmp_path / "images.gz", "wb") as file:
        file.write(struct.pack(">I3I", 0x803, 2, 3, 4) + pixels.tobytes())
    with gzip.open(tmp_path / "labels.gz", "wb") as file:
        file.write(struct.pack(">II", 0x801, 2) + b"\x05\x07")
    made = module.convert("idx", [tmp_path / "images.gz", tmp_path / "labels.gz"], tmp_path / "x.npz", {})
    with np.load(made) as arrays:
        np.testing.assert_array_equal(arrays["X"], pixels.reshape(2, 12))
        np.testing.assert_array_equal(arrays["y"], [5, 7])


def test_table_with_named_classes_becomes_arrays(tmp_path: Path):
    (tmp_path / "t.dat").write_text("@relation t\n1, 2, yes\n3, 4.5, no\n\n")
    made = module.convert("table", [tmp_path / "t.dat"], tmp_path / "t.npz", {})
    with np.load(made) as arrays:
        np.testing.assert_array_equal(arrays["X"], [[1, 2], [3, 4.5]])
        assert list(arrays["y"]) == [1, 0]
        assert list(arrays["label_names"]) == ["no", "yes"]


def test_features_with_many_zeros_are_kept_sparse(tmp_path: Path):
    (tmp_path / "t.dat").write_text("0,2,0,1\n3,0,0,2\n")
    made = module.convert("table", [tmp_path / "t.dat"], tmp_path / "t.npz", {})
    np.testing.assert_array_equal(sp.load_npz(made).toarray(), [[0, 2, 0], [3, 0, 0]])
    with np.load(made) as arrays:
        assert "X" not in arrays


@pytest.mark.long
@pytest.mark.parametrize("name", ["news20", "fashion_mnist", "letter", "housing", "ml_100k", "reuters_395"])
def test_real_package_delivers_what_the_spec_says(name: str, tmp_path: Path):
    """Needs a package index, or for Fashion-MNIST a Debian mirror."""
    if load_spec(name).source.kind == "debian" and not shutil.which("apt-get"):
        pytest.skip("no apt-get on this machine")
    paths = fetch(name, tmp_path)
    assert {p.name for p in paths} == left(tmp_path)
