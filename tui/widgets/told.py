"""Text that changes where it stands, such as numbers that are told anew every second."""

from __future__ import annotations

from typing import Self

from textual.geometry import Region
from textual.visual import VisualType
from textual.widgets import Static

from tui.charts.direct import send_rows


class Told(Static):
    """A Static whose rows go straight to the terminal where they differ; see `tui.charts.direct`."""

    _telling = False

    def tell(self, content: VisualType) -> None:
        """Show `content`, which takes as many rows as what is shown now."""
        if not self.is_mounted or not self.is_on_screen or self._repaint_regions:  # which are not painted yet
            self.update(content, layout=False)
            return
        place = self.outer_size.region
        before = self.render_lines(place)
        self._telling = True
        try:
            self.update(content, layout=False)
        finally:
            self._telling = False
        rows = {y: new for y, (old, new) in enumerate(zip(before, self.render_lines(place), strict=True)) if old != new}
        if rows and not send_rows(self, rows):
            self.refresh()

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """As any widget's; but what `tell` shows is rendered anew without waiting for the whole screen."""
        if not self._telling:
            return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        self._layout_cache.clear()  # has the text as it was
        self._set_dirty()
        self._repaint_regions.clear()
        return self
