"""What the commands that only look print: presets, runs, one run. Loads no torch, but to show a preset's model."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from engine.durations import clock
from engine.errors import StudioError
from tui.commands.complaints import complain
from tui.commands.json_report import summary_values, to_json
from tui.commands.reports import result_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from engine.recipe import Part, Recipe
    from engine.runs.directory import RunDirectory, RunStatus
    from engine.runs.history import History
    from presets import Preset

Cell: TypeAlias = "str | Text"
Row: TypeAlias = "tuple[Cell, ...]"

_LEAST_LAST = 24  # cells; a sentence in less is no sentence
_PIPED_WIDTH = 1000  # whoever reads a pipe wants whole lines
_CHART_WIDTH, _CHART_HEIGHT = 100, 14
_LOG_LINES = 8
_STATE_COLOURS = {"done": "green", "failed": "red", "interrupted": "yellow", "stopped": "yellow", "unreadable": "red"}


def print_presets(presets: Sequence[Preset]) -> None:
    """Each family's presets, a line each: name, whether it needs a download, what it is about."""
    rows: list[Row] = []
    for family, members in groupby(presets, key=lambda preset: preset.family):
        rows += [(), (_bold(family),)]
        rows += [(f"  {one.name}", download_text(one.recipe), one.recipe.about) for one in members]
    _print_rows(("name", "data", "about"), rows)
    print("\nTrain one: torch-tui train NAME · Look at one: torch-tui presets NAME")


def print_preset(preset: Preset) -> None:
    """A preset's file, as it is, and its model with every shape."""
    from engine.check import check  # loads torch, which takes 1.7 s
    from engine.models.layers import shape_text

    print(preset.path.read_text(encoding="utf-8").rstrip())
    checked = check(preset.recipe)
    if checked.source is not None:
        sizes = " · ".join(f"{count:,} {part}" for part, count in checked.sizes.items())
        print(f"\ndata   {checked.source.name}: {checked.source.about} {sizes} ({download_text(preset.recipe)})")
    print()
    rows: list[Row] = [(row.name, shape_text(row.output), f"{row.parameters:,}", row.settings) for row in checked.rows]
    rows.append((_bold("in all"), "", f"{checked.parameters:,}"))
    _print_rows(("layer", "output", "parameters", "settings"), rows, numbers=("parameters",))
    for problem in checked.problems:
        complain(problem)


def download_text(recipe: Recipe) -> str:
    """Whether the recipe's data must be fetched, and how much it is."""
    from engine.data.sources import sources

    source = sources().get(recipe.data.name)
    if source is None or source.origin != "download":
        return "no download"
    return f"{source.download_mb:,} MB, here" if source.ready else f"{source.download_mb:,} MB download"


def print_runs(root: Path) -> None:
    """All runs under `root`, the newest first, a line each."""
    rows = list(_run_rows(root))
    if not rows:
        print(f"There are no runs in {root} yet. Train one: torch-tui train digits-mlp")
        return
    names = ("run", "state", "best", "epoch", "time", "started")
    # A run's name ends with the moment at which it was made: where room is short, that will do.
    fits = _least_width(names, rows) <= _width()
    columns = len(names) if fits else len(names) - 1
    _print_rows(names[:columns], [row[:columns] for row in rows], numbers=("epoch", "time"))


def print_runs_json(root: Path) -> None:
    """One JSON object a run: name, directory, state, reason, title, task, epoch, epochs, started, and its summary."""
    from engine.runs.directory import all_runs

    for directory in all_runs(root):
        print(to_json(_run_values(directory)))


def print_run_json(directory: RunDirectory) -> None:
    """What `runs --json` says of it, with the recipe, the events and the last value of each curve."""
    history = directory.history()
    last = {name: {"step": series.last_step, "value": series.last} for name, series in history.series.items()}
    events = [{"step": event.step, "kind": event.kind, "text": event.text} for event in history.events]
    print(to_json({**_run_values(directory), "recipe": directory.recipe().values(), "last": last, "events": events}))


def print_run(directory: RunDirectory) -> None:
    """Recipe, result, curves and the log's last lines."""
    recipe, status, history = directory.recipe(), directory.status(), directory.history()
    _print_rows((), [(_bold(label), text) for label, text in _facts_of(directory, recipe, status)])
    for chart in _charts(history):
        print(f"\n{chart}")
    if history.log:
        print("\nlog")
        lines = [_printable(line).partition("  ") for line in list(history.log)[-_LOG_LINES:]]
        _print_rows((), [(moment, text) for moment, _, text in lines])


def _run_rows(root: Path) -> Iterator[Row]:
    """(name, state, best, epoch, time, started) of each run."""
    from engine.runs.directory import all_runs

    for directory in all_runs(root):
        try:
            status, recipe = directory.status(), directory.recipe()
        except StudioError:
            yield directory.name, _state("unreadable"), "", "", "", ""
            continue
        best = status.summary and status.summary.best
        yield (
            directory.name,
            _state(status.state),
            f"{status.summary.metric} {best:.4g}" if status.summary and best is not None else "–",
            f"{_epochs_done(status, recipe)}/{recipe.training.epochs}",
            _time_text(status),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(status.started)) if status.started else "–",
        )


def _run_values(directory: RunDirectory) -> dict[str, Any]:
    values: dict[str, Any] = {"name": directory.name, "directory": str(directory.path)}
    try:
        status, recipe = directory.status(), directory.recipe()
    except StudioError as error:
        return {**values, "state": "unreadable", "reason": str(error)}
    return {
        **values,
        "state": status.state,
        "reason": status.reason,
        "title": recipe.title,
        "task": recipe.task,
        "epoch": _epochs_done(status, recipe),
        "epochs": recipe.training.epochs,
        "started": status.started or None,
        **summary_values(status.summary),
    }


def _facts_of(directory: RunDirectory, recipe: Recipe, status: RunStatus) -> Iterator[tuple[str, Cell]]:
    """(label, text) of all that is said about a run in a line."""
    from rich.text import Text

    yield "run", str(directory.path)
    yield "state", Text.assemble(_state(status.state), f": {status.reason}" if status.reason else "")
    yield "epochs", f"{_epochs_done(status, recipe)} of {recipe.training.epochs}"
    if status.started:
        yield "started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started))
    if status.summary is not None:
        yield from result_lines(status.summary)
    yield "recipe", " · ".join(filter(None, (recipe.title, recipe.task)))
    yield "data", f"{recipe.data.name or recipe.data.python}, {recipe.data.batch_size} a batch"
    model = recipe.model
    yield "model", model.zoo or model.python or " → ".join(_part_text(layer) for layer in model.layers)
    yield "loss", _part_text(recipe.loss)
    yield "optimizer", _part_text(recipe.optimizer)
    if recipe.scheduler is not None:
        yield "scheduler", f"{_part_text(recipe.scheduler)} every {recipe.scheduler.every}"
    settings = recipe.training
    yield "training", f"seed {settings.seed}, {settings.precision}, device {settings.device}"


def _charts(history: History) -> Iterator[str]:
    """A chart of the loss and one of the metric that the run is about, training and validation together."""
    from tui.charts.line import Line
    from tui.charts.text_chart import chart_text

    for metric in ["loss", *([history.summary.metric] if history.summary else [])]:
        # A metric that means nothing on a single batch has no curve over steps, only one over epochs.
        trained = f"train/{metric}" if f"train/{metric}" in history.series else f"epoch/{metric}"
        parts = ((trained, "train", "primary", False), (f"val/{metric}", "val", "warning", True))
        lines = [
            Line(label, *history.series[name].curve(), colour, points)
            for name, label, colour, points in parts
            if name in history.series
        ]
        yield chart_text(metric, lines, min(_width(), _CHART_WIDTH), _CHART_HEIGHT, colour=_colourful())


def _epochs_done(status: RunStatus, recipe: Recipe) -> int:
    """Whole epochs behind the run; what it notes is the epoch that it began last."""
    return recipe.training.epochs if status.state == "done" else int(status.facts.get("epoch", 0))


def _time_text(status: RunStatus) -> str:
    return "–" if status.summary is None else clock(status.summary.seconds)


def _part_text(part: Part) -> str:
    """`Linear(out_features=10)`."""
    settings = ", ".join(f"{name}={value}" for name, value in part.parameters.items())
    return f"{part.name}({settings})" if settings else part.name


def _printable(line: str) -> str:
    """`line` without what would move the cursor: a model's own words may be in it."""
    return "".join(character if character.isprintable() else " " for character in line)


def _state(state: str) -> Text:
    from rich.text import Text

    return Text(state, _STATE_COLOURS.get(state, ""))


def _bold(text: str) -> Text:
    from rich.text import Text

    return Text(text, "bold")


def _print_rows(headings: Sequence[str], rows: Sequence[Row], numbers: Sequence[str] = ()) -> None:
    """Aligned columns, of which the last is broken where it does not fit; on a very narrow screen, a block a row."""
    from rich.padding import Padding
    from rich.table import Table  # 60 ms that `torch-tui --help` need not wait for
    from rich.text import Text

    console = _console()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(headings), header_style="bold")
    count = max(len(row) for row in rows)
    for place in range(count):
        heading = headings[place] if headings else ""
        side: Literal["left", "right"] = "right" if heading in numbers else "left"
        table.add_column(heading, justify=side, no_wrap=place < count - 1, overflow="fold")
    for row in rows:
        table.add_row(*row)
    with console.capture() as capture:
        if _least_width(headings, rows) <= console.width:
            console.print(table)
        else:
            for first, *rest in (row or ("",) for row in rows):
                console.print(first)
                block = Text(" · ").join(Text.assemble(cell) for cell in rest if cell)
                console.print(*([Padding(block, (0, 0, 0, 4))] if block else []), end="")
    for line in capture.get().splitlines():
        print(line.rstrip())


def _least_width(headings: Sequence[str], rows: Sequence[Row]) -> int:
    """The cells that the columns need side by side, the last of them broken if it is long."""
    from rich.cells import cell_len

    columns = zip_longest(headings, *rows, fillvalue="")
    *widths, last = [max(cell_len(str(cell)) for cell in column) for column in columns]
    return sum(width + 2 for width in widths) + min(last, _LEAST_LAST)


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _width() -> int:
    return _console().width


def _colourful() -> bool:
    console = _console()
    return console.color_system is not None and not console.no_color
