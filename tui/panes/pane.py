"""What all panes have in common: a border with a title, and a key that shows them alone."""

from __future__ import annotations

from textual.binding import Binding
from textual.containers import Vertical
from textual.widget import Widget


class Zoomable(Widget):
    """`m` shows this part of the studio alone, and everything again.

    Stands last among a pane's bases: Textual takes a widget's default style from its first.
    """

    ALLOW_MAXIMIZE = True
    BINDINGS = [
        Binding("m", "maximize", "Zoom", tooltip="Show this pane alone, or all again", id="pane.maximize", show=False)
    ]

    def mark(self, name: str, on: bool) -> None:
        """Add or take away a class on which the style of nothing inside depends: to restyle all of it takes 30 ms."""
        if self.has_class(name) != on:
            self.set_class(on, name, update=False)
            self.app.stylesheet.apply(self)

    def action_maximize(self) -> None:
        """Show this pane alone, or all panes again."""
        if self.screen.maximized is self:
            self.screen.minimize()
        else:
            self.screen.maximize(self, container=False)


class Pane(Vertical, Zoomable):
    """A titled part of the studio."""
