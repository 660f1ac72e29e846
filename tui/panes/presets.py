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
from presets.own import FAMILY, Broken
from tui.panes.pane import Pane
from tui.search import find


class PresetsPane(Pane):
    """Recipes by name: a file, one's own, shipped. Moving the cursor chooses one; `/` filters by name, data, words."""

    BORDER_TITLE = "Presets [dim]1[/]"
    HELP = """Your own presets, and those that ship with torch-tui. ↓ marks data that is downloaded first; the rest
    needs no network. ctrl+s saves the recipe on the desk, S saves it as a preset of your own."""
    BINDINGS = [
        Binding("slash", "filter", "Filter", tooltip="Find a preset by a word", id="presets.filter"),
        Binding("d", "remove", "Remove", tooltip="Remove your preset", id="presets.remove"),
        Binding("n", "rename", "Rename", tooltip="Give your preset another name", id="presets.rename"),
    ]

    class Chosen(Message):
        """The person moved to another preset."""

        def __init__(self, preset: Preset) -> None:
            self.preset = preset
            super().__init__()

    class Opened(Message):
        """The person pressed enter on a preset."""

    class Remove(Message):
        """The person wants to be rid of a preset of their own."""

        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

    class Rename(Message):
        """The person wants another name for a preset of their own."""

        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

    def __init__(self, presets: Sequence[Preset | Broken], first: str = "", id: str | None = None) -> None:
        """`first` is the name of the one that has the cursor at first."""
        super().__init__(id=id)
        self._presets = {preset.name: preset for preset in presets}
        self._first = first

    def compose(self) -> ComposeResult:
        field = Input(placeholder="filter presets", id="preset-filter", compact=True)
        field.display = False
        yield field
        yield OptionList(id="preset-list", compact=True, markup=False)

    def on_mount(self) -> None:
        """Fill the list."""
        self._fill("")

    def list_again(self, presets: Sequence[Preset | Broken], name: str) -> None:
        """Show other presets, the cursor on the one of that name, and choose nothing."""
        self._presets = {preset.name: preset for preset in presets}
        with self.prevent(OptionList.OptionHighlighted):  # what is on the desk does not change by it
            self._fill(self.query_one("#preset-filter", Input).value, name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only one's own can be removed and renamed."""
        return self._own_name() != "" if action in ("remove", "rename") else True

    def action_remove(self) -> None:
        """Ask for the preset under the cursor to be removed."""
        self.post_message(self.Remove(self._own_name()))

    def action_rename(self) -> None:
        """Ask for the preset under the cursor to get another name."""
        self.post_message(self.Rename(self._own_name()))

    @property
    def under_cursor(self) -> Preset | Broken | None:
        """What the cursor is on."""
        found = next((options.highlighted_option for options in self.query(OptionList)), None)
        return self._presets.get(str(found.id)) if found is not None else None

    def _own_name(self) -> str:
        """The name under the cursor if it is one's own, else nothing."""
        preset = self.under_cursor
        return preset.name if preset is not None and _family(preset) == FAMILY else ""

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
        self.refresh_bindings()
        preset = self._presets.get(str(event.option_id))
        if isinstance(preset, Preset):
            self.post_message(self.Chosen(preset))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Opened())

    def _fill(self, query: str, before: str = "") -> None:
        """Show what matches, the cursor on `before`, else where it was."""
        options = self.query_one(OptionList)
        if not before:
            before = str(options.highlighted_option.id) if options.highlighted_option else self._first
        found = find(query, list(self._presets.values()), lambda preset: preset.name, _searched)
        rows: list[Option | None] = []
        family = None
        for preset in found:
            if _family(preset) != family and not query:
                family = _family(preset)
                rows.append(Option(Text(family.upper(), "bold dim"), disabled=True))
            rows.append(Option(_prompt(preset), id=preset.name))
        if not found:
            rows.append(Option(Text(f"No preset matches '{query}'.", "italic"), disabled=True))
        with self.prevent(OptionList.OptionHighlighted):
            options.clear_options()
            options.add_options(rows)
            names = [preset.name for preset in found]
            if before in names:
                options.highlighted = options.get_option_index(before)
        self.refresh_bindings()
        if options.highlighted is None and found:
            options.highlighted = options.get_option_index(found[0].name)


def _family(preset: Preset | Broken) -> str:
    return preset.family if isinstance(preset, Preset) else FAMILY


def _prompt(preset: Preset | Broken) -> Text:
    if isinstance(preset, Broken):
        text = Text.assemble((preset.name, "bold"), ("  ✗ broken", "red"), (f"\n{preset.reason}", "dim"))
        text.no_wrap, text.overflow = True, "ellipsis"
        return text
    source = sources().get(preset.recipe.data.name)
    text = Text(preset.name, "bold")
    if source is not None and source.origin == "download":
        there = "downloaded" if source.ready else source.download_text
        text.append(f"  ↓ {there}".rstrip(), "not bold dim")
    text.append(f"\n{preset.recipe.about}", "not bold dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _searched(preset: Preset | Broken) -> str:
    if isinstance(preset, Broken):
        return f"{preset.name} {FAMILY} broken"
    recipe = preset.recipe
    return f"{preset.name} {preset.family} {recipe.data.name} {recipe.title} {recipe.about}"
