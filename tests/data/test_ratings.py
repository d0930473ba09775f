"""Ratings come out of every way of writing them, and what is no rating is named with its line."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocml.data.ratings import RatingsReader, in_train
from oocml.data.ratings_layout import Columns, Given, find_layout
from oocml.data.readers import BadLines, TooManyBad, make_reader
from oocml.errors import InputError, UsageError
from tests.data.rating_lines import (
    Style,
    any_names,
    expected,
    plain_names,
    put,
    read,
    some_ratings,
    styles,
    text_of,
    values,
)
from tests.data.rating_lines import write as write_ratings


def lines_of(names):
    return st.lists(st.tuples(names, names, values), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ratings")


def tell(style):
    """What a caller may have to say of a file whose names can be anything."""
    return {"sep": style.sep, "header": int(style.header), "columns": ",".join(style.columns)}


@given(
    ratings=lines_of(any_names),
    style=styles([",", ";", "\t", "|"]),
    part_bytes=st.sampled_from([7, 60, 1 << 20]),
)
def test_any_names_come_back_from_delimited_fields(folder, ratings, style, part_bytes):
    path = write_ratings(folder / "x", ratings, style)
    assert read([path], part_bytes=part_bytes, **tell(style)) == expected(ratings)


@given(ratings=lines_of(plain_names), style=styles(["::", " ", "\t ", " , "]))
def test_separators_of_several_bytes_and_blanks(folder, ratings, style):
    path = write_ratings(folder / "y", ratings, style)
    assert read([path], **tell(style)) == expected(ratings)


numbers = st.integers(0, 10**9).map(str)


@given(ratings=lines_of(numbers), style=styles([",", ";", "\t", "::", " "]))
def test_number_ids_need_no_options_unless_columns_are_in_another_order(folder, ratings, style):
    path = write_ratings(folder / "z", ratings, style)
    telling = {} if style.header or style.columns[0] == "user" else {"columns": ",".join(style.columns)}
    assert read([path], **telling) == expected(ratings)


@given(cut=st.integers(1, 300), part_bytes=st.integers(5, 400))
def test_how_a_file_is_cut_does_not_matter(folder, cut, part_bytes):
    ratings = some_ratings(n=30)
    first, second = (
        put(folder / "1.csv", ratings[: cut % 29 + 1]),
        put(folder / "2.csv", ratings[cut % 29 + 1 :]),
    )
    assert read([first, second], part_bytes=part_bytes) == expected(ratings)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("1\t2\t3\t4\n", (4, 0, 1, 2)),
        ("1::2::3::4\n", (4, 0, 1, 2)),
        ("userId,movieId,rating,timestamp\n1,2,3.5,4\n", (4, 0, 1, 2)),
        ("user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n", (4, 0, 1, 2)),
        ("user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n", (3, 0, 1, -1)),
        ("timestamp:float\titem_id:token\trating:float\tuser_id:token\n1\t2\t3\t4\n", (4, 3, 1, 2)),
        ("userID\tartistID\tweight\n2\t51\t13883\n", (3, 0, 1, 2)),
        ("item,user,plays,date\na,b,3,2020\n", (4, 1, 0, 2)),
        ("alice bob 3\n", (3, 0, 1, 2)),
        ("7 8\n", (2, 0, 1, -1)),
        ("user,item\na,b\n", (2, 0, 1, -1)),
        ('"user","item","rating"\n"a","b",1\n', (3, 0, 1, 2)),
        ("\n\nuser;item;rating\n1;2;3\n", (3, 0, 1, 2)),
    ],
)
@pytest.mark.parametrize("bom", [False, True])
def test_the_layout_is_found_out(tmp_path, text, columns, bom):
    path = tmp_path / "x"
    path.write_text(("\ufeff" if bom else "") + text, encoding="utf-8")
    layout = find_layout(str(path))
    assert layout.columns == Columns(*columns)
    body = path.read_bytes()[layout.n_bytes :].decode().strip("\ufeff\n")
    assert body == text.strip().split("\n")[-1]
    assert len(read([path])) == 1


def test_matrix_market_files_are_ratings_too(tmp_path):
    path = tmp_path / "x.mtx"
    path.write_text("%%MatrixMarket matrix coordinate real general\n% a comment\n3 4 2\n3 1 2.5\n1 4 0\n")
    assert read([path]) == {("3", "1"): 2.5, ("1", "4"): 0.0}
    path.write_text("%%MatrixMarket matrix coordinate pattern general\n3 4 2\n3 1\n1 4\n")
    assert read([path], part_bytes=20) == {("3", "1"): 1.0, ("1", "4"): 1.0}
    path.write_text("%%MatrixMarket matrix coordinate real general\n3 4 3\n3 1 2.5\n1 4 0\n")
    with pytest.raises(InputError, match="promises 3 entries and has 2; is it cut short"):
        read([path])
    path.write_text("%%MatrixMarket matrix coordinate real symmetric\n3 3 1\n3 1 2.5\n")
    with pytest.raises(InputError, match="symmetric matrix"):
        read([path])


def test_quotes_hold_separators_and_quotes(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'"Smith, ""J""",  plain , 2\r\n  "a" ,\'b"c\',"1"\r\n')
    assert read([path]) == {('Smith, "J"', "plain"): 2.0, ("a", "'b\"c'"): 1.0}


def test_names_are_not_numbers(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("1,01,1\n01,1,2\n1.0,1,3\n1,1,4\n")
    assert len(read([path])) == 4


def test_other_encodings_become_the_same_names(tmp_path):
    ratings = [("zoë", "naïve", 1.0), ("zo", "na", 2.0)]
    (tmp_path / "x").write_bytes("".join(f"{u}\t{i}\t{v}\n" for u, i, v in ratings).encode("latin-1"))
    assert read([tmp_path / "x"], encoding="latin-1") == expected(ratings)


BAD = [
    ("1,2", "there are 2 fields, not 4"),
    ("1,2,3,4,5", "there are 5 fields, not 4"),
    ("1,2,x,4", "value 'x' is not a finite number"),
    ("1,2,,4", "value '' is not a finite number"),
    ("1,2,nan,4", "value 'nan' is not a finite number"),
    ("1,2,inf,4", "value 'inf' is not a finite number"),
    ("1,2,1e39,4", "value '1e39' is out of range"),
    (",2,3,4", "the user is empty"),
    ("1,  ,3,4", "the item is empty"),
    ('1,"2,3,4', "the quote before '2,3,4' has no end in this line"),
    ('1,"2"x,3,4', "there is more after the quoted field '2'"),
    ("1,2\udcff,3,4", "byte 0xff is not utf-8"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("header", ["", "user,item,rating,time\n\n"])
def test_a_bad_line_is_named(tmp_path, line, reason, packed, header):
    text = f"{header}7,8,5,0\n\n{line}\n9,8,4,0\n".encode("utf-8", "surrogateescape")
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(text) if packed else text)
    reader = RatingsReader()
    (part,) = reader.parts([str(path)], 1 << 20)
    bad = BadLines(0)
    with pytest.raises(TooManyBad):
        list(reader.read(part, bad))
    skipped = 0 if packed else text[: part.lo].count(b"\n")
    assert (bad.first_line + skipped, bad.first_reason) == (2 + header.count("\n"), bad.first_reason)
    assert bad.first_reason.startswith(reason)
    assert read([path], max_bad=1) == {("7", "8"): 5.0, ("9", "8"): 4.0}


@given(st.data())
def test_a_file_cut_short_in_a_line_has_a_bad_line_or_fewer_digits(folder, data):
    """What is left of a value can't be told from a value; a line without one can."""
    ratings = some_ratings(n=5)
    text = text_of(ratings, Style(",", ("user", "item", "time", "value"), True, "\n", True, ""))
    keep = data.draw(st.integers(len(text) - 14, len(text) - 1))
    path = folder / "cut"
    path.write_text(text[:keep])
    last = text[:keep].split("\n")[-1].split(",")
    if len(last) == 4 and last[3] not in ("", "-"):
        assert len(read([path])) == 5
    elif last == [""]:
        assert len(read([path])) == 4
    else:
        with pytest.raises(TooManyBad):
            read([path])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sep": "."}, "can't part numbers"),
        ({"sep": "1"}, "can't part numbers"),
        ({"columns": "user,value"}, "must name user and item"),
        ({"columns": "user,user,item"}, "must name user and item"),
        ({"header": "yes"}, "is not a number of lines"),
        ({"encoding": "utf-16"}, "not one byte per ASCII"),
        ({"share": "train", "fraction": 1.0}, "is none"),
        ({"separator": ","}, "format ratings has no option 'separator'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        make_reader("ratings", options)


@pytest.mark.parametrize(
    ("text", "given", "says"),
    [
        ("a|b|3\n", Given(), r"line 1: 'a\|b\|3' has no user and item; is there another separator"),
        ("user,item\n", Given(header=1), "has no ratings, only 1 lines before them"),
        ("\n\n", Given(), "has no ratings"),
        ("1,2\n", Given(columns=("user", "item", "value")), "line 1 has 2 fields, --columns names 3"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, text, given, says):
    (tmp_path / "x").write_text(text)
    with pytest.raises(InputError, match=says):
        find_layout(str(tmp_path / "x"), given)


def test_a_split_takes_its_share_and_another_seed_another(tmp_path):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 2**63, (2, 100_000), dtype=np.uint64)
    first, second = (in_train(users, items, 0.9, seed) for seed in (0, 1))
    assert first.mean() == pytest.approx(0.9, abs=0.005)
    # independent draws: in both with probability 0.81
    assert (first & second).mean() == pytest.approx(0.81, abs=0.01)
    # and neither ratings of one user nor of one item go together
    same = np.full_like(users, users[0])
    assert in_train(same, items, 0.9, 0).mean() == pytest.approx(0.9, abs=0.005)
    assert in_train(users, same, 0.9, 0).mean() == pytest.approx(0.9, abs=0.005)


@given(fraction=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_train_and_test_are_all_of_it_and_share_nothing(folder, fraction, seed):
    ratings = some_ratings(n=40)
    path = put(folder / "s.csv", ratings)
    train, test = (
        read([path], share=share, fraction=fraction, split_seed=seed) for share in ("train", "test")
    )
    assert train | test == expected(ratings)
    assert not set(train) & set(test)
