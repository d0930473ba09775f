"""Finding a model by name, or in a user's own file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType

from oocml.errors import InputError, OocmlError, UsageError
from oocml.models.protocol import Model

BUILTIN = {
    "mlr": "oocml.models.mlr:MLR",
    "mf": "oocml.models.mf:MF",
    "fm": "oocml.models.fm:FM",
    "poly": "oocml.models.poly:Poly",
    "gmm": "oocml.models.gmm:GMM",
    "lda": "oocml.models.lda:LDA",
    "robirank-implicit": "oocml.models.robirank_implicit:RobirankImplicit",
    "robirank-explicit": "oocml.models.robirank_explicit:RobirankExplicit",
}
BY_DATA = {"robirank": ("robirank-explicit", "robirank-implicit")}
"""Names that stand for two models: the first for data whose rows belong to queries, the second for other data."""
_loading = threading.RLock()
"""Held while a file is loaded: no thread sees half of a module."""


def of_data(reference: str, *, queries: bool) -> str:
    """The model that a name stands for where rows belong to queries, or don't."""
    with_queries, without = BY_DATA.get(reference, (reference, reference))
    return with_queries if queries else without


def load_model(reference: str) -> Model:
    """The model that ``reference`` names: a built-in name, or ``path/to/file.py:Class``."""
    target = BUILTIN.get(reference, reference)
    module_name, _, attribute = target.rpartition(":")
    if reference in BY_DATA:
        one, other = BY_DATA[reference]
        raise UsageError(f"{reference} is {one} for data with queries and {other} for other data; name one")
    if not module_name:
        known = ", ".join((*BUILTIN, *BY_DATA))
        raise UsageError(f"no model {reference!r}; there are {known}, or give path/to/file.py:Model")
    module = _module_from_file(Path(module_name)) if module_name.endswith(".py") else _module(module_name)
    model = getattr(module, attribute, None)
    if model is None:
        raise UsageError(f"{module_name} has no {attribute!r}; name the model's class after the colon")
    try:
        made: Model = model()
    except OocmlError:
        raise
    except Exception as error:
        raise InputError(f"the model {reference} cannot be made: {type(error).__name__}: {error}") from error
    for name in (*Model.__annotations__, "kernels", "program"):
        if not hasattr(made, name):
            raise InputError(
                f"the model {reference} has no {name!r}; docs/own-model.md says what it must declare"
            )
    return made


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"there is no module {name!r}; give module:Model or path/to/file.py:Model"
            ) from None
        raise InputError(f"the module {name} does not load: {type(error).__name__}: {error}") from error


def _module_from_file(path: Path) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the model file {path}: {error.strerror}") from None
    # the hash in the name lets two versions of one file live in one process
    name = f"oocml_model_{hashlib.sha256(source).hexdigest()[:16]}"
    with _loading:
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
            raise InputError(
                f"the model file {path} does not load: {type(error).__name__}: {error}"
            ) from error
    return module
