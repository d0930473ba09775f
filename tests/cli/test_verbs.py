"""What each verb hands to the Python API, and what it makes of the answer."""

import pytest

from oocml.errors import InputError

MONITORS = {"monitors": ("<monitor>",)}


def test_train_hands_over_only_what_was_given(run_cli, api):
    done = run_cli("train", "mlr", "d.zarr", "r.zarr", "--json")
    assert done.code == 0
    ((_, args, options),) = [call for call in api.calls if call[0] == "train"]
    assert args == ("mlr", "<dataset d.zarr>", "r.zarr")
    assert options == {"settings": {}, **MONITORS}
    assert done.json == api.answers["summary"]


def test_train_with_everything(run_cli, api):
    text = (
        "train mlr d.zarr r.zarr --epochs 3 --memory 1GiB --workers 2 --schedule sync --scheduler tcp://h:1 --seed 7"
        " --valid t.zarr --patience 2 --metric accuracy --task-memory 10MB --row-blocks 3 --col-blocks 4"
        " --overwrite --durable"
    )
    assert run_cli(*text.split()).code == 0
    assert api.options("train") == {
        "epochs": 3,
        "memory": 2**30,
        "workers": 2,
        "schedule": "sync",
        "scheduler": "tcp://h:1",
        "seed": 7,
        "valid": "<dataset t.zarr>",
        "patience": 2,
        "metric": "accuracy",
        "task_memory": 10**7,
        "row_blocks": 3,
        "col_blocks": 4,
        "overwrite": True,
        "durable": True,
        "settings": {},
        **MONITORS,
    }


def test_settings_are_typed_by_the_defaults_of_the_users_own_model(run_cli, api, tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(
        "from oocml.models.mlr import MLR\n"
        "class Model(MLR):\n"
        "    name = 'mine'\n"
        "    def defaults(self):\n"
        "        return {'steps': 3, 'rate': 0.5, 'warm': False, 'kind': 'a'}\n"
    )
    model = f"{source}:Model"
    sets = ["--set", "steps=4", "--set", "rate=1", "--set", "warm=yes"]
    assert run_cli("train", model, "d.zarr", "r.zarr", *sets).code == 0
    assert api.options("train")["settings"] == {"steps": 4, "rate": 1.0, "warm": True}
    refused = run_cli("train", model, "d.zarr", "r.zarr", "--set", "step=4")
    assert refused.code == 2
    assert "did you mean steps?" in refused.err


def test_plan_of_a_dataset_and_of_a_spec(run_cli, api):
    done = run_cli("plan", "mlr", "d.zarr", "--memory", "2GiB", "--json")
    assert done.json == {"fits": True, "bytes_total": 2**20}
    assert run_cli("plan", "mlr", "--spec", "clef", "--memory", "2GiB", "--workers", "40").code == 0
    pins = ["--schedule", "serial", "--row-blocks", 3, "--col-blocks", 4]
    assert run_cli("plan", "mlr", "d.zarr", *pins).code == 0
    (_, _, pinned) = api.calls.pop()
    assert pinned == {"settings": {}, "schedule": "serial", "row_blocks": 3, "col_blocks": 4}
    assert run_cli("plan", "mlr", "d.zarr").code == 0
    (_, first, one), (_, second, two), (_, _, default) = [call for call in api.calls if call[0] == "plan"]
    assert (first, second) == (("mlr", "<dataset d.zarr>"), ("mlr", None))
    assert default == {"settings": {}}, "as much as for a training"
    assert one == {"memory": 2**31, "settings": {}}
    assert two == {"memory": 2**31, "settings": {}, "spec": "clef", "workers": 40}


@pytest.mark.parametrize(("given", "epochs"), [([], {}), (["--epochs", "+3"], {"epochs": 3})])
def test_resume_finishes_or_adds(run_cli, api, given, epochs):
    assert run_cli("resume", "r.zarr", *given).code == 0
    assert api.options("resume") == {**MONITORS, **epochs}


@pytest.mark.parametrize(
    ("verb", "args", "there", "makes", "line"),
    [
        ("train", ["mlr", "d.zarr"], False, True, "interrupted; `oocml resume {}` finishes the run"),
        ("train", ["mlr", "d.zarr"], False, False, "interrupted before {} was made; nothing is left of it"),
        ("train", ["mlr", "d.zarr"], True, False, "interrupted before {} was replaced; it is as it was"),
        ("resume", [], True, False, "interrupted; `oocml resume {}` finishes the run"),
    ],
)
def test_ctrl_c_says_whether_a_run_is_left(run_cli, api, tmp_path, verb, args, there, makes, line):
    run = tmp_path / "run.zarr"
    if there:
        run.mkdir()

    def interrupt(*args, **options):
        if makes:
            run.mkdir()
        raise KeyboardInterrupt

    api.answers[verb] = interrupt
    left = run_cli(verb, *args, run)
    assert (left.code, left.out) == (1, "")
    assert left.err == f"error: {line.format(run)}\n"


def test_ctrl_c_says_where_the_run_is_that_was_to_be_replaced(run_cli, api, tmp_path):
    run, old = tmp_path / "run.zarr", tmp_path / "run.zarr.partial-old"

    def interrupt(*args, **options):
        run.rename(old)
        run.mkdir()
        raise KeyboardInterrupt

    run.mkdir()
    api.answers["train"] = interrupt
    kept = f"the run that it replaces is kept as {old} until it has an epoch"
    assert run_cli("train", "mlr", "d.zarr", run, "--overwrite").err == (
        f"error: interrupted; `oocml resume {run}` finishes the run; {kept}\n"
    )


@pytest.mark.parametrize(
    ("given", "at"), [([], {}), (["--at", "best"], {"at": "best"}), (["--at", "7"], {"at": 7})]
)
def test_evaluate_at_an_epoch(run_cli, api, given, at):
    api.answers["evaluate"] = {"accuracy": 0.75}
    assert run_cli("evaluate", "r.zarr", "d.zarr", *given, "--json").json == {"accuracy": 0.75}
    assert api.options("evaluate") == at


def test_predict_and_export(run_cli, api):
    assert run_cli("predict", "r.zarr", "d.zarr", "out.txt", "--top", "3").code == 0
    assert run_cli("export", "r.zarr", "w.npz", "--prune", "0.01", "--data", "t.zarr").code == 0
    assert api.options("predict") == {"top": 3}
    assert api.options("export") == {"prune": 0.01, "data": "<dataset t.zarr>"}


def test_ingest_takes_several_sources(run_cli, api):
    api.answers["ingest"] = {"kind": "dataset", "n_rows": 3}
    done = run_cli(
        "ingest", "libsvm", "a.svm", "b.svm.gz", "out.zarr", "--max-bad", "2", "--keep-order", "--json"
    )
    assert done.json == {"kind": "dataset", "n_rows": 3}
    ((_, args, options),) = [call for call in api.calls if call[0] == "ingest"]
    assert args == ("libsvm", ["a.svm", "b.svm.gz"], "out.zarr")
    assert callable(options.pop("progress"))
    assert options == {"max_bad": 2, "keep_order": True}


def test_formats_are_those_that_can_be_read():
    from oocml.cli.data import FORMATS
    from oocml.data.readers import READERS

    assert set(FORMATS) == set(READERS)


def test_specs_are_one_json_object_and_a_table(run_cli):
    listed = run_cli("specs", "--json").json["specs"]
    assert {"news20", "clef"} <= {spec["name"] for spec in listed}
    table = run_cli("specs").out.splitlines()
    assert len(table) == len(listed) + 1
    assert table[0].split()[:3] == ["name", "task", "rows"]


def test_info_of_nothing_of_a_folder_and_of_half_a_store(run_cli, api, tmp_path):
    missing = run_cli("info", tmp_path / "d.zarr")
    assert (missing.code, missing.err.count("\n")) == (InputError.exit_code, 1)
    (tmp_path / "d.zarr.partial").mkdir()
    half = run_cli("info", tmp_path / "d.zarr")
    assert half.code == InputError.exit_code
    assert "not whole" in half.err
    folder = run_cli("info", tmp_path)
    assert folder.code == InputError.exit_code


@pytest.mark.parametrize("words", ["train robirank d.zarr r.zarr", "resume r.zarr"])
def test_malloc_is_limited_before_anything_is_opened(run_cli, api, monkeypatch, words):
    """Later there are threads, and what malloc keeps for each of them stays."""
    calls_before: list[int] = []
    monkeypatch.setattr("oocml.cli.train.limit_malloc", lambda: calls_before.append(len(api.calls)))
    assert run_cli(*words.split()).code == 0
    assert calls_before == [0]
    assert api.calls
