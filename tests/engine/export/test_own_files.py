"""An exported file runs a person's own file as torch-tui does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.export.taken.plain import imported, own_file


def test_an_own_file_imports_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lies_beside_it.py").write_text("WIDTH = 7\n", encoding="utf-8")
    net = tmp_path / "net.py"
    net.write_text("from lies_beside_it import WIDTH\n\ndef make():\n    return WIDTH\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert imported(str(net), "make")() == 7
    assert own_file(str(net)) is own_file(str(net))
