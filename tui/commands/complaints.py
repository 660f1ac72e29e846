"""How a command says that something is wrong: one line on stderr. A traceback goes to a file instead."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path


def complain(problem: object) -> None:
    """One line on stderr."""
    words = " ".join(str(problem).split())
    # What a person's code says may hold escape sequences, which are not the terminal's to obey.
    print("error:", "".join(character if character.isprintable() else "?" for character in words), file=sys.stderr)


def complain_of_fault(error: BaseException) -> None:
    """One line about a fault in torch-tui itself, whose traceback is written down for a bug report."""
    said = str(error).rstrip(".") or "without a word"
    complain(f"{type(error).__name__}: {said}. This is a fault in torch-tui; {_write_crash_log(error)}.")


def _write_crash_log(error: BaseException) -> str:
    import tempfile  # only here

    import platformdirs

    text = "".join(traceback.format_exception(error))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (platformdirs.user_state_path("torch-tui"), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            continue
        return f"its traceback is in {folder / name}"
    return "its traceback could not be written anywhere"
