"""Nothing but Textual reaches the terminal while a screen is up, and what is written elsewhere arrives as lines."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pyte
import pytest

from tui.terminal import CapturedOutput, Lines

ROWS, COLUMNS = 30, 100


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


# What arrives


def test_lines_arrive_from_descriptors_c_children_and_threads() -> None:
    lines: list[str] = []
    libc = ctypes.CDLL(None)
    with CapturedOutput(lines.append):
        os.write(1, b"to one\n")
        os.write(2, b"to two\n")
        libc.puts(b"from puts")
        libc.fflush(None)
        libc.write(2, b"from C's write\n", 15)
        subprocess.run(["sh", "-c", "echo from a child; echo its complaint >&2"], check=True)
        threads = [threading.Thread(target=os.write, args=(1, b"from thread %d\n" % n)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert lines[:6] == ["to one", "to two", "from puts", "from C's write", "from a child", "its complaint"]
    assert sorted(lines[6:]) == sorted(f"from thread {n}" for n in range(20))


def test_what_c_had_buffered_before_and_inside_goes_where_it_was_written(tmp_path: Path) -> None:
    # In a process of its own: its C stdout is a file, so C buffers all of it.
    log = tmp_path / "log"
    script = (
        "import ctypes, sys; from pathlib import Path; from tui.terminal import CapturedOutput\n"
        "puts = ctypes.CDLL(None).puts; lines = []\n"
        "puts(b'before'); sys.stdout.write('before in Python\\n')\n"
        "with CapturedOutput(lines.append): puts(b'inside'); sys.stdout.write('inside in Python\\n')\n"
        f"puts(b'after'); Path({str(log)!r}).write_text('\\n'.join(lines))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == ["after", "before", "before in Python"]
    assert sorted(log.read_text().splitlines()) == ["inside", "inside in Python"]


def test_more_than_a_pipe_holds_arrives_whole() -> None:
    count = 200_000  # 1.3 MB
    seen: list[str] = []
    with CapturedOutput(seen.append):
        subprocess.run(["seq", str(count)], check=True)
    assert len(seen) == count
    assert seen[-1] == str(count)


def test_a_line_that_has_not_ended_arrives_when_nothing_follows() -> None:
    lines: list[str] = []
    with CapturedOutput(lines.append):
        written = time.monotonic()
        os.write(1, b"Downloading...")
        wait_until(lambda: lines)
        assert time.monotonic() - written > 0.45
        assert lines == ["Downloading..."]
        os.write(1, b" done")
    assert lines == ["Downloading...", " done"]


# Lines


def test_a_progress_bar_is_one_line_with_its_last_state() -> None:
    lines = Lines()
    for percent in range(101):
        assert lines.feed(f"\r{percent:3d}%|{'#' * (percent // 10):10s}|".encode()) == []
    assert lines.feed(b"\n") == ["100%|##########|"]
    assert not lines


def test_a_wiped_progress_bar_leaves_nothing() -> None:
    assert Lines().feed(b"\r 50%|##  |\r            \rEpoch 1 is over\r\n\r 10%\r     \r\n") == ["Epoch 1 is over"]


def test_line_ends_of_windows_are_no_progress_bars() -> None:
    lines = Lines()
    assert lines.feed(b"one\r\ntwo\r") == ["one"]
    assert lines.feed(b"\nthree\r\n") == ["two", "three"]


def test_escape_codes_and_control_characters_are_gone() -> None:
    written = (
        b"\x1b[2J\x1b[31;1mred\x1b[0m \x1b]0;a title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ "
        b"\x1b(B\x1b7\a\x08\x00tab\there\xc2\x9b\n"
    )
    assert Lines().feed(written) == ["red link tab\there"]


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert Lines().feed(b"caf\xc3\xa9 \xff\n") == ["café \ufffd"]


def test_a_character_in_two_pieces_is_one_character() -> None:
    lines = Lines()
    assert lines.feed(b"caf\xc3") == []
    assert lines.feed(b"\xa9\n") == ["café"]


@pytest.mark.parametrize("piece", [1, 1000, 1_000_000])
def test_an_overlong_line_is_cut_and_says_so(piece: int) -> None:
    lines = Lines()
    texts = [text for start in range(0, 10_000, piece) for text in lines.feed(b"x" * min(piece, 10_000 - start))]
    assert texts == []
    assert lines.feed(b"\nnext\n") == ["x" * 4096 + "…", "next"]


def test_a_line_of_just_the_limit_is_whole() -> None:
    assert Lines().feed(b"x" * 4096 + b"\n") == ["x" * 4096]


def test_an_overlong_progress_bar_is_still_redrawn() -> None:
    lines = Lines()
    lines.feed(b"x" * 5000 + b"\r")
    assert lines.feed(b"short\n") == ["short"]


def test_a_stream_without_line_ends_does_not_grow() -> None:
    lines = Lines()
    for _ in range(100):
        lines.feed(b"x" * 10_000)
    assert lines.flush() == ["x" * 4096 + "…"]
    assert lines.flush() == []


# Leaving


def test_afterwards_everything_is_as_it_was() -> None:
    before = identity(1), identity(2), sys.__stdout__, sys.__stderr__, open_descriptors(), threading.active_count()
    for _ in range(5):
        with CapturedOutput(lambda line: None):
            assert identity(1) == identity(2) != before[0]
            os.write(1, b"x\n")
    assert before == (
        identity(1), identity(2), sys.__stdout__, sys.__stderr__, open_descriptors(), threading.active_count()
    )  # fmt: skip


def test_inside_the_streams_of_python_are_the_terminal() -> None:
    out, err = identity(1), identity(2)
    with CapturedOutput(lambda line: None):
        assert sys.__stdout__ is not None
        assert sys.__stderr__ is not None
        assert (identity(sys.__stdout__.fileno()), identity(sys.__stderr__.fileno())) == (out, err)
        assert not os.get_inheritable(sys.__stderr__.fileno())


def test_an_exception_inside_passes_and_leaves_everything_as_it_was() -> None:
    before = identity(1), identity(2), sys.__stderr__, open_descriptors()
    lines: list[str] = []

    def fail() -> None:
        with CapturedOutput(lines.append):
            os.write(2, b"last words")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert lines == ["last words"]
    assert before == (identity(1), identity(2), sys.__stderr__, open_descriptors())


def test_a_child_that_lives_on_does_not_keep_us() -> None:
    before = open_descriptors()
    lines: list[str] = []
    started = time.monotonic()
    with CapturedOutput(lines.append):
        silent = subprocess.Popen(["sh", "-c", "echo started; exec sleep 60"])
        wait_until(lambda: lines == ["started"])
    assert time.monotonic() - started < 30
    assert silent.poll() is None
    assert open_descriptors() == before
    silent.kill()
    silent.wait()


def test_a_child_that_never_stops_writing_does_not_keep_us() -> None:
    lines: list[str] = []
    started = time.monotonic()
    with CapturedOutput(lines.append):
        busy = subprocess.Popen(["yes", "y" * 200])
        wait_until(lambda: lines)
    assert time.monotonic() - started < 30
    assert busy.wait(timeout=30) != 0  # nobody reads its pipe now: it is told so, and doesn't wait for ever


def test_a_callback_that_fails_stops_neither_the_writer_nor_the_next_line() -> None:
    seen: list[str] = []

    def fail_on_the_first(line: str) -> None:
        seen.append(line)
        if len(seen) == 1:
            raise SystemExit("the log is gone")

    with CapturedOutput(fail_on_the_first):
        os.write(1, b"first\n")
        wait_until(lambda: seen)
        subprocess.run(["seq", "200000"], check=True, timeout=60)  # 1.3 MB: more than the pipe holds
    assert seen[0] == "first"
    assert len(seen) == 200_001


def test_a_callback_that_hangs_keeps_us_only_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.terminal.JOIN_SECONDS", 0.1)
    release = threading.Event()
    started = time.monotonic()

    def hang(line: str) -> None:
        release.wait(60)

    with CapturedOutput(hang):
        os.write(1, b"x\n")
    assert time.monotonic() - started < 30
    release.set()


# A real terminal

STUDIO = """
import ctypes, multiprocessing, os, subprocess, sys, threading
from collections import deque
from textual.app import App
from textual.widgets import RichLog, Static
from tui.terminal import run_app

lines = deque()
RUBBISH = b"\\x1b[2J\\x1b[1;1Hrubbish from "

class Studio(App):
    def compose(self):
        yield Static(id="size")
        yield RichLog()

    def on_mount(self):
        self.query_one("#size").update(f"size {self.size.width} x {self.size.height}")
        self.set_interval(0.05, self.show)
        self.set_timer(0.2, lambda: threading.Thread(target=self.litter).start())

    def litter(self):
        os.write(1, RUBBISH + b"one\\n")
        os.write(2, RUBBISH + b"two\\n")
        libc = ctypes.CDLL(None)
        libc.puts(RUBBISH + b"puts")
        libc.fflush(None)
        subprocess.run(["printf", (RUBBISH + b"child\\n").decode()])
        print(RUBBISH.decode() + "print")
        print(RUBBISH.decode() + "stderr", file=sys.stderr)
        for start in ("spawn", "fork"):
            try:
                worker = multiprocessing.get_context(start).Process(
                    target=os.write, args=(1, RUBBISH + start.encode() + b"\\n"))
                worker.start()
                worker.join()
            except ValueError as error:
                lines.append(str(error))
        lines.append("litter is out")

    def show(self):
        while lines:
            self.query_one(RichLog).write("log: " + lines.popleft())

    def key_q(self):
        self.exit("the result")

    def key_x(self):
        raise RuntimeError("the app broke")

if __name__ == "__main__":
    print("and then", START, file=sys.stderr)
"""
WRITERS = ("one", "two", "puts", "child", "print", "stderr", "spawn", "fork")


class Terminal:
    """A program on a pseudo terminal, and the screen that a person would see."""

    def __init__(self, start: str) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self.program = pexpect.spawn(
            sys.executable,
            ["-c", STUDIO.replace("START", start)],
            dimensions=(ROWS, COLUMNS),
            # A worker of pytest-xdist has LINES and COLUMNS, and they would count for more than the terminal.
            env={key: value for key, value in os.environ.items() if key not in ("LINES", "COLUMNS")}
            | {"TERM": "xterm-256color"},
        )

    def wait_for(self, text: str, seconds: float = 30.0) -> list[str]:
        """The screen's rows once `text` is on one of them."""
        deadline = time.monotonic() + seconds
        while not any(text in row for row in self.screen.display):
            assert time.monotonic() < deadline, "\n".join([f"no {text!r} on the screen:", *self.screen.display])
            try:
                self._stream.feed(self.program.read_nonblocking(65536, timeout=0.2))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert any(text in row for row in self.screen.display), "\n".join(["it ended:", *self.screen.display])
        return [row.rstrip() for row in self.screen.display]


def test_rubbish_goes_to_the_log_and_the_screen_stays_whole() -> None:
    terminal = Terminal("run_app(Studio(), lines.append)")
    rows = terminal.wait_for("log: litter is out")
    assert rows[0] == f"size {COLUMNS} x {ROWS}"
    logged = [row.strip() for row in rows[1:] if row.strip()]
    assert all(row.startswith("log: ") for row in logged)
    assert sorted(logged) == sorted([*(f"log: rubbish from {writer}" for writer in WRITERS), "log: litter is out"])

    terminal.program.send("q")
    terminal.wait_for("and then the result")
    assert terminal.program.wait() == 0


def test_without_it_the_screen_is_torn_and_workers_die() -> None:
    terminal = Terminal("Studio().run()")
    rows = terminal.wait_for("log: litter is out")
    assert rows[0].startswith("rubbish from")
    assert any("log: bad value(s) in fds_to_keep" in row for row in rows)
    terminal.program.terminate(force=True)


def test_the_report_of_a_crash_is_on_the_terminal() -> None:
    terminal = Terminal("run_app(Studio(), lines.append)")
    terminal.wait_for("log: litter is out")
    terminal.program.send("x")
    rows = terminal.wait_for("and then None")
    assert any("RuntimeError: the app broke" in row for row in rows)
    terminal.program.wait()


def test_import_is_light() -> None:
    script = "import sys, tui.terminal; print([name for name in ('textual', 'torch', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
