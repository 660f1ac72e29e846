"""The keys that do something now, in the last row of the screen."""

from __future__ import annotations

from textual.screen import Screen
from textual.widgets import Footer


class Keys(Footer):
    """A footer that is made anew once a frame at most, and only if it would be another: it takes 20 ms.

    Textual's own is made anew at every change of the focus, and again for each pane that says its keys have changed.
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
        if keys != self._written:
            self._written = keys
            await super().recompose()
