"""Text that changes where it stands, such as numbers that are told anew every second."""

from __future__ import annotations

from textual.visual import VisualType
from textual.widgets import Static

from tui.charts.direct import at_once


class Told(Static):
    """A Static whose rows go straight to the terminal where they differ; see `tui.charts.direct`."""

    def tell(self, content: VisualType) -> None:
        """Show `content`, which takes as many rows as what is shown now."""
        at_once(self, lambda: self.update(content, layout=False))
