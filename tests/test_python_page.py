"""The code of ``docs/python.md`` runs as it stands there."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[1] / "docs/python.md"


def test_the_page_runs(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        lines = [f"{i % 3} {i % 3 + 1}:1 {rng.integers(4, 9)}:{rng.random():.3f}" for i in range(60)]
        (tmp_path / f"{name}.svm").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    found = {}
    exec(compile(code, str(PAGE), "exec"), found)
    assert len(found["run"].history) == 6
    assert found["run"].evaluate("test.zarr")["accuracy"] == 1
    assert (tmp_path / "top.zarr").is_dir()
    assert (tmp_path / "model.npz").is_file()
