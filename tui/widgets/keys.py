"""The keys that do something now, in the last row of the screen."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

_NARROW = 100  # columns; with fewer there is no key of the palette, and the last word is all of a description


class Keys(Footer):
    """A footer that is made anew once a frame at most, and only if it would be another: it takes 20 ms.

    Textual's own is made anew at every change of the focus, and again for each pane that says its keys have changed.
    Where there is no room for all keys, those in front are shown whole, and the help has the others.
    """

    _due = False
    _written: tuple[object, ...] = ()

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Look at the keys before the next frame."""
        if not self._due:
            self._due = self.app.app_focus  # without it nothing is made anew
            super().bindings_changed(screen)

    async def recompose(self) -> None:
        """Write the keys, if they are not what is written."""
        self._due = False
        active = self.screen.active_bindings.values()
        keys = tuple((key.key, key.description, enabled, tip) for _, key, enabled, tip in active if key.show)
        written = (self.app.size.width, *keys)
        if written != self._written:
            self._written = written
            await super().recompose()

    def compose(self) -> ComposeResult:
        room = self.app.size.width
        narrow = room < _NARROW
        keys = [key for key in super().compose() if isinstance(key, FooterKey)]
        palette = [key for key in keys if key.has_class("-command-palette") and not narrow]
        room -= sum(map(_width, palette))
        for key in keys:
            if narrow and " " in key.description:
                key.description = key.description.rpartition(" ")[2].capitalize()
            if not key.has_class("-command-palette") and _width(key) - 1 <= room:  # nothing stands behind the last
                room -= _width(key)
                yield key
        yield from palette

    def on_resize(self, event: Resize) -> None:
        """There is room for more keys, or for less."""
        self.bindings_changed(self.screen)


def _width(key: FooterKey) -> int:
    """The columns that a key takes, with the one behind it."""
    border = int(key.has_class("-command-palette"))
    return cell_len(key.key_display) + cell_len(key.description) + 2 + border
