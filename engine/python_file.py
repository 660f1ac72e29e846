"""A person's own Python: `path/to/file.py:function`, loaded under a private module name."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.errors import RecipeError

_PREFIX = "_torch_tui_"


def load_function(reference: str, where: str) -> Callable[..., Any]:
    """The function (or class) that `file.py:name` refers to; the file is run anew each time.

    The module's name is private (`_torch_tui_…`), so a file called `engine.py` shadows nothing of ours. Raises
    RecipeError with file and line when the file is missing, fails to run or lacks the name.
    """
    file, colon, name = reference.rpartition(":")
    path = Path(file)
    if not colon or not name.isidentifier():
        raise RecipeError(where, f"'{reference}' does not name a function", 'Write "path/to/file.py:function".')
    if not path.is_file():
        raise RecipeError(where, f"there is no file {path}", "Check the path; it is taken from the recipe's folder.")
    function = getattr(_load(path, where), name, None)
    if not callable(function):
        raise RecipeError(where, f"{path} has no function '{name}'", "Check the name after the colon.")
    return function  # type: ignore[no-any-return]


class Packed:
    """A value on its way to another process, with the person's files that must be loaded there before it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        loaded = {name: module.__file__ for name, module in list(sys.modules.items()) if name.startswith(_PREFIX)}
        # Not pickle.dumps, so that tensors go through shared memory.
        return _unpack, (loaded, bytes(ForkingPickler.dumps(self.value)))


def _unpack(files: Mapping[str, str], value: bytes) -> Packed:
    for name, file in files.items():
        if name not in sys.modules:
            with contextlib.suppress(RecipeError):  # a file changed since; the value may not need it
                _load(Path(file), file)
    return Packed(pickle.loads(value))


def _load(path: Path, where: str) -> ModuleType:
    module_name = f"{_PREFIX}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(where, f"{path} is not a Python file", "Name a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    # pickle looks classes up by their module's name.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a module may raise anything, SystemExit included
        sys.modules.pop(module_name, None)
        raise RecipeError(
            where, f"{_line_of(error, path)}: {type(error).__name__}: {error}", "Mend the file."
        ) from error
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """`file:line` of the deepest frame of the person's file."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)
