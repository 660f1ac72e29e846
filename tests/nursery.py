"""Processes for tests to kill: forks of one that has loaded torch, so that none of them takes seconds to begin."""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import psutil

from engine.start import importing, load_the_rest

_PR_SET_CHILD_SUBREAPER = 36
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
    """Starts processes that call `function(*arguments)` of a test's module, or `torch-tui`. To be used in a `with`."""

    def __enter__(self) -> Nursery:
        self._outputs = tempfile.TemporaryDirectory()
        self._started = 0
        self._server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(_TESTS.parent), *sys.path))},
        )  # fmt: skip
        theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._server.close()
        self._process.wait()
        self._outputs.cleanup()

    def start(self, module: str, function: str, *arguments: str | Path) -> Child:
        """A process that has begun."""
        self._started += 1
        output = Path(self._outputs.name) / str(self._started)
        output.touch()
        return Child(self._ask([module, function, list(map(str, arguments)), str(output)]), output)

    def command(
        self, arguments: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[int], tty: bool
    ) -> int:
        """`torch-tui ARGUMENTS` in a session of its own, a child of this process; its id.

        `streams` become its stdin, stdout and stderr; with `tty`, the first one becomes the session's terminal.
        """
        # Whoever is orphaned now is ours: so it is to be waited for, and its exit status known, as any child's is.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            pid = self._ask([list(arguments), folder, dict(environment), tty], streams)
            wait_until(lambda: psutil.Process(pid).ppid() == os.getpid())
        finally:
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)
        return pid

    def _ask(self, order: object, handles: Sequence[int] = ()) -> int:
        socket.send_fds(self._server, [json.dumps(order).encode()], handles)
        return int(self._server.recv(32))


def call(nursery: Nursery, module: str, function: str, *arguments: str | Path, seconds: float = 60) -> str:
    """What a process has printed that has run to its end."""
    return nursery.start(module, function, *arguments).wait(seconds)


def _serve(orders: socket.socket) -> Callable[[], object]:
    """Fork for each order; what the process that this has become then is to do."""
    with importing():  # a run's search for garbage passes over torch, and memory stays shared with the children
        importlib.import_module("small_runs")  # and with it torch and the engine
        load_the_rest()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are buried at once: a zombie would still be there
    while True:
        text, handles, _, _ = socket.recv_fds(orders, 1 << 17, 3)
        if not text:
            return partial(os._exit, 0)
        order = json.loads(text)
        pid = os.fork()
        if pid == 0 and handles and os.fork():
            os._exit(0)  # makes an orphan of the other
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            if not handles:
                os._exit(_live(*order))
            orders.send(str(os.getpid()).encode())
            orders.close()
            return partial(_command, *order, handles)
        if handles:
            for handle in handles:
                os.close(handle)
        else:
            orders.send(str(pid).encode())


def _command(
    arguments: Sequence[str], folder: str, environment: Mapping[str, str], tty: bool, handles: Sequence[int]
) -> None:
    for stream, (handle, name) in enumerate(zip(handles, ("stdin", "stdout", "stderr"), strict=True)):
        os.dup2(handle, stream)
        os.close(handle)
        # Whether it can seek is found out as it is opened.
        opened = open(stream, "w" if stream else "r", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)
    if tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["torch-tui", *arguments]
    importlib.import_module("torch_tui").main()


def _live(module: str, function: str, arguments: list[str], output: str) -> int:
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
    # A command ends as it does anywhere: by the interpreter's own end, which this is the last line before.
    _serve(socket.socket(fileno=int(sys.argv[1])))()
