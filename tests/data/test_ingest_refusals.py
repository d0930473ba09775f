"""What an ingest that gives up advises is possible in the format at hand."""

import inspect
import re
from pathlib import Path

import pytest

from oocml.data.ingest import ingest
from oocml.data.ingest_job import Job
from oocml.data.ingest_refusals import fewer_columns
from oocml.data.readers import NOT_ASKED_FOR, READERS, make_reader, reader_class
from oocml.errors import InputError, UsageError


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("hashing", [None, 1 << 10])
def test_advice_has_options_of_the_format_alone(format, hashing):
    options = {"hashing": hashing} if hashing and format == "text" else {}
    advice = fewer_columns(Job(format, options, Path(), 0, 0, False, 1)) or ""
    named = {name.replace("-", "_") for name in re.findall(r"--([a-z-]+)", advice)}
    assert named <= set(inspect.signature(reader_class(format)).parameters)
    assert bool(named) == (format == "text")


@pytest.mark.parametrize("format", READERS)
def test_an_option_of_another_format_is_refused_with_those_there_are(format):
    with pytest.raises(UsageError, match=f"format {format} has no option 'no-such'; it") as caught:
        make_reader(format, {"no_such": 1})
    told = re.findall(r"[a-z-]+", str(caught.value).partition("its own are ")[2])
    own = set(inspect.signature(reader_class(format)).parameters) - NOT_ASKED_FOR
    assert {name.replace("-", "_") for name in told} == own


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    source, out = tmp_path / "x.svm", tmp_path / "photos.zarr"
    source.write_text("1 1:1\n")
    (out / "holidays").mkdir(parents=True)
    with pytest.raises(UsageError, match="photos.zarr is not a dataset; remove it yourself"):
        ingest("libsvm", source, out, overwrite=True)
    assert (out / "holidays").is_dir()


def test_an_empty_table_is_called_empty(tmp_path):
    source = tmp_path / "x.csv"
    source.write_text("\n\n")
    with pytest.raises(InputError, match="x.csv is empty"):
        ingest("csv", source, tmp_path / "x.zarr")
    source.write_text("a,b\n")
    with pytest.raises(InputError, match="x.csv has no rows, only 1 lines before them"):
        ingest("csv", source, tmp_path / "x.zarr")
