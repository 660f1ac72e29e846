"""The command's door, under a name that no project has: from here on `engine`, `tui` and `presets` are torch-tui's.

A person's modules of these names may come first in sys.path: by PYTHONPATH, by `python -m`, by what their code adds to
it. Their files still find their own (`engine.python_file`).
"""

from __future__ import annotations

import atexit
import os
import sys
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


class _End:
    """Ends the process where only its modules are left to take down: 1.2 s of the processor once torch is loaded.

    A person's own modules are left to Python: it writes what lies in the buffers of files that they have open.
    """

    status: int | None = None

    def __call__(self) -> None:
        if self.status is None or _theirs():
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):  # a full disk, a closed stream: Python knows what to say, and has a status
            return
        os._exit(self.status)


def _theirs() -> bool:
    """Whether a person's own modules were loaded."""
    project = sys.modules.get("engine.python_file.project")
    return project is not None and any(name.startswith(project.PREFIX) for name in sys.modules)


def main() -> None:
    """Obey the command line. To be called as the last thing a process does."""
    from tui.main import main  # found by what stands above

    end = _End()
    atexit.register(end)  # before all others: it is called when threads have ended and all others have been called
    try:
        main()
    except SystemExit as left:
        if isinstance(left.code, int | None):
            end.status = left.code or 0
        raise
