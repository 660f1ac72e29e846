"""The dataset: its sizes, how its classes are balanced, and a few of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.widgets import Static

from engine.data.sources import HUGGING_FACE, Source
from tui.panes.data_text import below, describe
from tui.panes.pane import Pane
from tui.widgets.gallery import Gallery

if TYPE_CHECKING:
    from engine.data.preview import Preview, Sample

Request = Literal["choose", "files", "options", "download", "browse", "steps", "measure", "split", "fit"]


class DataPane(Pane):
    """Shows a dataset's description at once and its samples when they are loaded."""

    BORDER_TITLE = "Data [dim]3[/]"
    HELP = (
        "What the model learns from. `o` chooses a dataset, `O` reads files of your own. `v` shows every sample, raw or"
        " as the model sees it; `n` and `p` turn pages here. `a` is for transforms and augmentation, `z` measures mean"
        " and deviation, `i` is for the split and for bad samples. A dataset that must be downloaded says so; `d`"
        " fetches it without training."
    )
    BINDINGS = [
        Binding("enter,o", "ask('choose')", "Choose", tooltip="Train on another dataset", id="data.choose"),
        Binding("O", "ask('files')", "Files", tooltip="Train on files of your own", id="data.files", show=False),
        Binding("v", "ask('browse')", "View", tooltip="Look at all samples, page by page", id="data.browse"),
        Binding("a", "ask('steps')", "Steps", tooltip="Transforms and augmentation", id="data.steps"),
        Binding("d", "ask('download')", "Download", tooltip="Fetch this dataset now", id="data.download"),
        Binding("e", "ask('options')", "Options", tooltip="What this dataset takes", id="data.options"),
        # No more stand in the footer: what all panes have must have room there at 80 columns.
        Binding(
            "z", "ask('measure')", "Mean", tooltip="Mean and deviation of each channel", id="data.measure", show=False
        ),
        Binding(
            "i", "ask('split')", "Split", tooltip="Parts, folds, sampling, bad samples", id="data.split", show=False
        ),
        Binding("F", "ask('fit')", "Fit", tooltip="Fit the model to this data", id="data.fit", show=False),
        Binding("n", "turn(1)", "Next", tooltip="The next samples", id="data.next", show=False),
        Binding("p", "turn(-1)", "Previous", tooltip="The samples before", id="data.previous", show=False),
    ]

    class Asked(Message):
        """The person wants something done with the dataset."""

        def __init__(self, request: Request) -> None:
            self.request = request
            super().__init__()

    class Turned(Message):
        """The person wants the page that begins at the training sample `first`, of `count` samples."""

        def __init__(self, first: int, count: int) -> None:
            self.first, self.count = first, count
            super().__init__()

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._source: Source | None = None
        self._sizes: Mapping[str, int] = {}
        self._preview: Preview | None = None
        self._note = ""
        self._turned: Sequence[Sample] = ()
        self._first: int | None = None
        self._per_page = 1
        self._heights: dict[str, int] = {}

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="data-scroll"):
            yield Static(id="data-body")
            yield Gallery(captions=1, id="data-samples")
            yield Static(id="data-more")

    def show(self, source: Source | None, sizes: Mapping[str, int], preview: Preview | None, note: str = "") -> None:
        """Show a dataset; `preview` when it is loaded, `note` says what is going on or wrong."""
        shown = (source, dict(sizes), preview, note)
        if shown == (self._source, dict(self._sizes), self._preview, self._note):
            return
        if preview is not self._preview:
            self._first, self._turned = None, ()
        # Not at each word of how far a reading is: the footer would be made anew, and the whole screen laid out.
        other = source is not self._source or preview is not self._preview or bool(note) != bool(self._note)
        self._source, self._sizes, self._preview, self._note = shown
        self._draw()
        if other:
            self.refresh_bindings()

    def note(self, text: str) -> None:
        """Say what is going on with the dataset that is shown."""
        if self._source is not None:
            self.show(self._source, self._sizes, self._preview, text)

    def show_page(self, first: int, samples: Sequence[Sample]) -> None:
        """Show the training samples from `first` on."""
        self._first, self._turned = first, samples
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what is not there can be downloaded, only one's own has options, only what is read is looked at."""
        source = self._source
        if action == "turn":
            return self._preview is not None
        if action != "ask" or source is None:
            return True
        request = parameters[0] if parameters else ""
        if request == "options":
            return source.origin == "yours" or bool(source.options) or source.name.startswith(HUGGING_FACE)
        if request == "download":
            return not source.ready
        if request == "measure":
            return self._preview is not None and not source.vocabulary
        return self._preview is not None if request in ("browse", "steps") else True

    def action_ask(self, request: Request) -> None:
        """Tell what the person wants."""
        self.post_message(self.Asked(request))

    def action_turn(self, by: int) -> None:
        """Ask for the next page, or the one before; before the first stands the choice of one of each class."""
        total = self._sizes.get("train", 0)
        first = 0 if self._first is None and by > 0 else (self._first or 0) + by * self._per_page
        if first < 0 and self._first is not None:
            self._first, self._turned = None, ()
            self._draw()
        elif 0 <= first < total:
            self.post_message(self.Turned(first, self._per_page))

    def on_resize(self, event: Resize) -> None:
        """Samples are drawn to fit."""
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted or self._source is None:
            return
        scroll = self.query_one("#data-scroll", VerticalScroll)
        width, height = max(scroll.size.width - 1, 20), max(self.size.height - 2, 6)
        text = describe(self._source, self._sizes, self._preview, self._note, width, height)
        gallery = self.query_one(Gallery)
        used = _rows(text, width)
        self._put("#data-body", text, used)
        more = below(self._preview, width, height)
        self._put("#data-more", more, _rows(more, width))
        rows = max(height - used - 1, 5)
        preview = self._preview
        samples = () if preview is None else self._turned or preview.samples
        if samples:
            self._per_page = gallery.fits(samples[0], width, rows)
        label = "class" if self._source.task == "classification" else "target"
        gallery.show(samples, preview.source.columns if preview else (), width, rows, label=label)
        self.border_subtitle = self._page_text()

    def _put(self, selector: str, text: Text, rows: int) -> None:
        """Show a text; only one of another height has Textual lay out the whole studio anew, which takes 30 ms."""
        place = self.query_one(selector, Static)
        broken = rows > len(text.plain.splitlines())  # where lines are broken between words, rows are a guess
        place.update(text, layout=broken or rows != self._heights.get(selector))
        self._heights[selector] = -1 if broken else rows

    def _page_text(self) -> str:
        if self._preview is None or not self._preview.samples:
            return ""
        if self._first is None:
            return "n more · v all"
        last = self._first + len(self._turned)
        return f"{self._first + 1:,}–{last:,} of {self._sizes.get('train', 0):,} · n p"


def _rows(text: Text, width: int) -> int:
    """The rows that a text takes."""
    return sum(max(1, -(-len(line) // width)) for line in text.plain.splitlines())
