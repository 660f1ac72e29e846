"""Every sample of a dataset, page by page: by part, by class, the oddest first, raw or as the model sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.widgets import Static

from engine.errors import StudioError
from tui.dialogs.data.sample import SampleScreen
from tui.dialogs.dialog import Page
from tui.dialogs.pick import Choice, PickScreen
from tui.looking import CalledOff, Errand
from tui.training import Desk
from tui.widgets.gallery import Gallery
from tui.widgets.keys import Keys

if TYPE_CHECKING:
    from engine.data.preview import Sample, View

_FRAME_S = 0.2
_MOST = 200  # samples of a page
_EVERY = "every class"


class BrowseScreen(Page[None]):
    """Reads in threads; what is read last is shown. No modal one: what goes on behind it would repaint it."""

    CSS_PATH = ["../dialogs.tcss", "data.tcss"]
    HELP = (
        "Wrong labels and strays are found with `o`: what lies nearer to another class than to its own comes first."
        " Each sample has its number in the dataset and, where it was read from a file, its place."
    )
    BINDINGS = [
        Binding("n,pagedown", "turn(1)", "Next", tooltip="The next page", id="browse.next"),
        Binding("p,pageup", "turn(-1)", "Back", tooltip="The page before", id="browse.previous"),
        Binding("t", "part", "Part", tooltip="Training, validation or test samples", id="browse.part"),
        Binding("c", "label", "Class", tooltip="The samples of one class", id="browse.class"),
        Binding("o", "odd", "Oddest", tooltip="The oddest of their class first", id="browse.odd"),
        Binding("a", "seen", "As seen", tooltip="As the model sees them, or as they are", id="browse.seen"),
        Binding("r", "draw", "Redraw", tooltip="Draw the augmentation anew", id="browse.draw"),
        Binding("enter", "whole", "Whole", tooltip="The marked sample alone", id="browse.whole"),
        Binding("right,l", "move(1)", "Right", tooltip="Mark the next sample", id="browse.right", show=False),
        Binding("left,h", "move(-1)", "Left", tooltip="Mark the sample before", id="browse.left", show=False),
        Binding("down,j", "row(1)", "Down", tooltip="Mark the sample below", id="browse.down", show=False),
        Binding("up,k", "row(-1)", "Up", tooltip="Mark the sample above", id="browse.up", show=False),
        Binding("home,g", "first", "First", tooltip="The first page", id="browse.first", show=False),
        Binding("escape,q,v", "leave", "Close", tooltip="Back to the studio", id="browse.close"),
    ]

    def __init__(self, desk: Desk, view: View) -> None:
        super().__init__()
        self._desk, self._view = desk, view
        self.part = "train"
        self.label: int | None = None
        self.odd = self.seen = False
        self.draw = 0
        self.first = 0
        """The place of the page's first sample in the order."""
        self.samples: Sequence[Sample] = ()
        self.order: Sequence[int] = ()
        self._per_page = 1
        self._errand: Errand | None = None
        self._trouble = ""
        self._busy = ""

    def compose(self) -> ComposeResult:
        yield Static(id="browse-head", markup=False)
        with VerticalScroll(id="browse-body", can_focus=False):
            yield Gallery(id="browse-gallery")
        yield Static(id="browse-line", markup=False)
        yield Keys()

    def on_mount(self) -> None:
        """Show the first page."""
        self.set_interval(_FRAME_S, self._tick)
        self.call_after_refresh(self._fill)

    def on_unmount(self) -> None:
        """What is being read is not waited for."""
        if self._errand is not None:
            self._errand.cancel()

    def on_resize(self, event: Resize) -> None:
        """As many samples as there is room for."""
        if self.samples:
            self.call_after_refresh(self._fill)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only augmented samples can be drawn anew, and only classes chosen where there are some."""
        if action == "draw":
            return self.seen and self.part == "train" and bool(self._view.recipe.data.augment)
        if action == "label":
            return self._view.source.task in ("classification", "detection")
        return True

    def action_turn(self, by: int) -> None:
        """The next page, or the one before."""
        first = self.first + by * self._per_page
        if by < 0 < self.first:
            first = max(0, first)
        if 0 <= first < len(self.order) and first != self.first:
            self.first = first
            self._fill()

    def action_first(self) -> None:
        """The first page."""
        self._begin()

    def action_part(self) -> None:
        """The next part that has samples."""
        names = [name for name, size in self._view.sizes.items() if size]
        self.part = names[(names.index(self.part) + 1) % len(names)]
        self.refresh_bindings()
        self._begin()

    @work(exclusive=True, group="dialog")
    async def action_label(self) -> None:
        """Ask for a class."""
        counts = await self._counts()
        choices = [Choice(_EVERY), *(Choice(name, note=f"{count:,}") for name, count in counts)]
        chosen = await self.app.push_screen_wait(PickScreen("Which class?", choices, self._label_text()))
        if chosen is not None:
            names = [name for name, _ in counts]
            self.label = None if chosen == _EVERY else names.index(chosen)
            self._begin()

    def action_odd(self) -> None:
        """The oddest first, or as they come."""
        self.odd = not self.odd
        self._begin()

    def action_seen(self) -> None:
        """As the model sees them, or as they are."""
        if not self.seen and self._desk.live and self._view.draws_globally:
            self._busy = ""
            self._say("This augmentation draws from the random numbers of the training: stop it first.", wrong=True)
            return
        self.seen = not self.seen
        self.refresh_bindings()
        self._fill()

    def action_draw(self) -> None:
        """Augment anew."""
        self.draw += 1
        self._fill()

    def action_move(self, by: int) -> None:
        """Mark another sample; past the end of the page stands the next."""
        at = self._gallery.selected + by
        if 0 <= at < len(self.samples):
            self._mark(at)
        else:
            self.action_turn(1 if by > 0 else -1)

    def action_row(self, by: int) -> None:
        """Mark the sample below or above."""
        at = self._gallery.selected + by * self._gallery.across()
        if 0 <= at < len(self.samples):
            self._mark(at)
        elif by > 0:
            self.action_turn(1)
        elif self.first:
            self.action_turn(-1)

    def action_whole(self) -> None:
        """The marked sample alone."""
        at = self._gallery.selected
        if 0 <= at < len(self.samples):
            self.app.push_screen(SampleScreen(self.samples[at], self._view.source.columns))

    def action_leave(self) -> None:
        """End what is going on, or close."""
        if self._errand is not None and self._errand.busy:
            self._errand.cancel()
            self.odd, self.label, self.seen = False, None, False  # what was being read for
            self._begin()
            return
        self.dismiss(None)

    @on(Gallery.Selected)
    def _clicked(self, event: Gallery.Selected) -> None:
        event.stop()
        self._mark(event.at)
        if event.again:
            self.action_whole()

    @property
    def _gallery(self) -> Gallery:
        return self.query_one(Gallery)

    def _begin(self) -> None:
        self.first = 0
        self._fill()

    def _mark(self, at: int) -> None:
        self._gallery.select(at)
        body = self.query_one("#browse-body", VerticalScroll)
        region = self._gallery.region_of(at)
        body.scroll_to_region(region, animate=False)
        self._describe()

    @work(exclusive=True, group="browse", exit_on_error=False)
    async def _fill(self) -> None:
        """Read the samples of the page that is asked for, and draw them."""
        view, data = self._view, self._desk.data
        errand = self._errand = data.begin("browse", Errand())
        self._busy = "reading…"
        part, label, odd = self.part, self.label, self.odd
        try:
            order = await asyncio.to_thread(errand.run, lambda: data.order(view, part, label, odd, errand))
            like = self.samples[:1] or await asyncio.to_thread(
                data.page, view, part, order[:1], seen=False, draw=0, errand=errand
            )
            body = self.query_one("#browse-body").content_size
            self._per_page = min(_MOST, self._gallery.fits(like[0], body.width, body.height)) if like else 1
            positions = list(order[self.first : self.first + self._per_page])
            seen, draw = self.seen, self.draw
            self.samples = await asyncio.to_thread(
                errand.run, lambda: data.page(view, part, positions, seen=seen, draw=draw, errand=errand)
            )
        except CalledOff:
            self._busy = ""
            return
        except StudioError as error:
            self._busy = ""
            self._say(str(error), wrong=True)
            return
        self.order, self._busy, self._trouble = order, "", ""
        body = self.query_one("#browse-body").content_size
        at = min(max(self._gallery.selected, 0), len(self.samples) - 1)
        task = "class" if view.source.task == "classification" else "target"
        self._gallery.show(self.samples, view.source.columns, body.width, body.height, selected=at, label=task)
        self.query_one("#browse-body", VerticalScroll).scroll_home(animate=False)
        self._describe()

    async def _counts(self) -> list[tuple[str, int]]:
        """Each class of the part with its samples."""
        source = self._view.source
        errand = self._errand = self._desk.data.begin("browse", Errand())
        try:
            counts = await asyncio.to_thread(errand.run, lambda: self._desk.data.counts(self._view, self.part, errand))
        except StudioError:
            counts = [0] * source.outputs
        names = source.classes or tuple(map(str, range(source.outputs)))
        return list(zip(names, counts, strict=False))

    def _label_text(self) -> str:
        names = self._view.source.classes
        if self.label is None:
            return _EVERY
        return names[self.label] if self.label < len(names) else str(self.label)

    def _describe(self) -> None:
        """Which page this is, and all that is known of the marked sample."""
        last = self.first + len(self.samples)
        where = f"{self.first + 1:,}–{last:,} of {len(self.order):,}" if self.samples else "no samples"
        ways = ["as the model sees them" if self.seen else "as they are"]
        if self.seen and self.check_action("draw", ()):
            ways[0] += f", draw {self.draw + 1}"
        if self.odd:
            ways.append("oddest first")
        text = f" {self._view.source.name} · {self.part} · {self._label_text()} · {where} · {' · '.join(ways)}"
        self.query_one("#browse-head", Static).update(text, layout=False)  # all would be painted again
        at = self._gallery.selected
        self._say(sample_text(self.samples[at]) if 0 <= at < len(self.samples) else "", wrong=False)

    def _say(self, text: str, *, wrong: bool) -> None:
        self._trouble = text if wrong else ""
        line = self.query_one("#browse-line", Static)
        line.set_class(wrong, "-wrong")
        line.update(f"✗ {text}" if wrong else text, layout=False)

    def _tick(self) -> None:
        if self._busy and self._errand is not None:
            text = self._errand.text or self._busy
            text = f"{text} · escape ends it" if self._errand.text else text
            self.query_one("#browse-line", Static).update(text, layout=False)


def sample_text(sample: Sample) -> str:
    """`#1234  seven  digits/7/12.png`, and what can't be read of it."""
    parts = [f"#{sample.number}", sample.label, sample.place]
    if sample.boxes:
        parts.append(", ".join(box.label for box in sample.boxes[:8]))
    if sample.trouble:
        parts.append(f"✗ {sample.trouble}")
    return "  ".join(filter(None, parts))
