from __future__ import annotations

import numpy as np
import pytest

from oocml import api
from pipelines import movielens
from tests.data.rating_lines import stored

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEMS = """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
1\tToy Story\t1995\tAnimation Comedy
2\tCopycat\t1995\tCrime
3\tunknown\t\t
"""
USERS = """user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token
1\t17\tM\tstudent\t85711
2\t18\tF\tother\t94043
3\t60\tM\tother\t32067
"""


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "given" / "ml-100k"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    places = [(u, i) for u in (1, 2, 3) for i in (1, 2, 3)]
    lines = [f"{u}\t{i}\t{draw.integers(1, 6)}\t0" for u, i in places]
    (folder / "ml-100k.inter").write_text(INTER + "\n".join(lines) + "\n")
    (folder / "ml-100k.item").write_text(ITEMS)
    (folder / "ml-100k.user").write_text(USERS)
    return tmp_path / "given"


def rows(path):
    """{names of the features of a row: target} of a dataset."""
    dataset = api.open_dataset(path)
    names = np.array(dataset.feature_names)
    found = {}
    for p in range(dataset.n_panels):
        X, y, *_ = dataset.read_panel(p)
        assert (X.data == 1).all()
        for i, target in enumerate(y):
            found[tuple(names[X.indices[X.indptr[i] : X.indptr[i + 1]]])] = target
    return found


def test_a_row_has_its_user_its_item_and_what_is_known_of_them(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(movielens, "SHARE", 0.5)
    made = movielens.features(tmp_path, data_dir)
    both = rows(made.train) | rows(made.test)
    assert len(both) == 9
    assert set(both) >= {
        ("user=1", "age=0", "gender=M", "occupation=student", "item=1", "genre=Animation", "genre=Comedy"),
        ("user=2", "age=1", "gender=F", "occupation=other", "item=2", "genre=Crime"),
        ("user=3", "gender=M", "occupation=other", "age=6", "item=3"),
    }
    assert not list(tmp_path.glob("*.npz"))


def test_both_forms_are_split_alike(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(movielens, "SHARE", 0.5)
    as_rows, as_ratings = movielens.features(tmp_path, data_dir), movielens.ratings(tmp_path, data_dir)
    trained = api.open_dataset(as_ratings.train).feature_names
    for ours, theirs in zip(as_rows[1:], as_ratings[1:], strict=True):
        targets = {}
        for names, target in rows(ours).items():
            user, item = names[0], next(name for name in names if name.startswith("item="))
            if item.removeprefix("item=") in trained:
                targets[user.removeprefix("user="), item.removeprefix("item=")] = target
        assert targets == stored(theirs)
    monkeypatch.setattr(api, "ingest", None)
    assert movielens.features(tmp_path, data_dir) == as_rows


def test_ratings_in_small_panels_are_the_same_ratings(tmp_path, data_dir):
    whole = movielens.ratings(tmp_path / "made", data_dir)
    cut = movielens.ratings(tmp_path / "made", data_dir, panel_bytes=20)
    assert cut.train != whole.train
    assert api.open_dataset(cut.train).n_panels == 3
    assert stored(cut.train) == stored(whole.train)


def test_movielens_has_the_size_it_should(tmp_path, shared_data):
    made = movielens.features(tmp_path, shared_data("ml-100k").parent)
    train, test = api.open_dataset(made.train), api.open_dataset(made.test)
    assert train.n_rows + test.n_rows == 100_000
    assert abs(train.n_rows - 90_000) < 400
    assert train.n_cols == test.n_cols == 943 + 7 + 2 + 21 + 1682 + 19
    assert train.labels.tolist() == [1, 2, 3, 4, 5]
