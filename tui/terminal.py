"""Keep the screen whole: what anything else writes to the terminal goes line by line to the log instead."""

from __future__ import annotations

import fcntl
import multiprocessing.resource_tracker
import os
import re
import selectors
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from textual.app import App
    from textual.message import Message

Result = TypeVar("Result")

IDLE_SECONDS = 0.5  # after this long without news, a line that has not ended is delivered as it is
LINE_BYTES = 4096  # what is longer is cut
JOIN_SECONDS = 5.0  # how long leaving may wait for `on_line` to take the last lines

_PIPE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16


def run_app(app: App[Result], on_line: Callable[[str], None]) -> Result | None:
    """Run `app` on the terminal and give every line that something else writes there to `on_line`; return its result.

    See `CapturedOutput` for what `on_line` may do. What Python prints inside the app arrives there too.
    """
    # Textual's stand-in for sys.stderr has the file number -1. The resource tracker passes that number on when it
    # starts, and so the first spawned or forked-from-server DataLoader worker inside a running app would die of
    # "bad value(s) in fds_to_keep". A tracker that is there already is used as it is.
    multiprocessing.resource_tracker.ensure_running()
    with CapturedOutput(on_line), redirect_stdout(sys.__stdout__), redirect_stderr(sys.__stderr__):
        # Before and after its screen Textual writes to sys.stdout and sys.stderr, a crash report for one: they are the
        # terminal here. While its screen is up it replaces both, and hands what is printed to `prints`.
        prints = _Prints()
        app.begin_capture_print(prints)
        return app.run()


class CapturedOutput:
    """While entered, what is written to file descriptors 1 and 2 goes to `on_line`: by C, threads, child processes.

    `sys.__stdout__` and `sys.__stderr__` are the terminal meanwhile: Textual asks the one for its size and paints on
    the other. A line is text without its end, escape codes and control characters; a progress bar that is redrawn with
    `\\r` is its last state; blank lines are left out.

    `on_line` is called on a thread of its own, one line at a time. It must return soon and must not wait for the thread
    of the screen (no `call_from_thread`): once the pipe is full, whoever writes waits. What it raises is dropped.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        _flush()  # what was written before belongs on the terminal
        with ExitStack() as undo:
            pipe = undo.enter_context(_reader(self._on_line))
            undo.enter_context(_replaced(1, "__stdout__", pipe))
            undo.enter_context(_replaced(2, "__stderr__", pipe))
            undo.callback(_flush)  # what was written inside belongs in the log
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()


class Lines:
    """Cuts a stream of bytes into the lines of text that a terminal would have shown in the end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` brings to their end."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = _last_state(rest)
        return _texts(whole)

    def flush(self) -> list[str]:
        """The line that has not ended, if there is one; it is then regarded as ended."""
        rest, self._rest = self._rest, b""
        return _texts([rest])

    def __bool__(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._rest)


class _Prints:
    """Receives what Python prints while Textual stands in for stdout and stderr, and sends it the way of all output."""

    def post_message(self, message: Message) -> bool:
        from textual.events import Print  # `import tui.terminal` loads no Textual

        if isinstance(message, Print):
            # Not through a file object: a forked worker inherits this one, and a buffer's lock might be held just then.
            os.write(2 if message.stderr else 1, message.text.encode(errors="replace"))
        return True

    async def _post_message(self, message: Message) -> bool:
        return self.post_message(message)


@contextmanager
def _reader(on_line: Callable[[str], None]) -> Iterator[int]:
    """The end of a pipe to write to, whose lines a thread gives to `on_line`; leaving waits for the last of them."""
    source, pipe = os.pipe()
    stop_source, stop = os.pipe()
    if sys.platform == "linux":
        # Room for a C function that writes much while it holds the GIL, for then the thread can't read.
        with suppress(OSError):  # a user may have only so many pages in pipes
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.set_blocking(source, False)
    thread = threading.Thread(
        target=_read_until_stopped, args=(source, stop_source, on_line), name="captured-output", daemon=True
    )
    thread.start()
    try:
        yield pipe
    finally:
        # The end of the file would not do as the signal: a child that lives on keeps the pipe open.
        os.write(stop, b".")
        os.close(stop)
        os.close(pipe)
        thread.join(JOIN_SECONDS)


def _read_until_stopped(source: int, stop: int, on_line: Callable[[str], None]) -> None:
    """The thread: it owns and closes `source` and `stop`, so nobody closes them while it is still reading."""
    lines = Lines()

    def deliver(texts: list[str]) -> None:
        for text in texts:
            # Nothing may end this thread, or writers would wait for ever; and it has nowhere to report to but itself.
            with suppress(BaseException):
                on_line(text)

    try:
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            selector.register(stop, selectors.EVENT_READ)
            while True:
                ready = [key.fd for key, _ in selector.select(IDLE_SECONDS if lines else None)]
                if stop in ready:
                    break
                deliver(lines.feed(_available(source)) if ready else lines.flush())
        # A pipe's worth and no more: a child that lives on could write as fast as this reads.
        for _ in range(_PIPE_BYTES // _CHUNK_BYTES):
            deliver(lines.feed(_available(source)))
        deliver(lines.flush())
    finally:
        os.close(source)
        os.close(stop)


def _available(source: int) -> bytes:
    """What can be read without waiting; may be nothing."""
    try:
        return os.read(source, _CHUNK_BYTES)
    except BlockingIOError:
        return b""


@contextmanager
def _replaced(descriptor: int, name: str, pipe: int) -> Iterator[None]:
    """`pipe` in the place of `descriptor`, and the stream `sys.<name>` on a duplicate of what was there."""
    stream = getattr(sys, name)
    kept = os.dup(descriptor)
    terminal = open(kept, "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False)  # noqa: SIM115
    try:
        setattr(sys, name, terminal)
        os.dup2(pipe, descriptor)
        yield
    finally:
        setattr(sys, name, stream)
        os.dup2(kept, descriptor)
        with suppress(OSError):  # the terminal may be gone: the connection was lost
            terminal.close()
        os.close(kept)


def _flush() -> None:
    """Send on what Python and C have buffered for stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # gone, closed, or None
            stream.flush()
    import ctypes  # only here, and 3 ms

    ctypes.CDLL(None).fflush(None)


_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # control sequences: colours, moves of the cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\)"  # strings: titles, links
    r"|\x1b[ -/]*[0-~]"  # the short ones
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def _texts(lines: list[bytes]) -> list[str]:
    """Each line as plain text, without those that show nothing."""
    texts = (_text(line) for line in lines)
    return [text for text in texts if text]


def _text(line: bytes) -> str:
    shown = _last_state(line).rstrip(b"\r")
    text = shown[:LINE_BYTES].decode("utf-8", errors="replace") + ("…" if len(shown) > LINE_BYTES else "")
    return _CONTROL.sub("", _ESCAPE.sub("", text)).rstrip()


def _last_state(line: bytes) -> bytes:
    """What follows the last `\\r` that something follows, one byte over the limit at most, and a `\\r` at the end."""
    body = line.rstrip(b"\r")
    return body[body.rfind(b"\r") + 1 :][: LINE_BYTES + 1] + line[len(body) :][:1]
