"""The list of runs: which of them can be compared, in as many columns as have room."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App
from textual.widgets import DataTable, Static

from engine.runs.directory import RunDirectory
from engine.runs.validation import Validation
from engine.runs.writer import MetricsWriter
from presets import load
from tui.dialogs.runs import RunsScreen


def made(root: Path, name: str, digest: str) -> str:
    directory = RunDirectory.create(root, name, load("line-fit").recipe, "cpu")
    summary = {"metric": "accuracy", "best": 0.9123, "best_epoch": 1}
    facts = {"state": "stopped", "summary": summary, **Validation(1200, digest, "things", 2, 5, digest).facts()}
    MetricsWriter(directory.metrics_file, print, facts).close()
    return directory.name


@pytest.mark.parametrize(("width", "columns"), [(80, 4), (120, 6), (40, 1)])
async def test_what_matters_to_a_comparison_has_room_and_the_line_says_the_rest(
    width: int, columns: int, tmp_path: Path
) -> None:
    names = [made(tmp_path, "a-long-name-of-a-run-of-mine", digest) for digest in "112"]
    app: App[None] = App()
    async with app.run_test(size=(width, 20)) as pilot:
        await app.push_screen(RunsScreen(tmp_path))
        await app.workers.wait_for_complete()
        await pilot.pause()
        table = app.screen.query_one(DataTable)
        assert len(table.columns) >= columns
        assert table.virtual_size.width <= table.size.width or columns == 1
        cells = table.get_row(names[0])
        assert columns == 1 or cells[3] == "A fold 2"
        table.move_cursor(row=table.get_row_index(names[0]))
        await pilot.pause()
        said = str(app.screen.query_one("#runs-line", Static).content)
        assert (
            f"fold 2 of 0…4, validated on the same 1,200 samples as {names[1]}; on other samples than {names[2]}"
            in said
        )
        assert ("started" in said) == (columns < 6)
