"""A real terminal: a process on a pty, its screen kept by pyte, its keys pressed one by one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import pexpect
import pyte
from forked import COMMAND, ForkedOnTerminal
from nursery import Nursery


class Terminal:
    """A `torch-tui` in a terminal of its own: the installed one, or with a nursery one that has torch already."""

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        columns: int = 120,
        rows: int = 40,
        environment: Mapping[str, str] | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        # pytest-xdist and CI set LINES and COLUMNS, which Textual prefers to the real size.
        inherited = {key: value for key, value in os.environ.items() if key not in ("LINES", "COLUMNS", "NO_COLOR")}
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        how = {
            "cwd": str(folder),
            "env": {**inherited, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})},
            "dimensions": (rows, columns),
            "timeout": 5,
        }
        if nursery is None:
            self.process = pexpect.spawn(str(COMMAND), list(arguments), **how)
        else:
            self.process = ForkedOnTerminal(nursery, *arguments, **how)

    @property
    def lines(self) -> list[str]:
        """The screen, line by line."""
        return list(self._screen.display)

    @property
    def page(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def press(self, keys: str) -> None:
        """Type."""
        self.process.send(keys)

    def until(self, reached: Callable[[str], object], what: str, seconds: float = 60) -> None:
        """Read until the page satisfies `reached`; fails with the page when it does not in time."""
        end = time.monotonic() + seconds
        while not reached(self.page):
            assert time.monotonic() < end, f"{what} did not happen:\n{self.page}"
            self.read(0.05)

    def shows(self, text: str, seconds: float = 60) -> None:
        """Wait for a text."""
        self.until(lambda page: text in page, f"'{text}'", seconds)

    def read(self, seconds: float) -> None:
        """Take in what the process writes."""
        try:
            self._stream.feed(self.process.read_nonblocking(1 << 16, timeout=seconds))
        except (pexpect.TIMEOUT, pexpect.EOF):
            return

    def end(self, seconds: float = 20) -> int:
        """Wait for the process to leave by itself; its exit status."""
        end = time.monotonic() + seconds
        while self.process.isalive():
            assert time.monotonic() < end, f"it does not end:\n{self.page}"
            self.read(0.05)
        self.read(0.2)
        self.process.close()
        return int(self.process.exitstatus if self.process.exitstatus is not None else -self.process.signalstatus)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.close(force=True)
