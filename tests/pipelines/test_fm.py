from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest
from click.testing import CliRunner

from oocml import api
from oocml.errors import UsageError
from pipelines import fm, fm_sets


def invoke(*arguments):
    return CliRunner().invoke(fm.main, [str(argument) for argument in arguments])


def table(folder):
    with (folder / "fm.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Small sets under the names of the real ones."""
    folder, draw = tmp_path_factory.mktemp("given"), np.random.default_rng(0)
    for name, file in (("housing", "housing_scale"), ("a9a", "a9a.gz"), ("a9a", "a9a.t.gz")):
        X = draw.normal(size=(160, 5)).round(3)
        score = X[:, 0] * X[:, 1] + X[:, 2]
        y = score if name == "housing" else np.where(score > 0, 1, -1)
        lines = [
            f"{t:.4g} " + " ".join(f"{j + 1}:{x}" for j, x in enumerate(row))
            for t, row in zip(y, X, strict=True)
        ]
        (folder / name).mkdir(exist_ok=True)
        text = "\n".join(lines) + "\n"
        path = folder / name / file
        path.write_bytes(gzip.compress(text.encode()) if file.endswith(".gz") else text.encode())
    return folder


def test_a_set_that_comes_whole_is_split_once(tmp_path, data_dir, monkeypatch):
    made = fm_sets.find("housing", tmp_path, data_dir, seed=3, panel_bytes=2**10)
    train, test = (api.open_dataset(path) for path in (made.train, made.test))
    assert (train.n_rows, test.n_rows) == (112, 48)
    assert train.n_panels > 2
    targets = [np.concatenate([d.read_panel(p).y for p in range(d.n_panels)]) for d in (train, test)]
    lines = (data_dir / "housing" / "housing_scale").read_text().splitlines()
    whole = sorted(float(line.split()[0]) for line in lines)
    assert sorted(np.concatenate(targets).tolist()) == pytest.approx(whole, rel=1e-6)
    monkeypatch.setattr(api, "ingest", None)
    assert fm_sets.find("housing", tmp_path, data_dir, seed=3, panel_bytes=2**10) == made


def test_a_set_with_a_test_file_keeps_it(tmp_path, data_dir):
    made = fm_sets.find("a9a", tmp_path, data_dir)
    assert [api.open_dataset(path).n_rows for path in made[1:]] == [160, 160]
    with pytest.raises(UsageError, match="by hand"):
        fm_sets.find("a9a", tmp_path / "elsewhere")


def test_newsgroups_in_two_classes_stand_for_realsim(tmp_path):
    (tmp_path / "given" / "news20").mkdir(parents=True)
    for split in ("train", "test"):
        lines = [f"{label} {label + 1}:2 25:1" for label in range(20)]
        (tmp_path / "given" / "news20" / f"{split}.svm").write_text("\n".join(lines) + "\n")
    made = fm_sets.find("realsim", tmp_path / "made", tmp_path / "given")
    assert made.name == "news20 (for realsim)"
    for path in made[1:]:
        panel = api.open_dataset(path).read_panel(0)
        groups = [indices[0] for indices in np.split(panel.X.indices, panel.X.indptr[1:-1])]
        first = sorted(group for group, y in zip(groups, panel.y, strict=True) if y > 0)
        assert first == [1, 2, 3, 4, 5, 11, 12, 13, 14]


def test_solvers_get_their_lines_and_their_curves(tmp_path, data_dir):
    sizes = ["--epochs", 10, "--n-factors", 2, "--set", "housing", "--set", "a9a", "--method", "1 x 1"]
    done = invoke("--data-dir", data_dir, "--out", tmp_path, *sizes)
    assert done.exit_code == 0, done.output
    rows = table(tmp_path)
    names = [method.name for method in fm.METHODS if method.name.endswith(" 1 x 1")]
    assert len(names) == 4
    ends = {(row["dataset"], row["method"]): row for row in rows}
    assert list(ends) == [(name, method) for name in ("housing", "a9a") for method in names]
    for (name, _), row in ends.items():
        first = next(r for r in rows if (r["dataset"], r["method"]) == (name, row["method"]))
        assert float(row["objective"]) < float(first["objective"])
        assert (row["rmse"] == "") == (name == "a9a")
    assert float(ends["a9a", "tiles, 1 x 1"]["accuracy"]) > 0.8
    assert (tmp_path / "fm.png").read_bytes().startswith(b"\x89PNG")


def test_small_sets_are_not_given_to_workers():
    of_workers = next(method for method in fm.METHODS if method.workers)
    housing = fm.Splits("housing", None, None)
    assert not fm.wanted(housing, of_workers)
    assert fm.wanted(housing, fm.DEFAULT)
    assert fm.wanted(housing._replace(name="a9a"), of_workers)


def line(method, log_loss, **more):
    return {"dataset": "d", "method": method, "log_loss": log_loss, **more}


def test_a_summary_tells_what_blocks_cost_and_what_fails():
    few, fused = "tiles, 4 x 4", "ds-facto fused, 16 x 4"
    rows = [line(fm.DEFAULT.name, 0.5), line(few, 0.6), line(few, 0.504), line(fused, 0.6)]
    rows.append(line("ds-facto two-pass, 4 x 4", None, note="infinite"))
    section = fm.summary(rows)
    (finding,) = section.findings
    assert finding.value == pytest.approx(0.008)
    assert finding.met
    assert [note.partition(": ")[2].partition(",")[0] for note in section.notes] == [
        "ds-facto fused",
        "ds-facto two-pass",
    ]
    assert "+20%" in section.notes[0]
    assert "infinite" in section.notes[1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--test", "."], "--data"),
        (["--data", ".", "--set", "a9a"], "not both"),
        (["--method", "nosuch"], "tiles"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, why):
    done = invoke("--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert why in done.output
    assert done.output.count("\n") == 1
