"""The numbers of each device as cards, lines and small graphs: the richest form that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from textwrap import wrap

from textual.content import Content

from engine.devices.monitor import GpuSample, HostSample, Snapshot
from engine.devices.nvml import GIB
from tui.widgets.meters import History, Meter, bar, graph

ROOMY = 68  # columns from which a GPU's one-line form has room for its name, temperature, power and all graphs
WIDE = 100  # columns from which all the small graphs of a GPU stand side by side
GAP = 2  # columns between the small graphs
SPARK = 4  # columns that make a graph worth the name
COOL, HOT = 20.0, 100.0  # °C, the bottom and top of the temperature's graph: an eighth is 10 degrees
MIB = 2**20
LOAD, MEMORY, HEAT = "$text-primary", "$text-success", "$text-warning"
MUTED = "$foreground 60%"  # $text-muted is an "auto" colour, which text with styled parts paints white
LEGENDS = "█ this process ▒ others ░ free", "█ this ▒ others ░ free"


def draw(history: History, width: int, height: int, threads: int = 0) -> list[Content]:
    """The pane's lines, in the richest form that fits `height`; only the plainest may be longer.

    `threads` share an operation of the training on the CPU; 0 where there is none.
    """
    if not history:
        return [Content.styled("Waiting for the first sample…", MUTED)]
    latest = history[-1]
    reason = [Content.styled(line, MUTED) for line in wrap(latest.no_gpu or "", width)]
    if not latest.gpus:
        return [*_host_card(history, width, (height - 3 - len(reason)) // 2, threads), *reason]
    gpus = sorted(latest.gpus, key=_torch_first)
    rows = (height - 1 - len(reason)) // len(gpus)
    cards = next(form for form in _forms(history, gpus, width, rows) if form is not None)
    return [*(line for card in cards for line in card), _host_line(latest.host, width, threads), *reason]


def _forms(history: History, gpus: list[GpuSample], width: int, rows: int) -> Iterator[list[list[Content]] | None]:
    """The GPUs' cards of at most `rows` lines each, richest form first; None for a form that needs more of them."""
    for least in (1, 0):  # rows of each graph; none is a graph beside the bar
        for own_peak in (True, False):
            yield _cards(history, gpus, width, rows, least, own_peak)
    yield _small_cards(history, gpus, width, rows)
    yield [_gpu_line(history, gpu, width) for gpu in gpus]


def _host_card(history: History, width: int, graph_rows: int, threads: int) -> list[Content]:
    host = history[-1].host
    own = min(host.process_ram, host.ram_used)
    cpu = Meter("cpu", _percent(host.cpu), (host.cpu, 0.0), LOAD, lambda snapshot: snapshot.host.cpu)
    ram = Meter(
        "ram",
        _used_of(host.ram_used, host.ram_total),
        (own / host.ram_total, (host.ram_used - own) / host.ram_total),
        MEMORY,
        lambda snapshot: snapshot.host.ram_used / snapshot.host.ram_total,
    )
    return [*_meters(history, (cpu, ram), width, graph_rows), _with_legend(_process(host, width, threads), width)]


def _host_line(host: HostSample, width: int, threads: int) -> Content:
    """CPU and RAM in one line, and this process's part of them where there is room."""
    line = Content.assemble(
        ("cpu ", MUTED), _percent(host.cpu), (" · ram ", MUTED), _used_of(host.ram_used, host.ram_total)
    )
    return _spread(line, _process(host, width, threads), width)


def _process(host: HostSample, width: int, threads: int) -> Content:
    """This process; how many threads its training shares an operation among, as far as there is room."""
    used = f"{_size(host.process_ram)} · {_figures(host.process_cpu)} cores"
    shared = f" · {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    label = ("process ", MUTED)
    if len(label[0]) + len(used) + len(shared) > width:
        return Content(used + shared) if shared and len(used) + len(shared) <= width else Content.assemble(label, used)
    return Content.assemble(label, used + shared)


def _cards(
    history: History, gpus: list[GpuSample], width: int, rows: int, least: int, own_peak: bool
) -> list[list[Content]] | None:
    """Load and memory with bars, the rest as numbers with small graphs; `own_peak`: the peak is one of these."""
    columns = 5 if width >= WIDE else 2
    small = [_small_meters(history, gpu, own_peak) for gpu in gpus]
    lines = max(len(_groups(meters, columns)) for meters in small)
    spare = rows - 3 - lines
    if spare < 2 * least:
        return None
    below = spare // 8 if spare >= 20 else 0  # small graphs grow too, once the large ones are large
    tall = (spare - below * lines) // 2
    return [
        [
            _title(gpu, width, peak=not own_peak),
            *_meters(history, (_load_meter(gpu), _memory_meter(gpu)), width, tall),
            *_cells(history, meters, width, columns, below),
        ]
        for gpu, meters in zip(gpus, small, strict=True)
    ]


def _small_cards(history: History, gpus: list[GpuSample], width: int, rows: int) -> list[list[Content]] | None:
    """All as numbers with small graphs, two to a line."""
    cards = []
    for gpu in gpus:
        meters = [_load_meter(gpu), _memory_meter(gpu), *_small_meters(history, gpu, own_peak=False)]
        cards.append([_title(gpu, width, peak=True), *_cells(history, meters, width, 2, 0)])
    return cards if max(map(len, cards)) <= rows else None


def _gpu_line(history: History, gpu: GpuSample, width: int) -> list[Content]:
    """A GPU in one line, and one more if torch has memory on it."""
    load, memory = _load_meter(gpu), _memory_meter(gpu)
    head = Content.assemble((_label(gpu).ljust(6), "bold"), f" {load.number:>4}")
    amount = Content(f"{memory.long:>12}")
    if width < ROOMY:
        part = width - len(head) - len(amount) - 2
        if part < 12:
            parts = [head, *graph(history, load, part, 1), amount]
        else:
            parts = [head, *graph(history, load, part // 2, 1), amount, bar(memory, part - part // 2 - 1)]
    else:
        name = Content(_shorten(gpu.name, 12).ljust(12))
        sensors = [_temperature_meter(gpu), _power_meter(history, gpu)]
        part = (width - len(head) - len(name) - len(amount) - 2 * 5 - 9) // 5
        parts = [head, *graph(history, load, part, 1), amount, bar(memory, part), *graph(history, memory, part, 1)]
        for sensor in sensors:
            parts += [Content(f"{sensor.number:>5}"), *graph(history, sensor, part, 1)]
        parts.append(name)
    line = Content(" ").join(parts)
    if not gpu.reserved:
        return [line]
    torch = _torch_line(history, gpu, width)
    return [line, Content(" " * (width - len(torch))).append(torch)]


def _torch_line(history: History, gpu: GpuSample, width: int) -> Content:
    """What this process's allocator has given out, of what it has reserved, and its peak, in as much as fits."""
    allocated, reserved, peak = _torch_meters(history, gpu)
    label, most = ("torch ", MUTED), f"peak {peak.number}"
    short = Content.assemble(label, f"{allocated.number}/{reserved.number} {most}")
    part = min((width - len(short) - 6) // 2, 8)
    if part < SPARK:
        return short
    given, held = (graph(history, meter, part, 1)[0] for meter in (allocated, reserved))
    return Content.assemble(label, f"{allocated.number} ", given, f" / {reserved.number} ", held, f" {most}")


def _load_meter(gpu: GpuSample) -> Meter:
    load = gpu.utilisation
    shares = None if load is None else (load, 0.0)
    return Meter("gpu", _percent(load), shares, LOAD, _of_gpu(gpu.uuid, lambda sample: sample.utilisation))


def _memory_meter(gpu: GpuSample) -> Meter:
    history = _of_gpu(gpu.uuid, _memory_share)
    if gpu.memory_used is None or not gpu.memory_total:
        return Meter("mem", "n/a", None, MEMORY, history)
    own = min(gpu.reserved or 0, gpu.memory_used)
    shares = own / gpu.memory_total, (gpu.memory_used - own) / gpu.memory_total
    long = _used_of(gpu.memory_used, gpu.memory_total)
    return Meter("mem", long.removesuffix(" GiB"), shares, MEMORY, history, long)


def _small_meters(history: History, gpu: GpuSample, own_peak: bool) -> list[Meter]:
    """Those that the driver, and torch once it has started, have a number for."""
    known = [] if gpu.temperature is None else [_temperature_meter(gpu)]
    known += [] if gpu.power is None else [_power_meter(history, gpu)]
    if gpu.reserved is None:
        return known
    torch = _torch_meters(history, gpu)
    return [*known, *(torch if own_peak else torch[:2])]


def _temperature_meter(gpu: GpuSample) -> Meter:
    def share(sample: GpuSample) -> float | None:
        return None if sample.temperature is None else max(0.0, (sample.temperature - COOL) / (HOT - COOL))

    number = "n/a" if gpu.temperature is None else f"{gpu.temperature:.0f}°C"
    return Meter("temp", number, None, HEAT, _of_gpu(gpu.uuid, share))


def _power_meter(history: History, gpu: GpuSample) -> Meter:
    limit = gpu.power_limit or _most(history, _of_gpu(gpu.uuid, lambda sample: sample.power))
    number = "n/a" if gpu.power is None else f"{gpu.power:.0f} W"
    long = number if gpu.power is None or gpu.power_limit is None else f"{gpu.power:.0f}/{gpu.power_limit:.0f} W"
    return Meter("power", number, None, HEAT, _share_of(limit, gpu, lambda sample: sample.power), long)


def _torch_meters(history: History, gpu: GpuSample) -> list[Meter]:
    """Allocated, reserved and peak, all to the scale of the largest of them."""
    sizes = [gpu.allocated or 0, gpu.reserved or 0, gpu.peak or 0]
    unit, name = (GIB, "GiB") if max(sizes) >= GIB else (MIB, "MiB")
    allocated, reserved, peak = (_figures(size / unit) for size in sizes)
    most = max(
        _most(history, _of_gpu(gpu.uuid, lambda sample: sample.reserved)),
        _most(history, _of_gpu(gpu.uuid, lambda sample: sample.peak)),
    )
    graphs = (
        _share_of(most, gpu, lambda sample: sample.allocated),
        _share_of(most, gpu, lambda sample: sample.reserved),
        _share_of(most, gpu, lambda sample: sample.peak),
    )
    return [
        Meter("alloc", allocated, None, MEMORY, graphs[0], f"{allocated} {name}"),
        Meter("reserved", reserved, None, MEMORY, graphs[1], f"{reserved} {name}", "resv"),
        Meter("peak", f"{peak} {name}", None, MEMORY, graphs[2]),
    ]


def _most(history: History, value: Callable[[Snapshot], float | None]) -> float:
    return max((value(snapshot) or 0 for snapshot in history), default=0)


def _share_of(
    most: float, gpu: GpuSample, value: Callable[[GpuSample], float | None]
) -> Callable[[Snapshot], float | None]:
    def share(sample: GpuSample) -> float | None:
        number = value(sample)
        return None if number is None else number / (most or 1)

    return _of_gpu(gpu.uuid, share)


def _of_gpu(uuid: str, value: Callable[[GpuSample], float | None]) -> Callable[[Snapshot], float | None]:
    return lambda snapshot: next((value(gpu) for gpu in snapshot.gpus if gpu.uuid == uuid), None)


def _memory_share(gpu: GpuSample) -> float | None:
    return None if gpu.memory_used is None or not gpu.memory_total else gpu.memory_used / gpu.memory_total


def _title(gpu: GpuSample, width: int, *, peak: bool) -> Content:
    """Which GPU and, on the right, what else has to be said: torch's peak, or what the bars are made of."""
    label = _label(gpu)
    silent = all(value is None for value in (gpu.utilisation, gpu.memory_used, gpu.temperature, gpu.power))
    state, name = Content(), _shorten(gpu.name, 99)
    if silent:
        state = Content("no answer")
    elif peak and gpu.reserved is not None:
        most = _torch_meters((), gpu)[2].number
        words = "torch peak " if len(f"{label} {name} torch peak {most}") <= width else "peak "
        state = Content.assemble((words, MUTED), most)
    name = _shorten(gpu.name, width - len(label) - len(state) - 2)
    title = Content.assemble((label, "bold"), f" {name}")
    renumbered = f" (GPU {gpu.index})" if gpu.torch_index not in (None, gpu.index) else ""
    if len(title) + len(renumbered) + len(state) < width:
        title = title.append(Content.styled(renumbered, MUTED))
    return _spread(title, state, width) if state or gpu.reserved is None else _with_legend(title, width)


def _label(gpu: GpuSample) -> str:
    return f"GPU {gpu.index}" if gpu.torch_index is None else f"cuda:{gpu.torch_index}"


def _with_legend(line: Content, width: int) -> Content:
    """The line, and on its right what the parts of a memory bar are, as far as there is room for it."""
    legend = next((text for text in LEGENDS if line.cell_length + len(text) < width), "")
    return _spread(line, Content.styled(legend, MUTED), width)


def _groups(meters: list[Meter], columns: int) -> list[list[Meter]]:
    """The meters of each line."""
    return [meters[start : start + columns] for start in range(0, len(meters), columns)]


def _cells(history: History, meters: list[Meter], width: int, columns: int, graph_rows: int) -> list[Content]:
    """Numbers in columns with a small graph beside each, or, with `graph_rows`, below it."""
    groups = _groups(meters, max(min(columns, len(meters)), 1))
    full = [group for group in groups if len(group) == len(groups[0])]
    lines = _table(history, full, width, graph_rows)
    for group in groups[len(full) :]:  # a last line that is not full has columns of its own
        lines += _table(history, [group], width, graph_rows)
    return lines


def _table(history: History, groups: list[list[Meter]], width: int, graph_rows: int) -> list[Content]:
    """A line of cells for each group, with the graphs of a column below each other."""
    columns = max(map(len, groups), default=1)
    room = width - GAP * (columns - 1)
    for long in (True, False):
        heads = [max(len(meter.head(long)) for meter in column) for column in zip(*groups, strict=True)]
        spark = max((room - sum(heads)) // columns - 1, 0)
        if spark >= SPARK + 2 or (graph_rows and max(heads) <= room // columns):
            break
    widths = [room // columns if graph_rows else head + 1 + spark for head in heads]
    lines: list[Content] = []
    for group in groups:
        cells: list[list[Content]] = []
        for place, meter in enumerate(group):
            cell = widths[place] if place < columns - 1 else max(room - sum(widths[:-1]), 0)
            label, number = meter.head(long).split(" ", 1)
            text = number if graph_rows else number.rjust(heads[place] - len(label) - 1)
            head = Content.assemble((f"{label} ", MUTED), text)
            if graph_rows:
                cells.append([head.pad_right(cell - len(head)), *graph(history, meter, cell, graph_rows)])
            else:
                cells.append([Content(" ").join([head, *graph(history, meter, max(cell - len(head) - 1, 0), 1)])])
        lines += [Content(" " * GAP).join(parts) for parts in zip(*cells, strict=True)]
    return lines


def _meters(history: History, meters: Iterable[Meter], width: int, graph_rows: int) -> list[Content]:
    """Each meter's number and bar with its graph below, or, without rows for that, beside it."""
    meters = list(meters)
    column = max(len(meter.long or meter.number) for meter in meters)
    lines: list[Content] = []
    for meter in meters:
        head = Content.assemble((f"{meter.label} ", MUTED), f"{meter.long or meter.number:>{column}} ")
        room = width - len(head)
        beside = room // 3 if graph_rows < 1 else 0
        line = head.append(bar(meter, room - beside - 1 if beside else room))
        if beside:
            line = Content(" ").join([line, *graph(history, meter, beside, 1)])
        lines += [line, *graph(history, meter, width, graph_rows)]
    return lines


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
