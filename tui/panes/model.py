"""The model as a table of layers, with the shape that leaves each one; layers are added, edited and moved here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.message import Message
from textual.widgets import DataTable, Static

from engine.errors import StudioError
from tui.panes.pane import Pane

if TYPE_CHECKING:
    from engine.models.layers import LayerRow


class LayerTable(DataTable[Text]):
    """Rows of layers; home and end go to the first and the last."""

    BINDINGS = [
        Binding("enter", "select_cursor", "Edit", tooltip="Change the layer's parameters", id="layers.edit"),
        Binding("home", "scroll_top", "First", tooltip="To the first layer", id="layers.first", show=False),
        Binding("end", "scroll_bottom", "Last", tooltip="To the last layer", id="layers.last", show=False),
    ]


class ModelPane(Pane):
    """Layers, output shapes, parameter counts. Shows what the engine traced; asks for edits by messages."""

    BORDER_TITLE = "Model [dim]2[/]"
    HELP = """What happens to one sample, layer by layer. Shapes are without the batch dimension and are computed before
    a step is run; sizes that follow from the layer above are inferred."""
    BINDINGS = [
        Binding("a", "add", "Add", tooltip="Add a layer below the cursor", id="model.add"),
        Binding("d,delete", "remove", "Remove", tooltip="Take the layer out", id="model.remove"),
        Binding("shift+up,K", "move(-1)", "Up", tooltip="Move the layer up", id="model.up", show=False),
        Binding("shift+down,J", "move(1)", "Down", tooltip="Move the layer down", id="model.down", show=False),
        Binding("z", "zoo", "Zoo", tooltip="Choose a model of torchvision, with pretrained weights", id="model.zoo"),
    ]

    class Add(Message):
        """Insert a layer before `index`."""

        def __init__(self, index: int) -> None:
            self.index = index
            super().__init__()

    class Edit(Message):
        """Change the parameters of layer `index`."""

        def __init__(self, index: int) -> None:
            self.index = index
            super().__init__()

    class Remove(Message):
        """Take layer `index` out."""

        def __init__(self, index: int) -> None:
            self.index = index
            super().__init__()

    class Move(Message):
        """Move layer `index` by -1 or 1."""

        def __init__(self, index: int, by: int) -> None:
            self.index, self.by = index, by
            super().__init__()

    class Zoo(Message):
        """Choose a model of torchvision in place of this one."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._editable = False
        self._count = 0
        self._layers: Sequence[LayerRow] = ()
        self._rows: list[tuple[Text, Text, Text]] = []
        self._widths = (0, 0, 0)

    def compose(self) -> ComposeResult:
        yield LayerTable(cursor_type="row", id="layers", show_header=True, cell_padding=1)
        yield Static("Loading torch…", id="model-line")

    def show(self, rows: Sequence[LayerRow], parameters: int, problem: StudioError | None, *, editable: bool) -> None:
        """Show a traced model. `problem` is what is wrong with it; `editable` says whether it is made of layers."""
        self._editable = editable
        self._count = len(rows)
        self._layers = rows
        self._draw()
        line = self.query_one("#model-line", Static)
        line.set_class(problem is not None, "-wrong")
        if problem is not None:
            line.update(Text(f"✗ {problem}"))
        else:
            line.update(Text(f"{parameters:,} parameters · {_bytes(parameters * 4)} as fp32"))
        self.refresh_bindings()

    def on_resize(self, event: Resize) -> None:
        """The first column takes what the others leave."""
        self._draw()

    def _draw(self) -> None:
        table = self.query_one(DataTable)
        drawn = [_cells(row) for row in self._layers]
        output, parameters = (
            max([len(label), *(cells[i].cell_len for cells in drawn)]) for i, label in ((1, "Output"), (2, "Params"))
        )
        # A cell of padding on both sides of three columns, and a scrollbar.
        room = max(self.size.width - 2 - output - parameters - 6 - 1, 12)
        for layer, _, _ in drawn:
            layer.truncate(room, overflow="ellipsis", pad=True)
        widths = (room if drawn else len("Layer"), output, parameters)
        if len(drawn) != len(self._rows) or widths != self._widths:
            cursor = table.cursor_row
            table.clear(columns=True)
            # Widths of our own: on a busy machine a DataTable sometimes keeps those of the labels.
            for label, width in zip(("Layer", "Output", "Params"), widths, strict=True):
                table.add_column(label, key=label.lower(), width=width)
            for index, cells in enumerate(drawn):
                table.add_row(*cells, key=str(index))
            table.move_cursor(row=max(min(cursor, len(drawn) - 1), 0))
        else:
            for index, (cells, before) in enumerate(zip(drawn, self._rows, strict=True)):
                if cells != before:
                    for column, cell in zip(("layer", "output", "params"), cells, strict=True):
                        table.update_cell(str(index), column, cell)
        self._rows, self._widths = drawn, widths

    def select(self, index: int) -> None:
        """Put the cursor on a layer."""
        self.query_one(DataTable).move_cursor(row=index)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Layers can be edited where the model is made of layers."""
        if action in ("edit", "remove", "move"):
            return self._editable and self._count > 0
        return self._editable if action == "add" else True

    def action_add(self) -> None:
        """Ask for a layer below the cursor."""
        index = min(self.query_one(DataTable).cursor_row + 1, self._count)
        self.post_message(self.Add(index))

    def action_edit(self) -> None:
        """Ask to edit the layer under the cursor."""
        self.post_message(self.Edit(self.query_one(DataTable).cursor_row))

    def action_remove(self) -> None:
        """Ask to remove the layer under the cursor."""
        self.post_message(self.Remove(self.query_one(DataTable).cursor_row))

    def action_move(self, by: int) -> None:
        """Ask to move the layer under the cursor."""
        self.post_message(self.Move(self.query_one(DataTable).cursor_row, by))

    def action_zoo(self) -> None:
        """Ask for a model of torchvision."""
        self.post_message(self.Zoo())

    @on(DataTable.RowSelected)
    def _selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if self._editable:
            self.action_edit()


def _bytes(count: int) -> str:
    kilobytes = count / 1e3
    return f"{kilobytes:.3g} kB" if kilobytes < 1000 else f"{kilobytes / 1e3:,.3g} MB"


def _cells(row: LayerRow) -> tuple[Text, Text, Text]:
    style = "bold red" if row.error else ""
    layer = Text(f"✗ {row.name}" if row.error else row.name, style or "bold")
    if row.settings:
        layer.append(f" {row.settings}", "not bold dim")
    shape = "–" if row.output is None else "×".join(map(str, row.output))
    parameters = f"{row.parameters:,}" if row.parameters else "–"
    return layer, Text(shape, justify="right"), Text(parameters, justify="right")
