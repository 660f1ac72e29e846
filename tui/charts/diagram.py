"""A model drawn as blocks from top to bottom, with the shapes that flow between them written on the edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.models.rows import LayerRow

_WIDEST = 34  # of a layer's text
_GAP = 3


@dataclass(frozen=True)
class _Block:
    """Lines of equal width; what flows goes in at the top and comes out at the bottom, in column `axis`."""

    lines: tuple[str, ...]
    axis: int

    @property
    def width(self) -> int:
        return len(self.lines[0])


def diagram(rows: Sequence[LayerRow]) -> list[str]:
    """The lines of the drawing. Branches of a Parallel stand side by side, a Residual's shortcut beside its layers.

    Of Repeat the layers are drawn once. What stands behind a layer at fault has no shapes. A model that can't be made
    is one row without a path.
    """
    if not rows:
        return []
    outermost = [row for row in rows if len(row.path) == 1]
    return list(_chain(rows, outermost or rows).lines)


def _chain(rows: Sequence[LayerRow], members: Sequence[LayerRow]) -> _Block:
    blocks: list[_Block] = []
    for position, row in enumerate(members):
        if position == 0 and row.path == (0,):
            blocks.append(_edge(row.input))
        blocks += (
            [_drawn(rows, row), _edge(row.output)]
            if row is not members[-1] or len(row.path) == 1
            else [_drawn(rows, row)]
        )
    return _stacked(blocks)


def _drawn(rows: Sequence[LayerRow], row: LayerRow) -> _Block:
    members = [other for other in rows if other.path[:-1] == row.path]
    if not row.container or not members:
        return _leaf(row)
    if row.name == "Parallel":
        inner = _beside(rows, members)
    elif row.name == "Residual":
        inner = _around(_chain(rows, members))
    else:
        inner = _chain(rows, members)
    return _framed(f"{row.name} {row.settings}".strip() + (" ✗" if row.error else ""), inner)


def _leaf(row: LayerRow) -> _Block:
    text = f"{'✗ ' if row.error else ''}{row.name} {row.settings}".strip()
    text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
    line = f"┃ {text} ┃"
    return _Block((line,), len(line) // 2)


def _edge(shape: Sequence[int] | None) -> _Block:
    return _Block((f"│ {'–' if shape is None else '×'.join(map(str, shape))}",), 0)


def _stacked(blocks: Sequence[_Block]) -> _Block:
    """Below each other, their axes in one column."""
    axis = max(block.axis for block in blocks)
    width = max(axis - block.axis + block.width for block in blocks)
    lines = [(" " * (axis - block.axis) + line).ljust(width) for block in blocks for line in block.lines]
    return _Block(tuple(lines), axis)


def _around(body: _Block) -> _Block:
    """The body with a shortcut at its right, which is added to what it gives."""
    right = body.width + 1
    through = [f"{line} │" for line in body.lines]
    top = " " * body.axis + "├" + "─" * (right - body.axis - 1) + "╮"
    bottom = " " * body.axis + "⊕" + "─" * (right - body.axis - 1) + "╯"
    return _Block((top, *through, bottom), body.axis)


def _beside(rows: Sequence[LayerRow], members: Sequence[LayerRow]) -> _Block:
    """Branches from one edge to one edge."""
    blocks = [_stacked([_drawn(rows, row), _edge(row.output)]) for row in members]
    height = max(len(block.lines) for block in blocks)
    columns, axes, at = [], [], 0
    for block in blocks:
        rest = [(" " * block.axis + "│").ljust(block.width)] * (height - len(block.lines))
        columns.append([*block.lines, *rest])
        axes.append(at + block.axis)
        at += block.width + _GAP
    lines = [(" " * _GAP).join(parts) for parts in zip(*columns, strict=True)]
    axis = (axes[0] + axes[-1]) // 2
    width = len(lines[0])
    return _Block((_comb(axes, axis, width, "╭┬╮┴"), *lines, _comb(axes, axis, width, "╰┴╯┬")), axis)


def _comb(axes: Sequence[int], axis: int, width: int, corners: Sequence[str]) -> str:
    """The line that leads from one column to many, or back."""
    left, tooth, right, stem = tuple(corners)
    if len(axes) == 1:
        return (" " * axis + "│").ljust(width)
    line = ["─" if axes[0] < column < axes[-1] else " " for column in range(width)]
    for column in axes:
        line[column] = tooth
    line[axis] = "┼" if axis in axes else stem
    line[axes[0]], line[axes[-1]] = left, right
    return "".join(line)


def _framed(title: str, inner: _Block) -> _Block:
    """A block with a border that says what it is."""
    title = title if len(title) <= _WIDEST + 10 else f"{title[: _WIDEST + 9]}…"
    width = max(inner.width, len(title) + 2)
    top = f"╭ {title} {'─' * (width - len(title))}╮"
    bottom = f"╰{'─' * (width + 2)}╯"
    lines = [f"│ {line.ljust(width)} │" for line in inner.lines]
    axis = inner.axis + 2
    # The title keeps its place where the axis would go through it.
    top = top if axis <= len(title) + 2 else f"{top[:axis]}┴{top[axis + 1 :]}"
    return _Block((top, *lines, f"{bottom[:axis]}┬{bottom[axis + 1 :]}"), axis)
