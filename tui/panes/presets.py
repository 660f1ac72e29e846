"""The presets, grouped by family, each with the line on what it teaches."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from engine.data.sources import sources
from presets import Preset
from tui.panes.pane import Pane
from tui.search import find


class PresetsPane(Pane):
    """Shipped recipes. Moving the cursor chooses one; `/` filters by name, dataset and what is taught."""

    BORDER_TITLE = "Presets [dim]1[/]"
    HELP = "Recipes that ship with torch-tui. ↓ marks data that is downloaded first; the rest needs no network."
    BINDINGS = [Binding("slash", "filter", "Filter", tooltip="Find a preset by a word", id="presets.filter")]

    class Chosen(Message):
        """The person moved to another preset."""

        def __init__(self, preset: Preset) -> None:
            self.preset = preset
            super().__init__()

    class Opened(Message):
        """The person pressed enter on a preset."""

    def __init__(self, presets: Sequence[Preset], id: str | None = None) -> None:
        super().__init__(id=id)
        self._presets = {preset.name: preset for preset in presets}

    def compose(self) -> ComposeResult:
        field = Input(placeholder="filter presets", id="preset-filter", compact=True)
        field.display = False
        yield field
        yield OptionList(id="preset-list", compact=True, markup=False)

    def on_mount(self) -> None:
        """Fill the list."""
        self._fill("")

    def choose(self, name: str) -> None:
        """Move the cursor to a preset."""
        options = self.query_one(OptionList)
        if name in self._presets:
            options.highlighted = options.get_option_index(name)

    def action_filter(self) -> None:
        """Show the filter and type into it."""
        field = self.query_one("#preset-filter", Input)
        field.display = True
        field.focus()

    @on(Input.Changed, "#preset-filter")
    def _filter(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(event.value)

    @on(Input.Submitted, "#preset-filter")
    def _to_list(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(OptionList).focus()

    def key_escape(self) -> None:
        """Leave the filter and show every preset again."""
        field = self.query_one("#preset-filter", Input)
        if field.display:
            field.value = ""
            field.display = False
            self.query_one(OptionList).focus()

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_id in self._presets:
            self.post_message(self.Chosen(self._presets[event.option_id]))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Opened())

    def _fill(self, query: str) -> None:
        options = self.query_one(OptionList)
        highlighted = options.highlighted
        before = options.get_option_at_index(highlighted).id if highlighted is not None else None
        found = find(query, list(self._presets.values()), lambda preset: preset.name, _searched)
        rows: list[Option | None] = []
        family = None
        for preset in found:
            if preset.family != family and not query:
                family = preset.family
                rows.append(Option(Text(family.upper(), "bold dim"), disabled=True))
            rows.append(Option(_prompt(preset), id=preset.name))
        if not found:
            rows.append(Option(Text(f"No preset matches '{query}'.", "italic"), disabled=True))
        with self.prevent(OptionList.OptionHighlighted):
            options.clear_options()
            options.add_options(rows)
            names = [preset.name for preset in found]
            if before in names:
                options.highlighted = options.get_option_index(str(before))
        if options.highlighted is None and found:
            options.highlighted = options.get_option_index(found[0].name)


def _prompt(preset: Preset) -> Text:
    source = sources().get(preset.recipe.data.name)
    text = Text(preset.name, "bold")
    if source is not None and source.origin == "download":
        there = "downloaded" if source.ready else f"{source.download_mb} MB"
        text.append(f"  ↓ {there}", "not bold dim")
    text.append(f"\n{preset.recipe.about}", "not bold dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _searched(preset: Preset) -> str:
    recipe = preset.recipe
    return f"{preset.name} {preset.family} {recipe.data.name} {recipe.title} {recipe.about}"
