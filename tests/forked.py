"""`torch-tui` in processes that need not import torch: forks of the nursery's, in all else as if they were executed.

They have pipes or a terminal, a session, signals, an exit status and an interpreter's end of their own. What a process
does before it has torch, and how it is found and begins, is for those to test that execute the command.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import ptyprocess  # type: ignore[import-untyped]
from nursery import Nursery

COMMAND = Path(sys.executable).with_name("torch-tui")


class Forked(subprocess.Popen[str]):
    """`Popen([COMMAND, *arguments], …)`, but forked."""

    def __init__(self, nursery: Nursery, *arguments: str, **how: Any) -> None:
        self._nursery = nursery
        super().__init__([str(COMMAND), *arguments], text=True, **how)

    def _execute_child(self, *given: Any) -> None:
        """Popen's own step between making the pipes and reading from them."""
        names = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]  # type: ignore[attr-defined]
        what = dict(zip(names, given, strict=True))
        ends = [what["p2cread"], what["c2pwrite"], what["errwrite"]]
        streams = [own if end == -1 else end for own, end in enumerate(ends)]
        self.pid = self._nursery.command(what["args"][1:], what["cwd"], what["env"], streams, tty=False)
        self._child_created = True
        for end in {*ends, getattr(self, "_devnull", -1)} - {-1}:
            os.close(end)


def run(
    nursery: Nursery, *arguments: str, folder: Path, environment: Mapping[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` does without a terminal, but forked."""
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Forked(nursery, *arguments, cwd=str(folder), env=environment, **how) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class ForkedOnTerminal(pexpect.spawn):  # type: ignore[misc]
    """`pexpect.spawn(COMMAND, arguments, …)`, but forked."""

    def __init__(self, nursery: Nursery, *arguments: str, **how: Any) -> None:
        self._nursery = nursery
        super().__init__(str(COMMAND), list(arguments), **how)

    def _spawnpty(
        self, args: Sequence[str | bytes], *, env: Mapping[str, str], cwd: str, dimensions: tuple[int, int], **_: object
    ) -> ptyprocess.PtyProcess:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *dimensions, 0, 0))
        pid = self._nursery.command([os.fsdecode(each) for each in args[1:]], cwd, env, [theirs] * 3, tty=True)
        os.close(theirs)
        return ptyprocess.PtyProcess(pid, ours)
