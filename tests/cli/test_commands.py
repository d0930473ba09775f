"""Exit codes, error lines and what goes where, whatever the verb."""

import errno
import json
import subprocess
import sys

import click
import pytest

from oocml import errors
from oocml.cli.commands import app, describe

VERBS = """
    specs fetch synth ingest plan train resume evaluate predict report export info quickstart
""".split()  # noqa: SIM905


def test_verbs_are_those_of_the_design_in_the_order_of_use():
    assert app.list_commands(click.Context(app)) == VERBS


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_every_verb_has_help(run_cli, verb):
    done = run_cli(*([verb] if verb else []), "--help")
    assert done.code == 0
    assert "Usage: oocml" in done.out
    assert done.err == ""


def test_what_predictions_hold_is_told_of_every_model(run_cli):
    from oocml.models.registry import BUILTIN

    told = run_cli("predict", "--help").out
    table = told[told.index("arrays in .zarr") : told.index("One line")]
    assert {name.split("-")[0] for name in BUILTIN} <= set(table.replace(",", " ").split())
    assert all(len(line) < 80 for line in table.splitlines()), "it is not wrapped"


def test_short_helps_are_whole_sentences(run_cli):
    commands = run_cli("--help").out.partition("Commands:")[2]
    assert "..." not in commands


def test_no_arguments_show_help_and_fail(run_cli):
    done = run_cli()
    assert done.code == 2
    assert "Commands:" in done.err


@pytest.mark.parametrize(
    "args",
    [
        ["nosuchverb"],
        ["train"],
        ["train", "mlr", "d.zarr", "r.zarr", "--nosuchoption"],
        ["train", "mlr", "d.zarr", "r.zarr", "--epochs", "0"],
        ["train", "mlr", "d.zarr", "r.zarr", "--memory", "700"],
        ["train", "nosuchmodel", "d.zarr", "r.zarr", "--set", "l2=1"],
        ["train", "mlr", "d.zarr", "r.zarr", "--set", "l2"],
        ["plan", "mlr", "--memory", "1GiB"],
        ["resume", "r.zarr", "--epochs", "5"],
        ["evaluate", "r.zarr", "d.zarr", "--at", "first"],
        ["ingest", "nosuchformat", "a", "b.zarr"],
        ["ingest", "libsvm", "b.zarr"],
        ["ingest", "libsvm", "a", "b"],
        ["synth", "toy", "b"],
        ["report", "r.zarr", "--out", "data.svm"],
        ["fetch", "nosuchdata"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line_and_code_2(run_cli, api, args):
    done = run_cli(*args)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


def test_a_fraction_is_not_called_an_integer_range(run_cli, api):
    for option, kind in (("--epochs", "whole number"), ("--row-blocks", "whole number")):
        err = run_cli("train", "mlr", "d.zarr", "r.zarr", option, "1.5").err
        assert f"Invalid value for '{option}': '1.5' is not a valid {kind};" in err
    err = run_cli("export", "r.zarr", "w.npz", "--prune", "much").err
    assert "'much' is not a valid number;" in err


def test_bounds_that_there_are_none_of_are_not_told(run_cli):
    assert "None" not in run_cli("ingest", "--help").out


@pytest.mark.parametrize(("out", "code"), [("missing/r.html", 4), (".", 2), ("r.pdf", 2)])
def test_a_report_replaces_nothing_but_a_report(run_cli, api, tmp_path, monkeypatch, out, code):
    monkeypatch.chdir(tmp_path)
    done = run_cli("report", "r.zarr", "--out", out)
    assert (done.code, done.err.count("\n"), list(tmp_path.iterdir())) == (code, 1, [])


def test_size_without_a_unit_names_the_units(run_cli):
    err = run_cli("train", "mlr", "d.zarr", "r.zarr", "--memory", "700").err
    assert "MiB" in err
    assert "MB" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NonFinite("mlr: block 3 in epoch 2 is not finite; try --set learning_rate=0.1"), 1),
        (errors.UsageError("no model called x"), 2),
        (errors.DoesNotFit("needs 1.2 GiB, --memory is 1 GiB"), 3),
        (errors.InputError("x.svm, line 3: bad"), 4),
        (errors.DamagedStore("chunk c/0 is truncated"), 4),
        (OSError(errno.ENOSPC, "No space left on device", "r.zarr/state"), 3),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (OSError(errno.EROFS, "Read-only file system", "r.zarr/.lock"), 4),
        (PermissionError(errno.EACCES, "Permission denied", "r.zarr"), 4),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.svm"), 4),
        (MemoryError("Unable to allocate 4 TiB"), 3),
        (KeyError("surprise\nin two lines"), 1),
        (RuntimeError(), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_one_line_with_its_code(run_cli, api, error, code):
    def fail(*args, **options):
        raise error

    api.answers["summary"] = fail
    done = run_cli("report", "r.zarr")
    assert done.code == code
    assert done.out == ""
    assert done.err == f"error: {describe(error)[0]}\n"
    with_json = run_cli("report", "r.zarr", "--json")
    told = {"error": describe(error)[0], "exit_code": code}
    assert with_json.json == told | ({"fits": False} if isinstance(error, errors.DoesNotFit) else {})
    assert with_json.err == done.err


def test_os_errors_name_the_file():
    assert "r.zarr/state" in describe(OSError(errno.ENOSPC, "No space", "r.zarr/state"))[0]


def test_traceback_only_with_debug(run_cli, api):
    api.answers["summary"] = lambda: 1 / 0
    assert "Traceback" not in run_cli("report", "r.zarr").err
    shown = run_cli("report", "r.zarr", "--debug").err
    assert "Traceback" in shown
    assert shown.endswith("error: ZeroDivisionError: division by zero (unexpected; --debug shows where)\n")


def test_json_is_the_only_thing_on_stdout():
    """Prints of libraries, C code and child processes included."""
    code = """
import os, subprocess, sys, types
import oocml
from oocml.cli import run
api = types.ModuleType("oocml.api")
class Run:
    def top_columns(self):
        return {}
    def summary(self):
        print("from python")
        os.write(1, b"from C\\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        return {"objective": float("nan"), "epochs": 3}
api.open_run = lambda path: Run()
sys.modules["oocml.api"] = oocml.api = api
sys.exit(run(["report", "r.zarr", "--json"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"objective": None, "epochs": 3}
    for line in ("from python", "from C", "from a child"):
        assert line in done.stderr


def test_sigterm_ends_a_training_as_ctrl_c_does(tmp_path):
    code = """
import os, signal, sys, types
import oocml
from oocml.cli import main, train
api = types.ModuleType("oocml.api")
api.open_dataset = lambda path: path
def slow(model, data, run, **options):
    os.mkdir(run)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
api.train = slow
sys.modules["oocml.api"] = oocml.api = api
train.progress = lambda: ()
sys.argv[1:] = ["train", "mlr", "d.zarr", sys.argv[1]]
sys.exit(main())
"""
    run = tmp_path / "run.zarr"
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"error: interrupted; `oocml resume {run}` finishes the run\n"
