"""A page of samples in cells: pictures and sound as tiles, texts below each other, rows of a table in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from tui.widgets.picture import Row, beside, boxed, cells, fit, heat, legend, masked, row_width, wave

if TYPE_CHECKING:
    from engine.data.preview import Sample

_DIM, _BOLD, _WRONG = Style(dim=True), Style(bold=True), Style(color="red", bold=True)
_CHOSEN = Style(bold=True, reverse=True)
_TOKEN = (Style(underline=True), Style())  # neighbours are told apart
_WIDEST = 32  # columns of a tile
_SOUND = (40, 8)  # columns and rows of sound
_TEXT = 3  # rows of one text
_CELL = 12  # columns of a cell of a table


@dataclass(frozen=True)
class Page:
    """Rows of cells, and which columns and rows each sample takes: (left, top, width, height).

    `pictures` has those of the samples' pictures alone, without captions, by the number on the page.
    """

    rows: Sequence[Row]
    places: Sequence[tuple[int, int, int, int]]
    pictures: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)


def capacity(sample: Sample, width: int, height: int, *, captions: int = 2) -> int:
    """How many samples like this one there is room for."""
    if is_tile(sample):
        columns, rows = _tile(sample, width, _height(height, captions))
        return max(1, (width + 1) // (columns + 1)) * max(1, height // (rows + captions))
    if sample.row is not None or sample.cells:
        return max(1, height - 1)
    return max(1, height // (_TEXT + 1))


def draw_page(
    samples: Sequence[Sample],
    columns: Sequence[str],
    width: int,
    height: int,
    *,
    colour: bool,
    selected: int = -1,
    captions: int = 2,
    label: str = "class",
) -> Page:
    """Samples in `width` columns, as large as `height` rows allow; `columns` names the numbers of a table.

    Tiles have so many lines of `captions` above them: label, then number and place.
    """
    if not samples:
        return Page((), ())
    shown = next((sample for sample in samples if not sample.trouble), samples[0])
    if is_tile(shown):
        return _tiles(samples, shown, width, height, colour, selected, captions)
    if shown.row is not None or shown.cells:
        return _table(samples, columns, width, selected, label)
    return _texts(samples, width, selected)


def whole(sample: Sample, columns: Sequence[str], width: int, height: int, *, colour: bool, fill: bool = False) -> Page:
    """One sample with all that there is of it. To `fill` it, a picture has all the room there is."""
    if is_tile(sample) and not sample.trouble:
        below: list[Row] = (
            [[], legend([area for area in sample.areas if area[0]], colour=colour)] if sample.areas else []
        )
        room = max(1, height - len(below))
        rows = _drawn(sample, width, room, colour=colour, enlarge=True)
        if sample.picture is None:
            return Page([*rows, *below], ())
        if fill:
            rows += [[] for _ in range(room - len(rows))]
        return Page([*rows, *below], (), {0: (0, 0, width, len(rows))})
    return Page(_written(sample, columns, width), ())


def _written(sample: Sample, columns: Sequence[str], width: int) -> list[Row]:
    if sample.trouble:
        return _wrapped(f"✗ {sample.trouble}", width, _WRONG)
    lines: list[Row] = []
    if sample.text:
        lines += [*_wrapped(sample.text, width), []]
    if sample.tokens:
        heading = [Segment(f"{len(sample.tokens):,} tokens", _DIM)]
        lines += [heading, *_token_rows(sample.tokens, width)]
    pairs = _pairs(sample, columns)
    longest = min(max((cell_len(name) for name, _ in pairs), default=0), width // 2)
    lines += [[Segment(set_cell_size(name, longest), _DIM), Segment(f"  {value}")] for name, value in pairs]
    return lines


def is_tile(sample: Sample) -> bool:
    """Whether it is drawn beside others."""
    return sample.picture is not None or sample.wave is not None


def _tiles(
    samples: Sequence[Sample], like: Sample, width: int, height: int, colour: bool, selected: int, captions: int
) -> Page:
    columns, rows = _tile(like, width, _height(height, captions))
    each = max(1, (width + 1) // (columns + 1))
    lines: list[Row] = []
    places = []
    pictures = {}
    for first in range(0, len(samples), each):
        blocks = []
        for at, sample in enumerate(samples[first : first + each]):
            above = _caption(sample, columns, captions, chosen=first + at == selected)
            drawn = _drawn(sample, columns, rows, colour=colour)
            block = [*above, *drawn]
            if sample.picture is not None and not sample.trouble:
                pictures[first + at] = (at * (columns + 1), len(lines) + len(above), columns, len(drawn))
            if not block or row_width(block[0]) < columns:
                block[0] = [*block[0], Segment(" " * (columns - row_width(block[0])))]
            blocks.append(block)
            places.append((at * (columns + 1), len(lines), columns, len(block)))
        lines += beside(blocks)
    return Page(lines, places, pictures)


def _height(height: int, captions: int) -> int:
    """Rows that a picture may take. Where samples are looked through, two of them shall fit above each other."""
    return height - captions if captions < 2 else max(5, height // 2 - captions)


def _tile(sample: Sample, width: int, height: int) -> tuple[int, int]:
    """Columns and rows of a tile without its caption."""
    if sample.picture is None:
        return min(_SOUND[0], width), min(_SOUND[1], max(3, height))
    tall, wide = sample.picture.shape[:2]
    three = max((width + 1) // 3 - 1, 8)
    across = min(wide, three, _WIDEST)
    if height > across // 2 + 1:  # more rows than three pictures need: let them grow, or show more of them
        across = min(wide, max(three, (height - 1) * 2), _WIDEST)
    across = min(max(across, 6), width)
    rows = max(1, -(-across * tall // wide // 2))
    if rows > height > 2:  # a tall one must not be cut off
        rows = height
        across = min(across, max(6, rows * 2 * wide // tall))
    return across, rows


def _caption(sample: Sample, columns: int, lines: int, *, chosen: bool) -> list[Row]:
    style = _CHOSEN if chosen else _WRONG if sample.trouble else _BOLD if lines > 1 else _DIM
    mark = "▸" if chosen else ""
    rows = [[Segment(_both_ends(f"{mark}{sample.label}", columns), style)]]
    if lines > 1:
        number = f"#{sample.number}"
        where = _tail(sample.place, columns - len(number) - 1)
        rows.append([Segment(_cut(f"{number} {where}".rstrip(), columns), _DIM)])
    return rows


def _drawn(sample: Sample, columns: int, rows: int, *, colour: bool, enlarge: bool = False) -> list[Row]:
    if sample.trouble:
        return _wrapped(f"✗ {sample.trouble}", columns, _WRONG)[:rows]
    if sample.picture is not None:
        if sample.mask is not None:
            return masked(sample.picture, sample.mask, columns, rows, colour=colour, enlarge=enlarge)
        if sample.boxes:
            return boxed(sample.picture, sample.boxes, columns, rows, colour=colour, enlarge=enlarge)
        return cells(fit(sample.picture, columns, rows, enlarge=enlarge), colour=colour)
    assert sample.wave is not None
    half = max(1, rows // 2)
    outline = wave(sample.wave, columns, half)
    if sample.spectrogram is None or rows < 4:
        return outline
    tones = _stretched(sample, columns, rows - half)
    return [*outline, *cells(heat(tones) if colour else tones, colour=colour)]


def _stretched(sample: Sample, columns: int, rows: int) -> np.ndarray:
    """The spectrogram as wide as the waveform above it, which it belongs to."""
    assert sample.wave is not None
    assert sample.spectrogram is not None
    found = sample.spectrogram
    width = min(columns, sample.wave.shape[1])
    if found.shape[1] < width:
        found = found[:, np.arange(width) * found.shape[1] // width]
    at = np.linspace(0, found.shape[1], width + 1).astype(int)
    found = np.maximum.reduceat(found, at[:-1], axis=1)
    down = np.linspace(0, len(found), min(2 * rows, len(found)) + 1).astype(int)
    return np.maximum.reduceat(found, down[:-1], axis=0)


def _texts(samples: Sequence[Sample], width: int, selected: int) -> Page:
    lines: list[Row] = []
    places = []
    for at, sample in enumerate(samples):
        top = len(lines)
        chosen = at == selected
        lines.append(_headline(sample, width, chosen=chosen))
        if sample.trouble:
            lines += _wrapped(f"✗ {sample.trouble}", width, _WRONG)[:_TEXT]
        elif sample.tokens and not sample.text:
            lines += _token_rows(sample.tokens, width, _TEXT)
        else:
            shown = _wrapped(sample.text, width)[: _TEXT - 1 if sample.tokens else _TEXT]
            lines += [*shown, *_token_rows(sample.tokens, width, _TEXT - len(shown))]
        places.append((0, top, width, len(lines) - top))
    return Page(lines, places)


def _headline(sample: Sample, width: int, *, chosen: bool) -> Row:
    where = f"  #{sample.number} {sample.place}" if sample.number >= 0 else ""
    label = f"{'▸' if chosen else ''}{sample.label}"
    return [Segment(label, _CHOSEN if chosen else _BOLD), Segment(_cut(where, max(0, width - cell_len(label))), _DIM)]


def _table(samples: Sequence[Sample], columns: Sequence[str], width: int, selected: int, label: str) -> Page:
    """The label first, then as many columns as fit, each as wide as what stands in it."""
    rows = [_pairs(sample, columns) for sample in samples]
    names = [name for name, _ in max(rows, key=len)]
    labels = [sample.label for sample in samples]
    label_width = min(max(len(label), *map(cell_len, labels)), max(8, width // 3))
    numbered = any(sample.number >= 0 for sample in samples)
    number_width = max(len(f"#{sample.number}") for sample in samples) + 1 if numbered else 0
    widths: list[int] = []
    room = width - label_width - number_width - 2
    for at, name in enumerate(names):
        values = [pairs[at][1] for pairs in rows if at < len(pairs)]
        wide = min(max([cell_len(name), *map(cell_len, values)]), _CELL)
        if room < wide + 1:
            break
        widths.append(wide)
        room -= wide + 1
    while widths and len(widths) < len(names) and room < len(f" +{len(names)}"):  # it says how many are not shown
        room += widths.pop() + 1
    head = " " * (number_width + 1) + set_cell_size(label, label_width)
    titles = "".join(" " + _right(name, wide) for name, wide in zip(names, widths, strict=False))
    left = f" +{len(names) - len(widths)}" if len(widths) < len(names) else ""
    lines: list[Row] = [[Segment(_cut(head + titles + left, width), _DIM)]]
    places = []
    for at, (sample, pairs) in enumerate(zip(samples, rows, strict=True)):
        chosen = at == selected
        number = set_cell_size(f"#{sample.number}", number_width) if numbered else ""
        texts = (" " + _right(value, wide) for (_, value), wide in zip(pairs, widths, strict=False))
        cells_text = f" ✗ {sample.trouble}" if sample.trouble else "".join(texts)
        lines.append([
            Segment(("▸" if chosen else " ") + number, _DIM),
            Segment(set_cell_size(sample.label, label_width), _CHOSEN if chosen else _BOLD),
            Segment(_cut(cells_text, width - label_width - number_width - 1), _WRONG if sample.trouble else None),
        ])  # fmt: skip
        places.append((0, at + 1, width, 1))
    return Page(lines, places)


def _pairs(sample: Sample, columns: Sequence[str]) -> list[tuple[str, str]]:
    """The names and the values of a row."""
    if sample.cells:
        return list(sample.cells.items())
    if sample.row is None:
        return []
    count = len(sample.row)
    names = columns if len(columns) == count else [f"x{number}" for number in range(count)]
    return [(name, f"{np.float32(value):.4g}") for name, value in zip(names, sample.row, strict=True)]


_UNSEEN = str.maketrans({"\n": "⏎", "\t": "⇥", " ": "␣"})


def _token_rows(tokens: Sequence[str], width: int, most: int = 1000) -> list[Row]:
    """Tokens one after the other, every second underlined: else none would see where one ends; spaces are signs."""
    rows: list[Row] = [[]]
    for at, token in enumerate(tokens):
        shown = _cut(token.translate(_UNSEEN) or "∅", max(1, width - 1))
        if row_width(rows[-1]) + cell_len(shown) + 1 > width:
            if len(rows) == most:
                break
            rows.append([])
        rows[-1] += [Segment(shown, _TOKEN[at % 2]), Segment(" ")]
    return rows if tokens and most > 0 else []


def _wrapped(text: str, width: int, style: Style | None = None) -> list[Row]:
    """Text in lines, broken between words where that can be."""
    rows: list[Row] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.expandtabs(4).split(" "):
            while cell_len(word) > width:
                rows.append([Segment(line, style)] if line else [Segment(_cut(word, width), style)])
                word, line = (word, "") if line else (word[len(_cut(word, width)) :], "")
            if line and cell_len(line) + 1 + cell_len(word) > width:
                rows.append([Segment(line, style)])
                line = word
            else:
                line = f"{line} {word}" if line else word
        rows.append([Segment(line, style)])
    return rows


def _both_ends(text: str, width: int) -> str:
    """So that class_017 is told from class_018."""
    if cell_len(text) <= width or width < 6:
        return _cut(text, width)
    end = text[-(width // 2 - 1) :]
    while cell_len(end) > width // 2 - 1:
        end = end[1:]
    return f"{_cut(text, width - cell_len(end) - 1)}…{end}"


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width)).rstrip()


def _right(text: str, width: int) -> str:
    cut = _cut(text, width)
    return " " * (width - cell_len(cut)) + cut


def _tail(text: str, width: int) -> str:
    """The end of a path, which says most."""
    return text if len(text) <= width else f"…{text[-(width - 1) :]}" if width > 1 else ""
