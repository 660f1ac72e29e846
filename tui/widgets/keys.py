"""The keys that do something now, in the last row of the screen."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Leave, MouseDown, MouseMove, Resize
from textual.reactive import reactive
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

_NARROW = 100  # columns; with fewer there is no key of the palette, and the last word is all of a description
_EDGE = "▏"  # before the key of the palette


@dataclass(frozen=True)
class Key:
    """A key as it is shown."""

    key: str
    sign: str
    description: str
    enabled: bool
    tooltip: str

    @property
    def width(self) -> int:
        """The columns that it takes, without one behind it."""
        return cell_len(self.sign) + 1 + cell_len(self.description)


class Keys(Widget, can_focus=False):
    """As Textual's footer, but one widget.

    That one has a widget for each key: whenever other keys do something it makes them anew and lays the whole screen
    out twice, which takes 40 ms on a large screen.

    Where there is no room for all keys, those in front are shown whole, and the help has the others.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES = {"keys--key", "keys--description", "keys--edge", "keys--hover"}
    DEFAULT_CSS = """
    Keys {
        dock: bottom;
        height: 1;
        color: $footer-foreground;
        background: $footer-background;

        .keys--key {
            color: $footer-key-foreground;
            background: $footer-key-background;
            text-style: bold;
        }
        .keys--description {
            color: $footer-description-foreground;
            background: $footer-description-background;
        }
        .keys--edge { color: $foreground 20%; }
        .keys--hover { background: $block-hover-background; }
    }
    """
    pointed: reactive[Key | None] = reactive[Key | None](None)
    """The key below the mouse."""
    shown: reactive[tuple[Key, ...]] = reactive[tuple[Key, ...]](())
    """The keys from left to right."""
    palette: reactive[Key | None] = reactive[Key | None](None)
    """The key of the palette, which stands at the right."""
    _due = False

    def on_mount(self) -> None:
        """Look at the keys whenever others may do something."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def on_resize(self, event: Resize) -> None:
        """There is room for more keys, or for less."""
        self._changed(self.screen)

    def on_mouse_down(self, event: MouseDown) -> None:
        """A click on a key is as if it were pressed."""
        event.stop()
        clicked = self._below(event.x)
        if clicked is not None and clicked.enabled:
            self.app.simulate_key(clicked.key)
        elif clicked is not None:
            self.app.bell()

    def on_mouse_move(self, event: MouseMove) -> None:
        """Show which key is meant, and in a moment what it does."""
        self.pointed = self._below(event.x)

    def on_leave(self, event: Leave) -> None:
        """None is meant."""
        self.pointed = None

    def watch_pointed(self, pointed: Key | None) -> None:
        """Say what it does."""
        self.tooltip = pointed.tooltip if pointed else None
        self.styles.pointer = "pointer" if pointed else "default"

    def render_line(self, y: int) -> Strip:
        """All of it."""
        row = self.rich_style.background_style
        segments, room = [], self.size.width
        for key in self.shown:
            segments += [*self._segments(key), Segment(" ", row)]
            room -= key.width + 1
        if self.palette is not None:
            room -= len(_EDGE) + self.palette.width + 1  # a blank ends it
            edge = self.get_component_rich_style("keys--edge")
            segments += [Segment(" " * room, row), Segment(_EDGE, edge), *self._segments(self.palette)]
        return Strip(segments).crop_extend(0, self.size.width, row)

    def _segments(self, key: Key) -> list[Segment]:
        changed = Style(dim=None if key.enabled else True)
        if key == self.pointed:
            changed += self.get_component_rich_style("keys--hover").background_style
        sign, words = (self.get_component_rich_style(f"keys--{part}") + changed for part in ("key", "description"))
        return [Segment(key.sign, sign), Segment(f" {key.description}", words)]

    def _changed(self, screen: Screen[object]) -> None:
        """Look at the keys before the next frame."""
        if not self._due and self.app.app_focus and self.is_attached and screen is self.screen:
            self._due = True
            self.call_after_refresh(self._look)

    def _look(self) -> None:
        self._due = False
        if not self.is_attached:
            return
        room, narrow = self.size.width, self.size.width < _NARROW
        palette, keys = None, dict[str, Key]()
        for name, (_, binding, enabled, tooltip) in self.screen.active_bindings.items():
            words = binding.description
            if narrow and " " in words:
                words = words.rpartition(" ")[2].capitalize()
            sign = self.app.get_key_display(binding)
            key = Key(binding.key, sign, words, enabled, tooltip or binding.description)
            if name == self.app.COMMAND_PALETTE_BINDING:
                palette = None if narrow else key
            elif binding.show:
                keys.setdefault(binding.action, key)
        if palette is not None:
            room -= palette.width + len(_EDGE) + 1
        shown = []
        for key in keys.values():
            if key.width <= room:
                room -= key.width + 1
                shown.append(key)
        self.shown, self.palette = tuple(shown), palette

    def _below(self, x: int) -> Key | None:
        """The key in the column `x`."""
        start = 0
        for key in self.shown:
            if start <= x < start + key.width:
                return key
            start += key.width + 1
        return self.palette if self.palette and x >= self.size.width - self.palette.width - 1 else None
