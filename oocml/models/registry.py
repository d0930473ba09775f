"""Finding a model by name, or in a user's own file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path

from oocml.errors import InputError, UsageError
from oocml.models.protocol import Model

BUILTIN = {"mlr": "oocml.models.mlr:MLR"}


def load_model(reference: str) -> Model:
    """The model that ``reference`` names: a built-in name, or ``path/to/file.py:Class``."""
    target = BUILTIN.get(reference, reference)
    module_name, _, attribute = target.rpartition(":")
    if not module_name:
        raise UsageError(
            f"no model {reference!r}; there are {', '.join(BUILTIN)}, or give path/to/file.py:Model"
        )
    if module_name.endswith(".py"):
        module = _module_from_file(Path(module_name))
    else:
        module = importlib.import_module(module_name)
    try:
        return getattr(module, attribute)()  # type: ignore[no-any-return]
    except AttributeError:
        raise UsageError(
            f"{module_name} has no {attribute!r}; name the model's class after the colon"
        ) from None


def _module_from_file(path: Path):  # type: ignore[no-untyped-def]
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the model file {path}: {error.strerror}") from None
    # the hash in the name lets two versions of one file live in one process
    name = f"oocml_model_{hashlib.sha256(source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"the model file {path} does not load: {type(error).__name__}: {error}") from error
    return module
