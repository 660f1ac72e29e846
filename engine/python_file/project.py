"""A folder of a person's Python: its modules find one another first, and nobody else finds them.

They lie in sys.modules inside a private package (`_torch_tui_…`), so that a project's `engine.py` is not ours, two
projects may have files of one name, and sys.path stays as it is. A finder alone would not do: `import engine` is
answered from sys.modules before any finder is asked. So each module of a project has `__builtins__` of its own, whose
`__import__` looks in the project first, as the folder of a script comes first when Python runs it.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch

PREFIX = "_torch_tui_"
_OURS = ("engine", "tui", "presets")


class Project:
    """The modules of one folder as they were when they were first imported, below the package `name`.

    `sources` are the files that were run, by path, and what stood in them; `shipped` are those that another process
    ran, which are run here too, whatever stands in the files by now.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.sources: dict[str, bytes] = {}
        self.shipped: Mapping[str, bytes] = {}
        self.files: dict[str, str] = {}
        """Modules whose names don't lead to their files: `net.v2.py`, or `net.py` beside a package `net`."""
        self.builtins = {**vars(builtins), "__import__": self._import}
        self._theirs: dict[str, bool] = {}
        self._importlib = _Importlib(self)

    def begin(self) -> None:
        """Make the modules importable under their private names."""
        package = ModuleType(self.name, f"The project in {self.folder}.")
        package.__path__ = [str(self.folder)]
        package.__spec__ = ModuleSpec(self.name, None, is_package=True)
        sys.modules[self.name] = package
        _projects[self.name] = self
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)

    def end(self) -> None:
        """Let go of the modules. What was made from them lives on, as long as it imports nothing more."""
        _projects.pop(self.name, None)
        for name in [name for name in sys.modules if name == self.name or name.startswith(f"{self.name}.")]:
            del sys.modules[name]

    def load(self, path: Path) -> ModuleType:
        """The module of a file in the folder. Raises whatever the file raises."""
        importlib.invalidate_caches()  # files may have come since
        self._theirs.clear()
        return importlib.import_module(self._module_name(path))

    def changed(self) -> list[Path]:
        """The files that are not what was run."""
        return [Path(file) for file, source in self.sources.items() if _read(file) != source]

    def find(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """The spec of a module, by its private name, in the folders `path`."""
        file = self.files.get(name)
        spec = importlib.util.spec_from_file_location(name, file) if file else PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(self, name, spec.loader.path)
        return spec

    def has(self, top: str) -> bool:
        """Whether `import top` means a module of the project."""
        known = self._theirs.get(top)
        if known is None:
            known = self._theirs[top] = self._finds(top)
        return known

    def _finds(self, top: str) -> bool:
        if top == "__main__" or BuiltinImporter.find_spec(top) or FrozenImporter.find_spec(top):
            return False  # Python looks there before it looks into the folder of a script
        spec = self.find(f"{self.name}.{top}", [str(self.folder)])
        if spec is None or spec.origin is not None:
            return spec is not None
        # A folder without __init__.py comes after a package of that name, wherever that lies; ours is none to them.
        return top in _OURS or not _is_elsewhere(top)

    def _module_name(self, path: Path) -> str:
        name = f"{self.name}.{path.stem}"
        if "." not in path.stem:
            spec = PathFinder.find_spec(name, [str(self.folder)])
            if spec is not None and spec.origin == str(path):
                return name
        name = f"{self.name}.{path.name.replace('.', '-')}"
        self.files[name] = str(path)
        return name

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """`__import__` of the project's modules."""
        top = name.partition(".")[0]
        if level or not self.has(top):
            module = builtins.__import__(name, globals, locals, fromlist or (), level)
            return self._importlib if module is importlib else module
        try:
            module = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist or (), 0)
        except ModuleNotFoundError as error:
            if error.name is None or not error.name.startswith(f"{self.name}."):
                raise
            missing = error.name.removeprefix(f"{self.name}.")
            raise ModuleNotFoundError(f"No module named '{missing}'", name=missing) from None
        return module if fromlist else sys.modules[f"{self.name}.{top}"]


class _Importlib(ModuleType):
    """importlib as a project sees it: `import_module` looks in the project first."""

    def __init__(self, project: Project) -> None:
        super().__init__("importlib")
        self._project = project

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib, name)

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """As importlib's."""
        theirs = not name.startswith(".") and self._project.has(name.partition(".")[0])
        return importlib.import_module(f"{self._project.name}.{name}" if theirs else name, package)


class _Loader(SourceFileLoader):
    """Runs a file of a project as it is now; bytecode that an edit within the same second outdated is not looked at."""

    def __init__(self, project: Project, name: str, path: str) -> None:
        super().__init__(name, path)
        self._project = project

    def get_code(self, fullname: str) -> CodeType:
        source = self._project.shipped.get(self.path)
        source = self.get_data(self.path) if source is None else source
        self._project.sources[self.path] = source
        return self.source_to_code(source, self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._project.builtins
        # What a module makes when it is first imported is used ever after, and must be real.
        real = torch.device("cpu") if torch.get_default_device().type == "meta" else contextlib.nullcontext()
        with real:
            super().exec_module(module)


class _Finder:
    """Finds the modules of projects, by their private names; knows nothing of any other."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """As importlib asks for it."""
        project = _projects.get(name.partition(".")[0])
        return project.find(name, path) if project else None


_finder = _Finder()
_projects: dict[str, Project] = {}


def projects() -> list[Project]:
    """Those whose modules can be imported."""
    return list(_projects.values())


def _read(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except OSError:
        return None


def _is_elsewhere(top: str) -> bool:
    """Whether there is a module or package `top` outside of the project."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module that was put there by hand has no spec
        return top in sys.modules
    return spec is not None and spec.origin is not None
