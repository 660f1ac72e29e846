"""The dataset: its sizes, how its classes are balanced, and a few of its samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.widgets import Static

from engine.data.sources import Source
from tui.panes.pane import Pane
from tui.widgets.picture import beside, fit, half_blocks, shades

if TYPE_CHECKING:
    from engine.data.preview import Preview, Sample

_BARS = " ▁▂▃▄▅▆▇"  # no full block: neighbours would run together


class DataPane(Pane):
    """Shows a dataset's description at once and its samples when they are loaded."""

    BORDER_TITLE = "Data [dim]3[/]"
    HELP = "What the model learns from. A dataset that must be downloaded says so; `d` fetches it without training."
    BINDINGS = [
        Binding("enter,o", "choose", "Choose", tooltip="Train on another dataset", id="data.choose"),
        Binding("d", "download", "Download", tooltip="Fetch this dataset now", id="data.download"),
        Binding("e", "options", "Options", tooltip="Change what your own function is given", id="data.options"),
    ]

    class Choose(Message):
        """The person wants another dataset."""

    class Options(Message):
        """Change what the person's own function is given."""

    class Download(Message):
        """The person wants this dataset fetched."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._source: Source | None = None
        self._sizes: Mapping[str, int] = {}
        self._preview: Preview | None = None
        self._note = ""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="data-scroll"):
            yield Static(id="data-body")

    def show(self, source: Source | None, sizes: Mapping[str, int], preview: Preview | None, note: str = "") -> None:
        """Show a dataset; `preview` when it is loaded, `note` says what is going on or wrong."""
        shown = (source, dict(sizes), preview, note)
        if shown == (self._source, dict(self._sizes), self._preview, self._note):
            return
        self._source, self._sizes, self._preview, self._note = shown
        self._draw()
        self.refresh_bindings()

    def note(self, text: str) -> None:
        """Say what is going on with the dataset that is shown."""
        if self._source is not None:
            self.show(self._source, self._sizes, self._preview, text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what is not there can be downloaded, and only one's own has options."""
        if action == "options":
            return self._source is not None and self._source.origin == "yours"
        if action == "download":
            return self._source is not None and not self._source.ready
        return True

    def action_choose(self) -> None:
        """Ask for another dataset."""
        self.post_message(self.Choose())

    def action_options(self) -> None:
        """Ask for the options of one's own dataset."""
        self.post_message(self.Options())

    def action_download(self) -> None:
        """Ask for this dataset to be fetched."""
        self.post_message(self.Download())

    def on_resize(self, event: Resize) -> None:
        """Samples are drawn to fit."""
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted or self._source is None:
            return
        scroll = self.query_one("#data-scroll", VerticalScroll)
        colour = not self.app.no_color
        text = describe(
            self._source,
            self._sizes,
            self._preview,
            self._note,
            max(scroll.size.width - 1, 20),
            max(self.size.height - 2, 6),
            colour,
        )
        self.query_one("#data-body", Static).update(text)


def describe(
    source: Source,
    sizes: Mapping[str, int],
    preview: Preview | None,
    note: str,
    width: int,
    height: int,
    colour: bool = True,
) -> Text:
    """Everything about a dataset in `width` columns, its samples as large as `height` rows allow."""
    origin = {"bundled": "ships with torch-tui", "made": "made on the spot", "yours": "your own"}.get(source.origin)
    origin = origin or ("downloaded" if source.ready else f"↓ {source.download_text} to download (d)")
    lines = [Text.assemble((source.name, "bold"), "  ", (origin, "dim"))]
    shape = "×".join(map(str, source.shape))
    what = "regression" if source.task == "regression" else f"{source.outputs} classes"
    kind = f" {preview.dtype}" if preview else ""
    span = f" · {preview.least:.4g}–{preview.greatest:.4g}" if preview and len(source.shape) > 1 else ""
    if source.sizes:
        lines.append(Text(f"{shape}{kind} · {what}{span}"))
        lines.append(Text(" · ".join(f"{name} {size:,}" for name, size in sizes.items())))
    if note:
        lines.append(Text(note, "yellow"))
    if preview is not None:
        if preview.counts:
            lines.extend(_balance(preview, width, height))
        rows = max(height - len(lines) - 1, 4)
        pictures = [sample for sample in preview.samples if sample.picture is not None]
        lines.extend(_gallery(pictures, width, rows, colour) if pictures else _table(preview, width))
    elif source.classes:
        lines.append(Text("classes: " + ", ".join(source.classes), "dim"))
    return Text("\n").join(lines)


def _balance(preview: Preview, width: int, height: int) -> list[Text]:
    """Bars of the training samples in each class: one line where room is short, a line each where there is room."""
    counts = list(preview.counts.items())
    greatest = max(preview.counts.values()) or 1
    if len(counts) <= max(3, height // 4):
        name_width = min(max(len(name) for name, _ in counts), 14)
        room = max(width - name_width - 10, 5)
        return [
            Text.assemble(
                f"{name[:name_width]:<{name_width}} ", ("█" * max(1, round(room * n / greatest)), "cyan"), f" {n:,}"
            )
            for name, n in counts
        ]
    shown = counts[: max(1, (width - 9) // 2)]
    line = Text("balance  ", "dim")
    for name, n in shown:
        line.append(f"{name[0]}", "dim")
        line.append(_BARS[round(7 * n / greatest)], "cyan")
    least = min(preview.counts.values())
    line.append(f" {least:,}–{greatest:,}" if width - line.cell_len > 12 else "", "dim")
    return [line]


def _gallery(samples: list[Sample], width: int, rows: int, colour: bool) -> list[Text]:
    """Samples side by side with their labels above, in as many rows of pictures as fit."""
    picture = samples[0].picture
    assert picture is not None
    height, columns = picture.shape[:2]
    three = max((width + 1) // 3 - 1, 8)
    across = min(columns, three, 32)
    if rows > across // 2 + 1:  # more rows than three pictures need: let them grow, or show more of them
        across = min(columns, max(three, (rows - 1) * 2), 32)
    down = -(-across * height // columns // 2)
    each = max(1, (width + 1) // (across + 1))
    lines: list[Text] = []
    for first in range(0, len(samples), each):
        blocks = [_block(sample, across, down, colour) for sample in samples[first : first + each]]
        lines.extend(beside(blocks))
    return lines


def _block(sample: Sample, columns: int, rows: int, colour: bool) -> list[Text]:
    assert sample.picture is not None
    drawn = (half_blocks if colour else shades)(fit(sample.picture, columns, rows))
    label = Text(sample.label[:columns].ljust(min(columns, len(sample.label))), "dim")
    return [label, *drawn]


def _table(preview: Preview, width: int) -> list[Text]:
    """Rows of numbers under their column names."""
    columns = list(preview.source.columns)
    rows = [sample.row for sample in preview.samples if sample.row is not None]
    if not rows:
        return []
    count = len(rows[0])
    names = columns[:count] if columns else [f"x{i}" for i in range(count)]
    goal = "class" if preview.source.task == "classification" else "target"
    label_width = max(len(goal), *(len(sample.label) for sample in preview.samples))
    fitting = max(1, min(count, (width - label_width - 2) // 9))
    header = Text(f"{goal:<{label_width}} " + " ".join(f"{name[:8]:>8}" for name in names[:fitting]), "dim")
    if fitting < count:
        header.append(f" +{count - fitting}", "dim")
    lines = [header]
    for sample in preview.samples:
        assert sample.row is not None
        cells = " ".join(f"{_number(value):>8}" for value in sample.row[:fitting])
        lines.append(Text.assemble((f"{sample.label:<{label_width}} ", "bold"), cells))
    return lines


def _number(value: float) -> str:
    return f"{np.float32(value):.4g}"
