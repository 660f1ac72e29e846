"""The command's door, under a name that no project has: from here on `engine`, `tui` and `presets` are torch-tui's.

A person's modules of these names may come first in sys.path: by PYTHONPATH, by `python -m`, by what their code adds to
it. Their files still find their own (`engine.python_file`).
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_HOME = str(Path(__file__).parents[1])


class _Ours:
    """Finds torch-tui's packages where this one lies; knows nothing of any other."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """As importlib asks for it."""
        return PathFinder.find_spec(name, [_HOME]) if name in ("engine", "tui", "presets") else None


# On import, as data workers import this as well, and call nothing.
sys.meta_path.insert(0, _Ours())


def _theirs() -> bool:
    """Whether a person's own modules were loaded."""
    project = sys.modules.get("engine.python_file.project")
    return project is not None and any(name.startswith(project.PREFIX) for name in sys.modules)


def main() -> None:
    """Obey the command line. To be called as the last thing a process does."""
    from tui.main import main  # found by what stands above

    try:
        main()
        return
    except SystemExit as left:
        if not isinstance(left.code, int | None):
            raise
        status = left.code or 0
    if not _theirs():
        _end(status)
    sys.exit(status)


def _end(status: int) -> None:
    """End the process as Python does, but without taking down its modules: 1.2 s of the processor once torch is loaded.

    A person's own modules are left to Python: it writes what lies in the buffers of files that they have open.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does before it calls others
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError, KeyboardInterrupt):  # a full disk, a closed stream: Python knows what to say
        return
    os._exit(status)
