"""Opening slow data holds the studio up for no noticeable time, and what nobody waits for any more ends."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from made_format import made_format, pictures, recipe_of
from studio_driver import studio

from engine.data.samples import Progress
from presets import load
from tui.dialogs.data.browse import BrowseScreen
from tui.draft import Draft
from tui.looking import CalledOff, Errand

_SLOW_S = 0.25  # what each sample takes to be read
_STALL_S = 0.05


@pytest.fixture(autouse=True)
def _made() -> Iterator[None]:
    with made_format():
        yield


@dataclass
class Stalls:
    """The longest call that the event loop made, computing, and the longest time between two turns on the wall."""

    computing: float = 0.0
    waiting: float = 0.0


@asynccontextmanager
async def watched() -> AsyncIterator[Stalls]:
    """Calls of the event loop while the body runs. Other processes make the wall's clock jump, not the thread's."""
    stalls, run = Stalls(), asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        stalls.computing = max(stalls.computing, time.thread_time() - began)

    async def watch() -> None:
        while True:
            waited = time.monotonic()
            await asyncio.sleep(0.002)
            stalls.waiting = max(stalls.waiting, time.monotonic() - waited)

    watcher = asyncio.create_task(watch())
    with patch.object(asyncio.Handle, "_run", timed):
        yield stalls
    watcher.cancel()


async def test_opening_slow_data_never_holds_the_studio_up(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    slow = recipe_of(folder, options={"slow": _SLOW_S})
    async with studio(tmp_path / "runs", recipe=recipe_of(folder)) as opened:
        await opened.press("3")
        screen = opened.screen
        async with watched() as stalls:
            screen.edit(lambda: screen.draft.replace(slow))
            await opened.until(lambda: "made: " in opened.text("#data-body"), "how far it is", pause=0.01)
            await opened.until(lambda: screen.preview is not None, "the samples", pause=0.01)
            await opened.pilot.pause(0.2)
        async with watched() as usual:  # what it takes this machine to lay out and paint the studio once
            screen.refresh(layout=True)
            await opened.pilot.pause(0.1)
        assert stalls.computing < max(_STALL_S, 3 * usual.computing)
        assert stalls.waiting < _SLOW_S, "a sample was read in the screen's own thread"

        async with watched() as stalls:
            await asyncio.sleep(0.01)
            screen.preview.view.page("val", [0])  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        assert stalls.waiting > _SLOW_S


async def test_pages_of_samples_and_a_whole_one_open_without_holding_up_a_large_screen(tmp_path: Path) -> None:
    recipe = recipe_of(pictures(tmp_path / "p", 40))
    async with studio(tmp_path / "runs", (200, 60), recipe=recipe) as opened:
        await opened.until(lambda: opened.screen.preview is not None, "the samples")
        await opened.pilot.pause(0.5)
        for key in ("3", "v", "enter", "escape"):
            async with watched() as stalls:
                await opened.press(key)
                await opened.pilot.pause(0.4)
            async with watched() as usual:
                opened.app.screen.refresh(layout=True)
                await opened.pilot.pause(0.1)
            assert stalls.computing < max(_STALL_S, 2 * usual.computing), key


async def test_reading_ends_by_escape_and_when_the_recipe_goes_on_to_other_data(tmp_path: Path) -> None:
    endless = recipe_of(pictures(tmp_path / "p"), options={"slow": 0.02, "steps": 100_000})
    async with studio(tmp_path / "runs") as opened:
        screen = opened.screen
        screen.edit(lambda: screen.draft.replace(endless))
        await opened.until(lambda: "escape ends it" in opened.text("#data-body"), "the reading")
        errand = screen._errand
        await opened.press("escape")
        assert errand is not None
        await opened.until(lambda: not errand.busy, "the end of the reading", seconds=5)
        assert "You ended the reading: R reads it" in opened.text("#data-body")
        assert screen.draft.recipe == endless
        await opened.press("R")
        await opened.until(lambda: screen.reads, "the reading anew")
        errand = screen._errand
        assert errand is not None
        screen.action_undo()
        await opened.until(lambda: not errand.busy, "the end of the reading", seconds=5)
        assert errand.cancelled
        await opened.until(lambda: screen.checked and screen.checked.recipe == screen.draft.recipe, "the check")
        assert screen.checked is not None
        assert screen.checked.problems == ()


async def test_an_edit_of_something_else_does_not_begin_the_reading_anew(tmp_path: Path) -> None:
    slow = recipe_of(pictures(tmp_path / "p"), options={"slow": 0.1, "steps": 10})
    async with studio(tmp_path / "runs") as opened:
        screen = opened.screen
        screen.edit(lambda: screen.draft.replace(slow))
        await opened.until(lambda: screen._errand is not None and screen._errand.busy, "the reading")
        errand = screen._errand
        for epochs in (3, 4, 5):
            screen.edit(lambda epochs=epochs: screen.draft.set("training.epochs", epochs))  # type: ignore[misc]
            await opened.pilot.pause(0.05)
        assert screen._errand is errand
        await opened.until(lambda: screen.preview is not None, "the samples")
        assert errand is not None
        assert not errand.cancelled


async def test_samples_do_not_lie_in_memory_twice_while_a_run_trains(tmp_path: Path) -> None:
    async with studio(tmp_path / "runs", recipe=load("line-fit").recipe.override({"training.epochs": 1})) as opened:
        screen = opened.screen
        view = weakref.ref(screen.preview.view)  # type: ignore[union-attr, arg-type]
        await opened.press("t")
        await opened.until_state("done")
        gc.collect()
        assert view() is None
        await opened.press("3", "v")
        await opened.until(lambda: screen.preview is not None and screen.preview.view is not None, "the samples again")


async def test_a_search_for_the_oddest_ends_by_escape(tmp_path: Path) -> None:
    recipe = recipe_of(pictures(tmp_path / "p", 40), options={"slow": 0.02})
    async with studio(tmp_path / "runs", recipe=recipe) as opened:
        await opened.press("3", "v")
        browse = opened.app.screen
        assert isinstance(browse, BrowseScreen)
        await opened.until(lambda: browse.samples, "the samples")
        reads = []
        browse._view.order = lambda *given: _endless(reads, given[-1])  # type: ignore[method-assign]
        await opened.press("o")
        await opened.until(lambda: len(reads) > 3, "the search")
        del browse._view.order
        await opened.press("escape")
        await opened.until(lambda: not browse._busy and not browse.odd, "the end of the search")
        assert opened.app.screen is browse
        assert browse.samples


def _endless(reads: list[int], progress: Progress) -> list[int]:
    while True:
        reads.append(len(reads))
        progress("samples compared", len(reads), 0)
        time.sleep(0.005)


def test_an_errand_that_is_called_off_ends_when_it_next_tells_how_far_it_is() -> None:
    errand = Errand()
    errand.progress("files", 1, 3)
    assert errand.text == "files: 1 of 3"
    errand.cancel()
    with pytest.raises(CalledOff):
        errand.progress("files", 2, 3)


def test_a_new_errand_of_a_kind_calls_the_last_one_off() -> None:
    from tui.looking import Looking

    looking = Looking()
    first, other = looking.begin("read", Errand()), looking.begin("measure", Errand())
    looking.begin("read", Errand())
    assert first.cancelled
    assert not other.cancelled


def test_files_of_ones_own_are_split_alike_and_other_datas_constants_are_forgotten(tmp_path: Path) -> None:
    from engine.data.sources import Source, find

    draft = Draft("digits-mlp", load("digits-mlp").recipe)
    table = Source("t", "", "classification", (3,), 2, {"all": 9}, "yours", path=str(tmp_path))
    draft.choose_data(table, {"path": str(tmp_path), "format": "table", "options": {"target": "x"}})
    data = draft.recipe.data
    assert (data.split.how, data.format, data.options) == ("stratified", "table", {"target": "x"})
    assert [part.name for part in data.transforms] == ["Standardize"]
    draft.choose_data(find("mnist5k"), {"name": "mnist5k"})
    data = draft.recipe.data
    assert (data.name, data.path, data.format, data.options) == ("mnist5k", "", "auto", {})
    words = Source("w", "", "classification", (9,), 2, {"all": 9}, "yours", vocabulary=5)
    draft.choose_data(words, {"path": str(tmp_path), "format": "text"})
    assert draft.recipe.data.transforms == ()
    for _ in range(3):
        draft.undo()
    assert draft.recipe == load("digits-mlp").recipe
