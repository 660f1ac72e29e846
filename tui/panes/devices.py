"""The devices pane: load and memory of every GPU, or of the CPU where there is none, with a minute of history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.devices.monitor import GpuSample, HostSample, Snapshot

MINUTE = 60.0
ROOMY = 68  # columns from which a GPU's one-line form has room for its name, temperature and all bars
GIB, MIB = 2**30, 2**20
LOAD, MEMORY = "$text-primary", "$text-success"
OTHERS, FREE = "$foreground 60%", "$foreground 25%"
MUTED = "$foreground 60%"  # $text-muted is an "auto" colour, which text with styled parts paints white
LEGEND = "█ this process ▒ others ░ free"

History = Sequence[Snapshot]


class DevicesPane(VerticalScroll, can_focus=True):
    """Load and memory of each device, with a minute of history. Shows the snapshots it is given, computes nothing."""

    HELP = """Memory bars are split by owner: █ this process, ▒ others, ░ free.

    The torch line is what torch's allocator has given out, of what it has reserved, and the most it ever gave out.
    `m` shows this pane alone, and with taller graphs."""
    BORDER_TITLE = "Devices"
    ALLOW_MAXIMIZE = True  # containers refuse
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "toggle_maximized", "Zoom", tooltip="Show the devices alone", id="devices.maximize")
    ]
    DEFAULT_CSS = """
    DevicesPane { padding: 0 1; scrollbar-size-vertical: 1; }
    DevicesPane > Static { height: auto; }
    """

    meters = getters.query_one(Static)

    def __init__(
        self, *, name: str | None = None, id: str | None = None, classes: str | None = None, disabled: bool = False
    ) -> None:
        super().__init__(name=name, id=id, classes=classes, disabled=disabled)
        self._history: tuple[Snapshot, ...] = ()
        self._painted = Content()

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, history: tuple[Snapshot, ...]) -> None:
        """Show these snapshots, oldest first; paints only what differs from what is there."""
        if history is not self._history:
            self._history = history
            self._paint()

    def on_resize(self) -> None:
        self._paint()

    def action_toggle_maximized(self) -> None:
        """Give the whole screen to this pane, or take it back."""
        if self.is_maximized:
            self.screen.minimize()
        else:
            self.screen.maximize(self, container=False)

    def _paint(self) -> None:
        width, height = self.size
        if not width:
            return  # not laid out yet; on_resize comes when it is
        lines = draw(self._history, width, height)
        if len(lines) > height:
            lines = draw(self._history, width - self.styles.scrollbar_size_vertical, height)
        content = Content("\n").join(lines)
        if not content.is_same(self._painted):
            self._painted = content
            self.meters.update(content)


def draw(history: History, width: int, height: int) -> list[Content]:
    """The pane's lines, in the richest form that fits `height`; only the plainest may be longer."""
    if not history:
        return [Content.styled("Waiting for the first sample…", MUTED)]
    latest = history[-1]
    reason = [Content.styled(line, MUTED) for line in wrap(latest.no_gpu or "", width)]
    if not latest.gpus:
        return [*_host_card(history, width, (height - 3 - len(reason)) // 2), *reason]
    host = _host_line(latest.host, width)
    # Each card has a title, two meters and a line on torch, and two graphs as tall as there is room for.
    graph_rows = ((height - 1 - len(reason)) // len(latest.gpus) - 4) // 2
    cards = [
        _gpu_line(history, gpu, width) if graph_rows < 0 else _gpu_card(history, gpu, width, graph_rows)
        for gpu in sorted(latest.gpus, key=_torch_first)
    ]
    return [*(line for card in cards for line in card), host, *reason]


@dataclass(frozen=True)
class _Meter:
    """A quantity as number, bar and graph: `shares` are the parts of the bar that are this process's and others'."""

    label: str
    number: str
    shares: tuple[float, float] | None
    style: str
    values: Callable[[Snapshot], float | None]


def _host_card(history: History, width: int, graph_rows: int) -> list[Content]:
    host = history[-1].host
    own = min(host.process_ram, host.ram_used)
    cpu = _Meter("cpu", _percent(host.cpu), (host.cpu, 0.0), LOAD, lambda snapshot: snapshot.host.cpu)
    ram = _Meter(
        "ram",
        _used_of(host.ram_used, host.ram_total),
        (own / host.ram_total, (host.ram_used - own) / host.ram_total),
        MEMORY,
        lambda snapshot: snapshot.host.ram_used / snapshot.host.ram_total,
    )
    legend = Content.styled(LEGEND, MUTED)
    return [*_meters(history, (cpu, ram), width, graph_rows), _spread(_process(host), legend, width)]


def _host_line(host: HostSample, width: int) -> Content:
    """CPU and RAM in one line, and this process's part of them where there is room."""
    line = Content.assemble(
        ("cpu ", MUTED), _percent(host.cpu), (" · ram ", MUTED), _used_of(host.ram_used, host.ram_total)
    )
    return _spread(line, _process(host), width)


def _process(host: HostSample) -> Content:
    return Content.assemble(("process ", MUTED), f"{_size(host.process_ram)} · {_figures(host.process_cpu)} cores")


def _gpu_card(history: History, gpu: GpuSample, width: int, graph_rows: int) -> list[Content]:
    meters = (_load_meter(gpu), _memory_meter(gpu))
    torch = Content() if gpu.reserved is None else _torch_line(gpu, width)
    return [_title(gpu, width), *_meters(history, meters, width, graph_rows), torch]


def _gpu_line(history: History, gpu: GpuSample, width: int) -> list[Content]:
    """A GPU in one line, and one more if torch has memory on it."""
    load, memory = _load_meter(gpu), _memory_meter(gpu)
    head = Content.assemble((_label(gpu).ljust(6), "bold"), f" {load.number:>4}")
    amount = Content(f"{memory.number:>12}")
    if width < ROOMY:
        part = width - len(head) - len(amount) - 2
        if part < 12:
            parts = [head, *_graph(history, load, part, 1), amount]
        else:
            parts = [head, *_graph(history, load, part // 2, 1), amount, _bar(memory, part - part // 2 - 1)]
    else:
        name, state = Content(_shorten(gpu.name, 12).ljust(12)), Content(_state(gpu)[-1].rjust(12))
        part = (width - len(head) - len(name) - len(amount) - len(state) - 7) // 4
        loads = [_bar(load, part), *_graph(history, load, part, 1)]
        parts = [head, *loads, amount, _bar(memory, part), *_graph(history, memory, part, 1), state, name]
    line = Content(" ").join(parts)
    if not gpu.reserved:
        return [line]
    torch = _torch_line(gpu, 0)
    return [line, Content(" " * (width - len(torch))).append(torch)]


def _load_meter(gpu: GpuSample) -> _Meter:
    load = gpu.utilisation
    shares = None if load is None else (load, 0.0)
    return _Meter("gpu", _percent(load), shares, LOAD, _of_gpu(gpu.uuid, lambda sample: sample.utilisation))


def _memory_meter(gpu: GpuSample) -> _Meter:
    history = _of_gpu(gpu.uuid, _memory_share)
    if gpu.memory_used is None or not gpu.memory_total:
        return _Meter("mem", "n/a", None, MEMORY, history)
    own = min(gpu.reserved or 0, gpu.memory_used)
    shares = own / gpu.memory_total, (gpu.memory_used - own) / gpu.memory_total
    return _Meter("mem", _used_of(gpu.memory_used, gpu.memory_total), shares, MEMORY, history)


def _of_gpu(uuid: str, value: Callable[[GpuSample], float | None]) -> Callable[[Snapshot], float | None]:
    return lambda snapshot: next((value(gpu) for gpu in snapshot.gpus if gpu.uuid == uuid), None)


def _memory_share(gpu: GpuSample) -> float | None:
    return None if gpu.memory_used is None or not gpu.memory_total else gpu.memory_used / gpu.memory_total


def _title(gpu: GpuSample, width: int) -> Content:
    """Which GPU, and its temperature and power in the longest form that leaves room for the name."""
    label = _label(gpu)
    renumbered = f" (GPU {gpu.index})" if gpu.torch_index not in (None, gpu.index) else ""
    room = {state: width - len(label) - len(state) - 2 for state in _state(gpu)}
    name = _shorten(gpu.name, 99)
    state = next((state for state, columns in room.items() if columns >= len(name)), _state(gpu)[-1])
    name = _shorten(gpu.name, room[state])
    extra = renumbered if room[state] >= len(name + renumbered) else ""
    return _spread(Content.assemble((label, "bold"), f" {name}", (extra, MUTED)), Content(state), width)


def _label(gpu: GpuSample) -> str:
    return f"GPU {gpu.index}" if gpu.torch_index is None else f"cuda:{gpu.torch_index}"


def _state(gpu: GpuSample) -> list[str]:
    """Temperature and power, longest form first."""
    if all(value is None for value in (gpu.utilisation, gpu.memory_used, gpu.temperature, gpu.power)):
        return ["no answer"]
    heat = [] if gpu.temperature is None else [f"{gpu.temperature:.0f}°C"]
    if gpu.power is None:
        return ["".join(heat)]
    short = " ".join([*heat, f"{gpu.power:.0f} W"])
    return [short] if gpu.power_limit is None else [f"{short.removesuffix(' W')}/{gpu.power_limit:.0f} W", short]


def _torch_line(gpu: GpuSample, width: int) -> Content:
    """What this process's allocator has given out, of what it has reserved, and its peak."""
    sizes = [gpu.allocated or 0, gpu.reserved or 0, gpu.peak or 0]
    unit, name = (GIB, "GiB") if max(sizes) >= GIB else (MIB, "MiB")
    allocated, reserved, peak = (_figures(size / unit) for size in sizes)
    long = f"{allocated} allocated / {reserved} reserved / {peak} peak {name}"
    short = f"{allocated}/{reserved} peak {peak} {name}"
    text = long if len("torch ") + len(long) <= width else short
    return _spread(Content.assemble(("torch ", MUTED), text), Content.styled(LEGEND, MUTED), width)


def _meters(history: History, meters: Iterable[_Meter], width: int, graph_rows: int) -> list[Content]:
    """Each meter's number and bar with its graph below, or, without rows for that, beside it."""
    meters = list(meters)
    column = max(len(meter.number) for meter in meters)
    lines: list[Content] = []
    for meter in meters:
        head = Content.assemble((f"{meter.label} ", MUTED), f"{meter.number:>{column}} ")
        room = width - len(head)
        beside = room // 3 if graph_rows < 1 else 0
        line = head.append(_bar(meter, room - beside - 1 if beside else room))
        if beside:
            line = Content(" ").join([line, *_graph(history, meter, beside, 1)])
        lines += [line, *_graph(history, meter, width, graph_rows)]
    return lines


def _bar(meter: _Meter, width: int) -> Content:
    if meter.shares is None:
        return Content(" " * width)
    own, others = meter.shares
    filled = min(round((own + others) * width), width)
    mine = min(round(own * width), filled)
    return Content.assemble(("█" * mine, meter.style), ("▒" * (filled - mine), OTHERS), ("░" * (width - filled), FREE))


def _graph(history: History, meter: _Meter, width: int, rows: int) -> list[Content]:
    """The last minute, now at the right edge; `rows` lines of eighth blocks."""
    columns = _minute(history, meter.values, width)
    heights = [None if value is None else max(1, round(min(value, 1.0) * rows * 8)) for value in columns]
    return [
        Content.styled("".join(_block(height, floor) for height in heights), f"{meter.style} 60%")
        for floor in range((rows - 1) * 8, -1, -8)
    ]


def _block(height: int | None, floor: int) -> str:
    """The part of a column of `height` eighths that lies in the row which begins at `floor`."""
    return " " if height is None else " ▁▂▃▄▅▆▇█"[min(max(height - floor, 0), 8)]


def _minute(history: History, value: Callable[[Snapshot], float | None], columns: int) -> list[float | None]:
    """Means over equal spans of the last minute, which are fixed in time, so that the graph shifts but never boils."""
    spans: dict[int, list[float | None]] = defaultdict(list)
    for snapshot in history:
        spans[int(snapshot.time * columns / MINUTE)].append(value(snapshot))
    newest = int(history[-1].time * columns / MINUTE)
    means: list[float | None] = []
    last: float | None = None
    for span in range(newest - columns + 1, newest + 1):
        if span in spans:  # else the columns are finer than the samples, and the last one still holds
            known = [number for number in spans[span] if number is not None]
            last = sum(known) / len(known) if known else None
        means.append(last)
    return means


def _torch_first(gpu: GpuSample) -> tuple[bool, int, int]:
    return gpu.torch_index is None, gpu.torch_index or 0, gpu.index


def _spread(left: Content, right: Content, width: int) -> Content:
    """`left`, and `right` at the right edge where both fit."""
    gap = width - left.cell_length - right.cell_length
    return left if gap < 1 else Content.assemble(left, " " * gap, right)


def _shorten(name: str, columns: int) -> str:
    """A GPU's name without its maker's, cut between words if need be: RTX 40… would be another GPU."""
    for brand in ("NVIDIA ", "GeForce ", "Tesla "):
        name = name.removeprefix(brand)
    words = name.split()
    while len(words) > 1 and len(" ".join(words)) > columns:
        words.pop()
    return " ".join(words)[: max(columns, 0)]


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.0%}"


def _used_of(used: int, total: int) -> str:
    return f"{_figures(used / GIB)}/{_figures(total / GIB)} GiB"


def _size(size: int) -> str:
    return f"{_figures(size / GIB)} GiB" if size >= GIB else f"{_figures(size / MIB)} MiB"


def _figures(number: float) -> str:
    """Three figures: 4.2, 41.2, 140."""
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
