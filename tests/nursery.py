"""Processes for tests to kill: forks of one that has loaded torch, so that none of them takes seconds to begin."""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Child:
    """A process in a session of its own; what it prints is in a file that outlives it."""

    pid: int
    output: Path

    def kill(self) -> None:
        """End it at once, and not what it has started."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 60) -> str:
        """Wait for its end; what it has printed."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return self.output.read_text()
        try:
            if not select.select([handle], [], [], seconds)[0]:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"the process does not end; it said:\n{self.output.read_text()}")
        finally:
            os.close(handle)
        return self.output.read_text()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return Path(f"/proc/{self.pid}").exists()


class Nursery:
    """Starts processes that call `function(*arguments)` of a test's module. To be used in a `with`."""

    def __enter__(self) -> Nursery:
        self._outputs = tempfile.TemporaryDirectory()
        self._started = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(_TESTS.parent), *sys.path))},
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._outputs.cleanup()

    def start(self, module: str, function: str, *arguments: str | Path) -> Child:
        """A process that has begun."""
        self._started += 1
        output = Path(self._outputs.name) / str(self._started)
        output.touch()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = [module, function, list(map(str, arguments)), str(output)]
        self._process.stdin.write(json.dumps(order) + "\n")
        return Child(int(self._process.stdout.readline()), output)


def call(nursery: Nursery, module: str, function: str, *arguments: str | Path, seconds: float = 60) -> str:
    """What a process has printed that has run to its end."""
    return nursery.start(module, function, *arguments).wait(seconds)


def _serve() -> None:
    importlib.import_module("small_runs")  # and with it torch and the engine
    gc.freeze()  # a run's search for garbage passes over torch, and memory stays shared with the children
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are buried at once: a zombie would still be there
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_live(*order))
        print(pid, flush=True)


def _live(module: str, function: str, arguments: list[str], output: str) -> int:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream, path, mode in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY), (2, output, os.O_WRONLY)):
        handle = os.open(path, mode | (os.O_APPEND if stream else 0))
        os.dup2(handle, stream)
        os.close(handle)
    try:
        getattr(importlib.import_module(module), function)(*arguments)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


def wait_until(condition: object, seconds: float = 30) -> None:
    """Spin, without sleeping, until `condition()`: to kill a process in the very moment."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"


if __name__ == "__main__":
    _serve()
