"""The command's door, under a name that no project has: from here on `engine`, `tui` and `presets` are torch-tui's.

A person's modules of these names may come first in sys.path: by PYTHONPATH, by `python -m`, by what their code adds to
it. Their files still find their own (`engine.python_file`).
"""

from __future__ import annotations

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


def main() -> None:
    """Obey the command line."""
    from tui.main import main  # found by what stands above

    main()
