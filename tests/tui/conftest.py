from __future__ import annotations

import sys
from pathlib import Path

import pytest
from said import Run, Said

from tui import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`torch-tui …` in an empty folder and in this process, which has loaded torch once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCH_TUI_RUNS", raising=False)
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path / "data"))

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["torch-tui", *arguments])
        with pytest.raises(SystemExit) as left:
            main.main()
        code = left.value.code
        return Said(code if isinstance(code, int) else 0, *capfd.readouterr())

    return run
