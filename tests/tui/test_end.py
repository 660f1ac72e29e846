"""The process ends at once, after all that others want to be called at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = """
import atexit, threading, time
class Kept:
    def __del__(self): print("taken down", flush=True)
kept = Kept()
atexit.register(print, "called at the end")
threading.Thread(target=lambda: (time.sleep(0.3), print("a thread has ended"))).start()
"""


def test_what_was_registered_before_is_called_and_modules_are_not_taken_down(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    said = {}
    for code in ("import torch_tui; torch_tui.main()", "pass"):
        done = subprocess.run(
            [sys.executable, "-c", code, "--version"], env=environment, capture_output=True, text=True, check=True
        )
        said[code] = done.stdout.splitlines()[-3:]
    ended, plain = said.values()
    assert ended[-2:] == ["a thread has ended", "called at the end"]
    assert plain == ["a thread has ended", "called at the end", "taken down"], "as Python does by itself"
