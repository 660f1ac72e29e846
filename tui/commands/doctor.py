"""Whether this machine can train: a line for each thing that training or the studio depends on."""

from __future__ import annotations

import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from engine.errors import DeviceError
from engine.paths import data_root
from tui.commands.json_report import to_json

Level = Literal["ok", "warn", "broken"]

_GIB = 2**30
_OLDEST = {"torch": (2, 6), "torchvision": (0, 21), "textual": (8, 0)}  # as in pyproject.toml
_LEAST_COLUMNS, _LEAST_ROWS = 80, 24
_LITTLE_DISK, _LITTLE_RAM = 5 * _GIB, 2 * _GIB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` says what to do where it is not ok."""

    level: Level
    what: str
    found: str
    remedy: str = ""


def examine(runs: Path) -> Iterator[Finding]:
    """Look at everything, each finding as it is made. A look that itself fails is a finding, too."""
    looks: Sequence[Callable[[], Iterator[Finding]]] = (
        _versions,
        _torch,
        _gpus,
        _terminal,
        lambda: _folder("runs", runs, "Choose another with --runs or TORCH_TUI_RUNS."),
        lambda: _folder("datasets", data_root(), "Choose another with TORCH_TUI_DATA."),
        _machine,
    )
    for look in looks:
        try:
            yield from look()
        except Exception as error:
            yield Finding("broken", "doctor", f"{type(error).__name__}: {error}", "Report it; the rest still holds.")


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()} in {sys.prefix}")
    for name, oldest in _OLDEST.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding("broken", name, "is not installed", f"Try: {sys.executable} -m pip install {name}")
            continue
        if tuple(int(part) for part in found.split(".")[:2]) < oldest:
            wanted = ".".join(map(str, oldest))
            yield Finding("broken", name, f"{found}, which is too old", f"Install {wanted} or newer.")
        else:
            yield Finding("ok", name, found)


def _torch() -> Iterator[Finding]:
    """Whether torch loads, and on which device a recipe with device = "auto" trains."""
    try:
        from engine.devices import device  # loads torch
    except (ImportError, OSError) as error:
        remedy = "Install torch anew, as pytorch.org says for this machine."
        yield Finding("broken", "torch", f"does not load: {error}", remedy)
        return
    build = getattr(sys.modules["torch"], "version", None)  # read only: nothing here computes with it
    cuda = getattr(build, "cuda", None)
    yield Finding("ok", "CUDA build", f"CUDA {cuda}" if cuda else "none: this torch is built for the CPU")
    yield Finding("ok", "device", f"auto is {device.describe(device.choose('auto'))}")


def _gpus() -> Iterator[Finding]:
    """The GPUs as NVIDIA's driver shows them, and why torch does not use them where it does not."""
    import pynvml

    from engine.devices.nvml import Gpus

    said: list[str] = []
    gpus = Gpus(pynvml, said.append)
    gpus.open()
    try:
        samples = gpus.sample()
    finally:
        gpus.close()
    for gpu in samples:
        memory = "memory unknown"
        if gpu.memory_used is not None and gpu.memory_total is not None:
            memory = f"{gpu.memory_used / _GIB:.1f} of {gpu.memory_total / _GIB:.1f} GiB in use"
        yield Finding("ok", f"GPU {gpu.index}", f"{gpu.name}, {memory}")
    why_idle = _why_torch_has_no_gpu()
    if why_idle and gpus.absence:
        yield Finding("warn", "GPU", gpus.absence, "Training runs on the CPU, which does for the small presets.")
    elif why_idle:
        yield Finding("warn", "GPU", why_idle, "Install a torch and a driver that fit each other: pytorch.org.")
    elif gpus.absence:
        yield Finding("ok", "GPU", f"{gpus.absence} Its load and temperature can't be shown.")
    for line in said:
        if line != gpus.absence:
            yield Finding("warn", "GPU", line, "Training is not touched by it.")


def _why_torch_has_no_gpu() -> str:
    """In torch's own words; empty where it has one, or does not load."""
    try:
        from engine.devices import device
    except (ImportError, OSError):
        return ""
    if device.choose("auto").type != "cpu":
        return ""
    try:
        device.choose("cuda")
    except DeviceError as error:
        return error.what
    return ""


def _terminal() -> Iterator[Finding]:
    name = os.environ.get("TERM", "")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield Finding("ok", "terminal", "none here: torch-tui trains and prints lines")
        return
    if name in ("", "dumb", "unknown"):
        yield Finding("warn", "terminal", f"TERM is '{name}'", "The studio needs one such as xterm-256color.")
        return
    size = shutil.get_terminal_size()
    shown = f"{name}, {size.columns}×{size.lines}, {_colours(name)}"
    if size.columns < _LEAST_COLUMNS or size.lines < _LEAST_ROWS:
        yield Finding("warn", "terminal", shown, f"The studio wants {_LEAST_COLUMNS}×{_LEAST_ROWS}.")
    else:
        yield Finding("ok", "terminal", shown)
    if sys.stdout.encoding.lower().replace("-", "") == "utf8":
        yield Finding("ok", "characters", "UTF-8")
    else:
        remedy = "Set LANG to a UTF-8 locale, such as C.UTF-8."
        yield Finding("warn", "characters", f"{locale.getpreferredencoding(False)}: curves need UTF-8", remedy)


def _colours(terminal: str) -> str:
    if os.environ.get("NO_COLOR"):
        return "no colour (NO_COLOR is set)"
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16 million colours"
    return "256 colours" if "256color" in terminal else "16 colours"


def _folder(what: str, folder: Path, remedy: str) -> Iterator[Finding]:
    """Whether `folder`, or the nearest of its parents that exists, can be written, and how much room there is."""
    folder = folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        yield Finding("broken", what, f"{folder} can't be written: {error.strerror or error}", remedy)
        return
    shown = f"{folder}, {free / _GIB:,.1f} GiB free" + ("" if there == folder else ", made when it is needed")
    if free < _LITTLE_DISK:
        yield Finding("warn", what, shown, f"Checkpoints and datasets need room. {remedy}")
    else:
        yield Finding("ok", what, shown)


def _machine() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    shown = f"{cores} cores, {memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB memory free"
    if memory.available < _LITTLE_RAM:
        yield Finding("warn", "machine", shown, "End other programs, or train with a smaller data.batch_size.")
    else:
        yield Finding("ok", "machine", shown)


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """A line each, and what to do below what is not ok; whether nothing is broken."""
    healthy = True
    for finding in findings:
        healthy = healthy and finding.level != "broken"
        if as_json:
            print(to_json(asdict(finding)))
            continue
        print(f"{finding.level:<6}  {finding.what:<11}  {finding.found}")
        if finding.remedy:
            print(f"{'':<6}  {'':<11}  → {finding.remedy}")
    return healthy
