"""What the data pane says in words and bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from engine.data.sources import Source
from tui.widgets.amounts import bytes_text

if TYPE_CHECKING:
    from engine.data.preview import Preview

_BARS = " ▁▂▃▄▅▆▇"  # no full block: neighbours would run together
_BLOCKS = " ▁▂▃▄▅▆▇█"
_HIGH = 4  # rows of the histogram of lengths
_LISTED = 50  # bad samples
_ORIGINS = {"bundled": "ships with torch-tui", "made": "made on the spot", "yours": "your own"}


def describe(
    source: Source, sizes: Mapping[str, int], preview: Preview | None, note: str, width: int, height: int
) -> Text:
    """What stands above the samples, in `width` columns of a pane `height` rows high."""
    origin = _ORIGINS.get(source.origin)
    size = f"{source.download_text} to " if source.download_text else ""
    origin = origin or ("downloaded" if source.ready else f"↓ {size}download (d)")
    lines = [Text.assemble((source.name, "bold"), "  ", (origin, "dim"))]
    if source.sizes:
        lines.append(Text(" · ".join(_kind(source, preview))))
        lines.append(Text(" · ".join(f"{name} {size:,}" for name, size in sizes.items())))
    if preview is not None and preview.holding is not None:
        lines.append(holding_text(preview, width))
    if preview is not None and preview.bad:
        count = len(preview.bad)
        lines.append(Text(f"✗ {count:,} bad sample{'s' * (count != 1)}, listed below", "yellow"))
    if note:
        lines.append(Text(note, "yellow"))
    if preview is not None and preview.counts:
        lines.extend(_balance(preview.counts, width, height))
    elif preview is None and source.classes:
        lines.append(Text("classes: " + ", ".join(source.classes), "dim"))
    return Text("\n").join(lines)


def below(preview: Preview | None, width: int, height: int) -> Text:
    """What stands below the samples: lengths, every class, every bad sample."""
    if preview is None:
        return Text()
    lines: list[Text] = []
    said = holding_text(preview, width).plain if preview.holding is not None else ""
    if preview.holding is not None and preview.holding.why not in said:
        where = "Held" if preview.holding.held else "Not held"
        lines += [Text(), Text(f"{where} on {preview.holding.device}: {preview.holding.why}.", "dim")]
    lines += [Text(f"{said}.", "dim") for said in preview.reading]
    if preview.lengths:
        lines += [Text(), *_histogram(preview.lengths, width)]
    if preview.counts and not _one_each(preview.counts, height):
        lines += [Text(), *bars(preview.counts, width)]
    if preview.counts and preview.counted < preview.sizes.get("train", 0):
        lines.append(Text(f"counted on the first {preview.counted:,} training samples", "dim"))
    if preview.bad:
        lines += [Text(), Text(f"{len(preview.bad):,} bad", "bold")]
        lines += [Text(f"✗ {bad}", "yellow") for bad in preview.bad[:_LISTED]]
        if len(preview.bad) > _LISTED:
            lines.append(Text(f"and {len(preview.bad) - _LISTED:,} more: torch-tui check lists them", "dim"))
    return Text("\n").join(lines)


def holding_text(preview: Preview, width: int) -> Text:
    """`3.1 MB · held on cuda`, and why, where there is room."""
    holding = preview.holding
    assert holding is not None
    where = f"held on {holding.device}" if holding.held else f"not held on {holding.device}"
    text = f"{bytes_text(holding.nbytes)} · {where}"
    longer = f"{text}: {holding.why}"
    return Text(longer if len(longer) <= width else text)


def bars(counts: Mapping[str, int], width: int) -> list[Text]:
    """One line a class: its name, a bar, its training samples."""
    greatest = max(counts.values(), default=0) or 1
    names = min(max(map(cell_len, counts), default=1), 20, max(6, width // 3))
    digits = len(f"{greatest:,}")
    room = max(width - names - digits - 2, 3)
    return [
        Text.assemble(
            set_cell_size(name, names) + " ",
            ("█" * (max(1, round(room * count / greatest)) if count else 0), "cyan"),
            f" {count:,}",
        )
        for name, count in counts.items()
    ]


def _kind(source: Source, preview: Preview | None) -> Sequence[str]:
    """Shape and type, what is learned, range, rate."""
    kind = f" {preview.dtype}" if preview and preview.dtype else ""
    said = [f"{'×'.join(map(str, source.shape)) or 'one number'}{kind}"]
    if source.outputs and (source.classes or source.task == "classification"):
        said.append(f"{source.outputs} class{'es' * (source.outputs != 1)}")
    else:
        said.append(source.task)
    if preview is not None and preview.dtype and not source.vocabulary:
        said.append(f"{preview.least:.4g}–{preview.greatest:.4g}")
    if source.vocabulary:
        said.append(f"{source.vocabulary:,} tokens")
    if source.rate:
        seconds = source.shape[-1] / source.rate if source.shape else 0
        said.append(f"{source.rate:,} Hz, {seconds:.3g} s")
    return said


def _one_each(counts: Mapping[str, int], height: int) -> bool:
    """Whether there is room for a line a class above the samples."""
    return len(counts) <= max(3, height // 4)


def _balance(counts: Mapping[str, int], width: int, height: int) -> list[Text]:
    """Bars of the training samples in each class: one line where room is short, a line each where there is room."""
    if _one_each(counts, height):
        return bars(counts, width)
    greatest = max(counts.values()) or 1
    shown = list(counts.items())[: max(1, (width - 9) // 2)]
    alike = _alike(list(counts))
    line = Text("balance  ", "dim")
    for name, n in shown:
        line.append(name[alike : alike + 1] or name[:1], "dim")
        line.append(_BARS[round(7 * n / greatest)], "cyan")
    least = min(counts.values())
    line.append(f" {least:,}–{greatest:,}" if width - line.cell_len > 12 else "", "dim")
    return [line]


def _alike(names: Sequence[str]) -> int:
    """With how many characters all of the names begin: class0 to class9 differ in what follows."""
    return next((at for at, letters in enumerate(zip(*names, strict=False)) if len({*letters}) > 1), 0)


def _histogram(lengths: Sequence[int], width: int) -> list[Text]:
    """How many training samples have how many tokens."""
    longest = len(lengths) - 1
    total = sum(lengths)
    mean = sum(length * count for length, count in enumerate(lengths)) / max(1, total)
    least = next((length for length, count in enumerate(lengths) if count), 0)
    columns = max(1, min(width, longest + 1))
    wide = math.ceil((longest + 1) / columns)
    columns = math.ceil((longest + 1) / wide)
    found = [sum(lengths[at * wide : (at + 1) * wide]) for at in range(columns)]
    most = max(found, default=0) or 1
    eighths = [max(round(count / most * _HIGH * 8), 1) if count else 0 for count in found]
    rows = [
        Text("".join(_BLOCKS[min(max(height - 8 * row, 0), 8)] for height in eighths), "cyan")
        for row in range(_HIGH - 1, -1, -1)
    ]
    axis = f"0{str(longest).rjust(max(1, columns - 1))}"
    title = Text(f"lengths: {least:,} to {longest:,} tokens, {mean:,.1f} on average", "bold")
    return [title, *rows, Text(axis, "dim")]
