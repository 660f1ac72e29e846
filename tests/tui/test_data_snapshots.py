"""How the dialogs of data look, frozen at the three sizes the studio is made for. `make snapshots` takes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_format import made_format, pictures, recipe_of
from test_snapshots import SIZES, StillApp, settle
from textual.pilot import Pilot
from textual.widgets import Input

from tui.dialogs.data.effect import Effect
from tui.widgets.canvas import Canvas


async def _still(pilot: Pilot[Any]) -> None:
    """Wait until what is drawn in threads is there."""
    for _ in range(200):
        await pilot.pause(0.05)
        canvases = list(pilot.app.screen.query(Canvas))
        if all(canvas.text for canvas in canvases if isinstance(canvas, Effect) or canvas.display):
            break
    for field in pilot.app.screen.query(Input):
        field.cursor_blink = False
    await pilot.pause(0.5)


SMALL = SIZES[:1]  # these are as large on every screen


@pytest.mark.parametrize(
    ("keys", "size"),
    [(key, size) for key in "va" for size in SIZES] + [(key, size) for key in "zi" for size in SMALL],
    ids=lambda value: (
        {"v": "browse", "a": "steps", "z": "mean", "i": "split"}.get(value)
        if isinstance(value, str)
        else f"{value[0]}x{value[1]}"
    ),
)
def test_dialogs_of_data(snap_compare: Callable[..., bool], keys: str, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press("3", keys)
        await _still(pilot)

    assert snap_compare(StillApp(), terminal_size=size, run_before=before)


@pytest.mark.parametrize("kind", ["masks", "boxes", "table", "text", "sound"])
def test_samples_of_every_kind(snap_compare: Callable[..., bool], kind: str, tmp_path: Path) -> None:
    recipe = recipe_of(pictures(tmp_path / "made"), kind, task={"masks": "segmentation"}.get(kind, "classification"))

    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press("3", "v")
        await _still(pilot)

    with made_format():
        assert snap_compare(StillApp(recipe=recipe), terminal_size=(100, 30), run_before=before)
