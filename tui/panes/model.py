"""The model as a tree of layers, with what leaves each one and what it costs; layers are edited here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Click, Key, Paste, Resize
from textual.message import Message
from textual.widgets import DataTable, Static

from engine.errors import StudioError
from engine.recipe.tree import Path
from tui.panes.pane import Pane
from tui.widgets.amounts import bar, bytes_text, count_text

if TYPE_CHECKING:
    from engine.models.fixes import Fix
    from engine.models.rows import LayerRow

Request = Literal[
    "add", "add_inside", "edit", "replace", "duplicate", "remove", "up", "down",
    "nest", "unnest", "copy", "paste", "mend", "fit", "menu", "diagram",
]  # fmt: skip
_NEEDS_LAYER = {"edit", "replace", "duplicate", "remove", "up", "down", "nest", "copy"}
_LEAST = 18  # columns that the layer's name keeps
_BAR = 6


class LayerTable(DataTable[Text]):
    """Rows of layers. A click on a fold mark folds, the right button asks for the menu."""

    BINDINGS = [
        Binding("enter", "select_cursor", "Edit", tooltip="Change the layer's parameters", id="layers.edit"),
        Binding("home", "scroll_top", "First", tooltip="To the first layer", id="layers.first", show=False),
        Binding("end", "scroll_bottom", "Last", tooltip="To the last layer", id="layers.last", show=False),
    ]

    class Pressed(Message):
        """The right button was pressed on a row, or a fold mark."""

        def __init__(self, row: int, *, fold: bool) -> None:
            self.row, self.fold = row, fold
            super().__init__()

    def on_click(self, event: Click) -> None:
        """A fold mark and the right button do not select."""
        meta = event.style.meta
        fold = "fold" in meta
        if "row" in meta and meta["row"] >= 0 and (fold or event.button == 3):
            event.stop()
            event.prevent_default()
            self.move_cursor(row=meta["row"])
            self.post_message(self.Pressed(meta["row"], fold=fold))


class ModelPane(Pane):
    """Layers, output shapes, costs. Shows what the engine traced; asks for edits by messages."""

    BORDER_TITLE = "Model [dim]2[/]"
    HELP = """What happens to one sample, layer by layer. Shapes are without the batch dimension and are computed before
    a step is run; sizes that follow from the layer above are inferred. Memory is what a batch keeps for the backward
    pass. ← and → fold; what has layers inside is Sequential, Residual, Parallel or Repeat: `n` puts a layer into one,
    `A` adds inside. `.` mends what is wrong as the last line says. Right button: everything that can be done."""
    BINDINGS = [
        Binding("a", "ask('add')", "Add", tooltip="Add a layer below the cursor", id="model.add"),
        Binding(
            "A", "ask('add_inside')", "Add inside", tooltip="Add a layer in this one", id="model.inside", show=False
        ),
        Binding("d,delete", "ask('remove')", "Remove", tooltip="Take the layer out", id="model.remove"),
        Binding("D", "ask('duplicate')", "Double", tooltip="The same layer once more", id="model.double", show=False),
        Binding("equals_sign", "ask('replace')", "Replace", tooltip="Another layer here", id="model.swap", show=False),
        Binding("shift+up,K", "ask('up')", "Up", tooltip="Move the layer up", id="model.up", show=False),
        Binding("shift+down,J", "ask('down')", "Down", tooltip="Move the layer down", id="model.down", show=False),
        Binding("n", "ask('nest')", "Nest", tooltip="Put the layer into a block", id="model.nest", show=False),
        Binding("N", "ask('unnest')", "Unnest", tooltip="Take the block away, keep layers", id="model.out", show=False),
        Binding("y", "ask('copy')", "Copy", tooltip="Copy with all inside", id="model.copy", show=False),
        Binding("p", "ask('paste')", "Paste", tooltip="What was copied, below", id="model.paste", show=False),
        Binding("full_stop", "ask('mend')", "Mend", tooltip="Do what the last line suggests", id="model.mend"),
        Binding("comma", "next_fix", "Other", tooltip="Another way to mend it", id="model.other", show=False),
        Binding("F", "ask('fit')", "Fit", tooltip="Fit first and last layers to data", id="model.fit", show=False),
        Binding("g", "ask('diagram')", "Diagram", tooltip="The model drawn as blocks", id="model.diagram", show=False),
        Binding("left", "fold(True)", "Fold", tooltip="Hide what is inside", id="model.fold", show=False),
        Binding("right", "fold(False)", "Unfold", tooltip="Show what is inside", id="model.unfold", show=False),
        Binding("backslash", "ask('menu')", "Menu", tooltip="All that can be done here", id="model.menu", show=False),
        Binding("z", "zoo", "Zoo", tooltip="Choose a model of torchvision, with pretrained weights", id="model.zoo"),
    ]

    class Asked(Message):
        """Something is to be done with the layer at `path`; the empty path stands for a model without layers."""

        def __init__(self, request: Request, path: Path, fix: Fix | None = None) -> None:
            self.request, self.path, self.fix = request, path, fix
            super().__init__()

    class Options(Message):
        """Change what the person's own function is given."""

    class Pasted(Message):
        """The terminal pasted text, which may be layers, below `path`."""

        def __init__(self, text: str, path: Path) -> None:
            self.text, self.path = text, path
            super().__init__()

    class Zoo(Message):
        """Choose a model of torchvision in place of this one."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._editable = self._own = False
        self._layers: Sequence[LayerRow] = ()
        self._visible: list[LayerRow] = []
        self._folded: set[Path] = set()
        self._wanted: Path | None = None
        self._problem: StudioError | None = None
        self._fixes: Sequence[Fix] = ()
        self._fix = 0
        self._batch = 1
        self._drawn: list[list[Text]] = []
        self._columns: list[tuple[str, int]] = []

    def compose(self) -> ComposeResult:
        yield LayerTable(cursor_type="row", id="layers", show_header=True, cell_padding=1)
        yield Static("Loading torch…", id="model-line")

    def show(
        self,
        rows: Sequence[LayerRow],
        problem: StudioError | None,
        *,
        editable: bool,
        own: bool = False,
        fixes: Sequence[Fix] = (),
        batch: int = 1,
    ) -> None:
        """Show a traced model. `problem` is what is wrong with it, `fixes` would mend it.

        `editable` says whether it is made of layers, `own` whether it is a person's own Python, whose options can be
        edited, `batch` for how many samples memory is shown.
        """
        if not editable and [row.name for row in rows] != [row.name for row in self._layers]:
            self._folded = {row.path for row in rows if row.container}  # hundreds of modules; one opens what one wants
        elif editable and not self._editable:
            self._folded = set()
        self._editable, self._own, self._layers, self._batch = editable, own, rows, batch
        self._problem, self._fixes, self._fix = problem, fixes, 0
        self._draw()
        self._tell()
        self.refresh_bindings()

    def select(self, path: Path) -> None:
        """Put the cursor on a layer, as soon as it is shown."""
        self._wanted = path
        self._folded -= {path[:i] for i in range(1, len(path))}
        if path in [row.path for row in self._layers]:
            self._draw()

    def on_resize(self, event: Resize) -> None:
        """The first column takes what the others leave."""
        self._draw()
        self._tell()

    @property
    def path(self) -> Path:
        """Of the layer under the cursor, or of the one it is on its way to; empty where there is none."""
        if self._wanted is not None:
            return self._wanted
        row = self.query_one(DataTable).cursor_row
        return self._visible[row].path if 0 <= row < len(self._visible) else ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Layers can be edited where the model is made of layers."""
        if action == "ask":
            request = parameters[0]
            if request == "mend":
                return bool(self._fixes)
            made = any(row.path or not row.error for row in self._layers)  # else one row says why there is no model
            if request == "diagram":
                return made
            return self._editable and (request not in _NEEDS_LAYER or made)
        return bool(len(self._fixes) > 1) if action == "next_fix" else True

    def action_ask(self, request: Request) -> None:
        """Ask for an edit at the cursor."""
        fix = self._fixes[self._fix] if request == "mend" and self._fixes else None
        self.post_message(self.Asked(request, self.path, fix))

    def action_next_fix(self) -> None:
        """Show another way to mend it."""
        if self._fixes:
            self._fix = (self._fix + 1) % len(self._fixes)
            self._tell()

    def action_fold(self, fold: bool) -> None:
        """Hide or show what is in the container at the cursor; ← inside one goes to it."""
        path = self.path
        row = next((row for row in self._layers if row.path == path), None)
        if row is None:
            return
        if fold and (not row.container or path in self._folded):
            self.select(path[:-1] or path)
            return
        (self._folded.add if fold else self._folded.discard)(path)
        self._draw()

    def action_zoo(self) -> None:
        """Ask for a model of torchvision."""
        self.post_message(self.Zoo())

    @on(DataTable.RowSelected)
    def _selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if self._editable:
            self.action_ask("edit")
        elif self._own:
            self.post_message(self.Options())
        elif self.path:
            self.action_fold(self.path not in self._folded)

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._tell()

    @on(LayerTable.Pressed)
    def _pressed(self, event: LayerTable.Pressed) -> None:
        event.stop()
        if event.fold:
            self.action_fold(self.path not in self._folded)
        else:
            self.action_ask("menu")

    @on(Click, "#model-line")
    def _line_clicked(self, event: Click) -> None:
        """A click on what is suggested does what its key does."""
        if "mend" in event.style.meta:
            self.action_ask("mend")
        elif "other" in event.style.meta:
            self.action_next_fix()

    def on_key(self, event: Key) -> None:
        """A key that edits layers says why it does nothing, where the model is not made of layers."""
        bound = self._bindings.key_to_bindings.get(event.key, ())
        request = next((each.action[5:-2] for each in bound if each.action.startswith("ask(")), "")
        if self._layers and not self._editable and request not in ("", "mend", "diagram"):
            event.stop()
            self.post_message(self.Asked(cast(Request, request), self.path))

    def on_paste(self, event: Paste) -> None:
        """Layers as text, from another recipe."""
        if event.text.strip():
            event.stop()
            text = event.text.replace("\r\n", "\n").replace("\r", "\n")  # terminals send what Enter sends
            self.post_message(self.Pasted(text, self.path))

    def _draw(self) -> None:
        table = self.query_one(DataTable)
        kept = self.path
        visible = [
            row for row in self._layers if not any(row.path[:i] in self._folded for i in range(1, len(row.path)))
        ]
        total = sum(row.parameters for row in self._layers if row.outermost)
        cells = [_cells(row, self._batch, total, row.path in self._folded) for row in visible]
        columns = self._fitting(cells)
        shown = [[row[label] for label, _ in columns] for row in cells]
        for (layer, *_), (_, room) in zip(shown, [columns[0]] * len(shown), strict=True):
            layer.truncate(room, overflow="ellipsis", pad=True)
        self._visible = visible
        if len(shown) != len(self._drawn) or columns != self._columns:
            table.clear(columns=True)
            # Widths of our own: on a busy machine a DataTable sometimes keeps those of the labels.
            for label, width in columns:
                table.add_column(Text(label, justify="left" if label == "Layer" else "right"), key=label, width=width)
            for index, row in enumerate(shown):
                table.add_row(*row, key=str(index))
        else:
            for index, (row, before) in enumerate(zip(shown, self._drawn, strict=True)):
                for (label, _), cell, old in zip(columns, row, before, strict=True):
                    if cell != old:
                        table.update_cell(str(index), label, cell)
        self._drawn, self._columns = shown, columns
        self._place_cursor(kept)

    def _fitting(self, cells: Sequence[dict[str, Text]]) -> list[tuple[str, int]]:
        """The columns that there is room for, with their widths: the name takes what the others leave."""
        widths = {
            label: max([len(label), *(row[label].cell_len for row in cells)])
            for label in ("Output", "Params", "FLOPs", "Memory", "Share")
        }
        room = self.size.width - 2 - 2 - 1  # the name's padding and a scrollbar
        chosen: list[tuple[str, int]] = []
        for label, width in widths.items():
            if len(chosen) < 2 or room - width - 2 >= _LEAST + 8:
                room -= width + 2
                chosen.append((label, width))
        return [("Layer", max(room, 12) if cells else len("Layer")), *chosen]

    def _place_cursor(self, kept: Path) -> None:
        """On the layer, or on the one before where it would be."""
        self._wanted = None
        if kept:
            before = [position for position, row in enumerate(self._visible) if row.path <= kept]
            self.query_one(DataTable).move_cursor(row=max(before, default=0))

    def _tell(self) -> None:
        """The line below the layers: what is wrong and what would mend it, or the costs of it all."""
        line = self.query_one("#model-line", Static)
        line.set_class(self._problem is not None, "-wrong")
        if self._problem is not None:
            # Of a layer that is marked above it says what; with a mend below, not what else one could do. To take the
            # layer out is no mend that keeps from knowing what else there is.
            marked = self._problem.where.startswith("model")
            mended = any(not fix.gives_up for fix in self._fixes)
            text = str(self._problem)
            if marked and self._fixes:
                text = f"{self._problem.what}. {'' if mended else self._problem.remedy}".rstrip()
            wrong = Text(f"✗ {text}")
            if self._fixes:
                more = f" ({self._fix + 1} of {len(self._fixes)}, next: ,)" if len(self._fixes) > 1 else ""
                mend, other = (Style(bold=True, meta={key: True}) for key in ("mend", "other"))
                wrong.append(f"\n. {self._fixes[self._fix].title}", mend).append(more, other)
            elif self._own:
                wrong.append("\nR runs your files anew", "bold")
            line.update(wrong)
            return
        if not self._layers:
            return
        outermost = [row for row in self._layers if row.outermost]
        parameters = sum(row.parameters for row in outermost)
        kept = sum(row.kept for row in outermost) * self._batch
        flops = f"{count_text(sum(row.flops for row in outermost))}FLOP"
        if {label for label, _ in self._columns} >= {"FLOPs", "Memory"}:
            text = f"{parameters:,} parameters · {bytes_text(parameters * 4)} as fp32 · {flops} a sample · "
            line.update(f"{text}{bytes_text(kept)} kept for a batch of {self._batch}")
            return
        text = f"{parameters:,} parameters, {bytes_text(parameters * 4)} · {flops} · {bytes_text(kept)} a batch"
        here = next((row for row in self._visible if row.path == self.path), None)
        if here is not None and self.size.height > 14:
            text += f"\n{here.name}: {count_text(here.flops)}FLOP, {bytes_text(here.kept * self._batch)} a batch"
        line.update(text)


def _cells(row: LayerRow, batch: int, total: int, folded: bool) -> dict[str, Text]:
    layer = Text("  " * (len(row.path) - 1))
    if row.container:
        layer.append("▸ " if folded else "▾ ", Style(meta={"fold": True}))
    layer.append(f"✗ {row.name}" if row.error else row.name, "bold red" if row.error else "bold")
    if row.settings:
        layer.append(f" {row.settings}", "dim")
    known = row.output is not None
    right = {
        "Output": "–" if row.output is None else "×".join(map(str, row.output)),
        "Params": f"{row.parameters:,}" if row.parameters else "–",
        "FLOPs": count_text(row.flops) if known and row.flops else "–",
        "Memory": bytes_text(row.kept * batch) if known and row.kept else "–",
        "Share": bar(row.parameters / total if total else 0, _BAR),
    }
    return {"Layer": layer, **{label: Text(text, justify="right") for label, text in right.items()}}
