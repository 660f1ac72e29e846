"""What all panes have in common: a border with a title, and a key that shows them alone."""

from __future__ import annotations

from textual.binding import Binding
from textual.containers import Vertical


class Pane(Vertical):
    """A titled part of the studio. `m` shows it alone, and everything again."""

    ALLOW_MAXIMIZE = True
    BINDINGS = [Binding("m", "maximize", "Zoom", tooltip="Show this pane alone, or all again", id="pane.maximize")]

    def action_maximize(self) -> None:
        """Show this pane alone, or all panes again."""
        if self.screen.maximized is self:
            self.screen.minimize()
        else:
            self.screen.maximize(self, container=False)
