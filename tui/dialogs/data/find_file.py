"""Find a file or a folder by typing its path, or by walking through folders."""

from __future__ import annotations

import ast
import asyncio
import heapq
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.highlighter import Highlighter
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.errors import DataError, StudioError, words
from engine.printable import printable, printable_line
from tui.dialogs.dialog import Dialog
from tui.widgets.amounts import bytes_text

FUNCTION = ".py:"
"""What stands between a Python file and the name of a function in it."""
_SHOWN = 500  # entries of one folder


@dataclass(frozen=True)
class Entry:
    """A file, folder or function: its name, with a stroke at the end of a folder's, and a file's bytes."""

    name: str
    size: int | None = None

    @property
    def folder(self) -> bool:
        """Whether it is one."""
        return self.name.endswith("/")


@dataclass(frozen=True)
class Listing:
    """What fits a path as far as it is typed. `what` is wrong with it, or is said of it."""

    entries: Sequence[Entry]
    what: str = ""
    wrong: bool = False
    more: int = 0


class FindFileScreen(Dialog[Path | None]):
    """Returns the path of what is there, or None when the person leaves with escape.

    A function of a Python file is a path, too: `data.py:make_dataset`. `guess` says what a path looks like, in a
    thread. Raises StudioError there.
    """

    CSS_PATH = ["../dialogs.tcss", "data.tcss"]
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel", tooltip="Choose nothing", id="find_file.cancel"),
        Binding("tab", "complete", "Complete", tooltip="Take what is marked", id="find_file.complete", priority=True),
        Binding("down", "move(1)", "Down", tooltip="Next", id="find_file.down", show=False),
        Binding("up", "move(-1)", "Up", tooltip="Previous", id="find_file.up", show=False),
        Binding("pagedown", "move(10)", "Page down", tooltip="Ten on", id="find_file.page_down", show=False),
        Binding("pageup", "move(-10)", "Page up", tooltip="Ten back", id="find_file.page_up", show=False),
        Binding("ctrl+t", "hidden", "Hidden", tooltip="Show hidden files, or not", id="find_file.hidden"),
    ]

    def __init__(self, start: str, guess: Callable[[Path], str]) -> None:
        super().__init__()
        self._start = start or ""
        self._guess = guess
        self._hidden = False
        self._listing = Listing(())

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large") as dialog:
            dialog.border_title = "A file or a folder of your own"
            dialog.border_subtitle = "↑↓ · tab completes · enter uses it · ctrl+t hidden · escape"
            where = f"in {printable_line(_short(Path.cwd()))}"
            yield Input(self._start, placeholder=where, highlighter=_Signs(), id="path", compact=True)
            options = OptionList(id="entries", compact=True, markup=False)
            options.can_focus = False  # typing goes on in the path while the cursor moves
            yield options
            yield Static(id="path-line", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Use it", variant="success", id="use", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        """Show the folder that it begins in."""
        self.query_one(Input).focus()
        self._look()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        options = self.query_one(OptionList)
        for _ in range(abs(by)):
            (options.action_cursor_down if by > 0 else options.action_cursor_up)()

    def action_hidden(self) -> None:
        """Show hidden files, or not."""
        self._hidden = not self._hidden
        self._look()

    def action_complete(self) -> None:
        """Put what is marked into the path; without a mark, what all that fits begins with."""
        options = self.query_one(OptionList)
        if options.highlighted is not None and options.highlighted < len(self._listing.entries):
            self._take(self._listing.entries[options.highlighted])

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._look()

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_index < len(self._listing.entries):
            self._take(self._listing.entries[event.option_index])
        self.query_one(Input).focus()

    @on(Input.Submitted)
    @on(Button.Pressed, "#use")
    def _use(self, event: Input.Submitted | Button.Pressed) -> None:
        event.stop()
        self._finish()

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)

    @work(exclusive=True, group="use", exit_on_error=False)
    async def _finish(self) -> None:
        text = self.query_one(Input).value
        if await asyncio.to_thread(_there, text):
            self.dismiss(Path(os.path.abspath(Path(text or ".").expanduser())))
        elif self._listing.entries and not self._listing.wrong:
            self.action_complete()
        else:
            self._tell(self._listing.what or "Type a path.", wrong=True)

    def _take(self, entry: Entry) -> None:
        field = self.query_one(Input)
        file, colon, _ = field.value.rpartition(FUNCTION)
        field.value = (file + colon if colon else field.value[: field.value.rfind("/") + 1]) + entry.name
        field.cursor_position = len(field.value)

    @work(exclusive=True, group="look", exit_on_error=False)
    async def _look(self) -> None:
        """List in a thread: a folder may lie on a network, or hold a million files."""
        text = self.query_one(Input).value
        listing = await asyncio.to_thread(listed, text, hidden=self._hidden)
        self._listing = listing
        options = self.query_one(OptionList)
        rows = [_option(entry) for entry in listing.entries]
        if listing.more:
            rows.append(Option(Text(f"and {listing.more:,} more: type on", "italic dim"), disabled=True))
        options.clear_options()
        options.add_options(rows)
        if listing.entries:
            options.highlighted = 0
        self._tell(listing.what, wrong=listing.wrong)
        if not listing.what and await asyncio.to_thread(_there, text):
            self._tell(await asyncio.to_thread(self._said, Path(text or ".").expanduser()), wrong=False)

    def _said(self, path: Path) -> str:
        if FUNCTION in path.name:
            return f"{_short(path)}: makes the dataset"
        if path.suffix == ".py":
            return f"{_short(path)}: a Python file, whose function makes the dataset; : shows them"
        try:
            return f"{_short(path)}: looks like {self._guess(path)}"
        except StudioError:
            return f"{_short(path)}: its format can't be told from its names"

    def _tell(self, text: str, *, wrong: bool) -> None:
        line = self.query_one("#path-line", Static)
        line.set_class(wrong, "-wrong")
        line.update(printable(f"✗ {text}" if wrong else text))


class _Signs(Highlighter):
    """Shows what would steer the terminal as signs, one for each character, where names of files are typed."""

    def highlight(self, text: Text) -> None:
        text.plain = printable_line(text.plain)


def listed(text: str, *, hidden: bool) -> Listing:
    """What is in the folder of the path `text`, as far as it begins like its last part; folders first.

    After the colon of `data.py:` the functions that are in the file.
    """
    if FUNCTION in text:
        return _functions_listed(text)
    typed = text[text.rfind("/") + 1 :]
    before = text[: text.rfind("/") + 1]
    if text in ("~", "."):
        typed, before = "", text + "/"
    folder = Path(before or ".")
    try:
        folder = folder.expanduser()
        with os.scandir(folder) as found:
            entries = [
                each
                for each in found
                if each.name.casefold().startswith(typed.casefold())
                and (hidden or typed[:1] == "." or each.name[0] != ".")
            ]
    except OSError as error:
        why = {2: "There is no folder", 13: "You may not read", 20: "This is no folder:"}.get(error.errno or 0)
        return Listing((), f"{why or error.strerror} {_short(folder)}.", wrong=True)
    except (RuntimeError, ValueError) as error:  # nobody is called so, or no path can be
        return Listing((), f"{words(error).rstrip('.')}.", wrong=True)
    # There may be a million: sorting all would hold up the screen, and asking all for their size takes seconds.
    first = heapq.nsmallest(_SHOWN, entries, key=lambda each: (not _is_folder(each), each.name.casefold()))
    made = [_entry(each) for each in first]
    if not made and typed:
        return Listing((), f"There is nothing in {_short(folder)} that begins with {typed}.", wrong=True)
    said = "" if made else f"{_short(folder)} is empty."
    return Listing(made, said, more=len(entries) - len(made))


def _functions_listed(text: str) -> Listing:
    file, colon, typed = text.rpartition(FUNCTION)
    path = Path(file + colon[:-1])
    try:
        path = path.expanduser()
        names = [name for name in functions_of(path) if name.startswith(typed)]
    except DataError as error:
        return Listing((), str(error), wrong=True)
    except RuntimeError as error:  # nobody is called so
        return Listing((), f"{words(error).rstrip('.')}.", wrong=True)
    said = f"There is no function in {_short(path)} that begins with {typed}."
    return Listing([Entry(name) for name in names], "" if names else said, wrong=not names)


def functions_of(path: Path) -> Mapping[str, str]:
    """The public functions and classes of a Python file with their docstrings, without running it. Raises DataError."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        line, why = (f":{error.lineno}", f": {error.msg}") if isinstance(error, SyntaxError) else ("", "")
        raise DataError(f"{path}{line}", f"can't be read as Python{why}", "Mend it.") from error
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, kinds)}
    public = {name: doc for name, doc in found.items() if not name.startswith("_")}
    if not public:
        raise DataError(str(path), "has no function and no class", "Write one that returns a dataset.")
    return public


def _there(text: str) -> bool:
    if FUNCTION in text:
        return text.rpartition(":")[2] in {entry.name for entry in _functions_listed(text).entries}
    try:
        return Path(text or ".").expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # in a folder that may not be read, of nobody, no path
        return False


def _is_folder(found: os.DirEntry[str]) -> bool:
    try:
        return found.is_dir()
    except OSError:  # a link to nowhere
        return False


def _entry(found: os.DirEntry[str]) -> Entry:
    try:
        folder = _is_folder(found)
        return Entry(found.name + "/") if folder else Entry(found.name, found.stat().st_size)
    except OSError:  # a link to nowhere
        return Entry(found.name)


def _option(entry: Entry) -> Option:
    size = "" if entry.folder or entry.size is None else f"  {bytes_text(entry.size)}"
    return Option(Text.assemble((printable_line(entry.name), "bold" if entry.folder else ""), (size, "dim")))


def _short(path: Path) -> str:
    """With ~ for the home folder."""
    absolute, home = os.path.abspath(path), os.path.expanduser("~")
    return "~" + absolute[len(home) :] if absolute.startswith(home + "/") else absolute
