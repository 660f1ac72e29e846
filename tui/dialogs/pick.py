"""Choose one thing out of many, by typing a part of its name; its documentation stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.dialogs.dialog import Dialog
from tui.search import find
from tui.widgets.titles import plain


@dataclass(frozen=True)
class Choice:
    """Something to choose: `note` stands beside its name, `doc` in the column at the right."""

    name: str
    group: str = ""
    note: str = ""
    doc: str = ""


class PickScreen(Dialog[str | None]):
    """Returns the chosen name, or None when the person leaves with escape.

    `typed` makes a choice, which stands before those that are found, of what is typed into the search, or None.
    """

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel", tooltip="Choose nothing", id="pick.cancel"),
        Binding("down", "move(1)", "Down", tooltip="Next", id="pick.down", show=False),
        Binding("up", "move(-1)", "Up", tooltip="Previous", id="pick.up", show=False),
        Binding("pagedown", "move(10)", "Page down", tooltip="Ten on", id="pick.page_down", show=False),
        Binding("pageup", "move(-10)", "Page up", tooltip="Ten back", id="pick.page_up", show=False),
    ]

    def __init__(
        self,
        title: str,
        choices: Sequence[Choice],
        current: str = "",
        *,
        search: str = "",
        typed: Callable[[str], Choice | None] = lambda query: None,
    ) -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._current = current
        self._query = search
        self._typed = typed
        self._found: Sequence[Choice] = ()

    def compose(self) -> ComposeResult:
        told = any(choice.doc for choice in self._choices)
        with Vertical(classes="dialog -large" if told else "dialog -list") as dialog:
            dialog.border_title = plain(self._title)
            dialog.border_subtitle = "type to search · ↑↓ · enter · escape"
            yield Input(self._query, placeholder="search", id="pick-search", compact=True, select_on_focus=False)
            with Horizontal():
                options = OptionList(id="pick-list", compact=True, markup=False)
                options.can_focus = False  # typing goes on in the search while the cursor moves
                if not told:
                    options.styles.height = len(self._choices)  # as many rows, however few a search leaves
                yield options
                with VerticalScroll(id="pick-doc-scroll", can_focus=False):
                    yield Static(id="pick-doc", markup=False)

    def on_mount(self) -> None:
        """Show everything, the cursor on the current choice."""
        self._fill(self._query)
        self.query_one(Input).focus()

    def action_move(self, by: int) -> None:
        """Move the cursor over the choices, past the headings."""
        options = self.query_one(OptionList)
        for _ in range(abs(by)):
            (options.action_cursor_down if by > 0 else options.action_cursor_up)()

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(event.value)

    @on(Input.Submitted)
    def _enter(self, event: Input.Submitted) -> None:
        event.stop()
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.dismiss(options.get_option_at_index(options.highlighted).id)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if self.query_one(OptionList).highlighted is None:
            return  # what was highlighted a keystroke ago; by now nothing matches
        choice = next((choice for choice in self._found if choice.name == event.option_id), None)
        if choice is None:
            return
        self.query_one("#pick-doc", Static).update(choice.doc)
        self.query_one("#pick-doc-scroll", VerticalScroll).scroll_home(animate=False)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_id)

    def _fill(self, query: str) -> None:
        options = self.query_one(OptionList)
        found = find(
            query, self._choices, lambda choice: choice.name, lambda choice: choice.note, lambda choice: choice.doc
        )
        made = self._typed(query) if query else None
        if made is not None:
            found = [made, *(choice for choice in found if choice.name != made.name)]
        self._found = found
        rows: list[Option] = []
        group = ""
        for choice in found:
            if not query and choice.group != group:
                group = choice.group
                rows.append(Option(Text(group.upper(), "bold dim"), disabled=True))
            rows.append(Option(Text.assemble((choice.name, "bold"), (f"  {choice.note}", "dim")), id=choice.name))
        if not found:
            rows.append(Option(Text(f"Nothing matches '{query}'.", "italic"), disabled=True))
            self.query_one("#pick-doc", Static).update("")
        options.clear_options()
        options.add_options(rows)
        names = [choice.name for choice in found]
        if names:
            first = self._current if not query and self._current in names else names[0]
            options.highlighted = options.get_option_index(first)
