"""What the commands that only look print: presets, runs, one run. Loads no torch, but to show a preset's model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.durations import clock
from engine.errors import RunError, StudioError
from tui.charts.diagram import diagram
from tui.commands.complaints import complain
from tui.commands.json_report import summary_values, to_json
from tui.commands.reports import result_lines
from tui.commands.rows import Cell, Row, bold, colourful, least_width, print_rows, width
from tui.widgets.amounts import bytes_text, count_text

if TYPE_CHECKING:
    from rich.text import Text

    from engine.check import Checked
    from engine.models.rows import LayerRow
    from engine.recipe import Part, Recipe
    from engine.runs.directory import RunDirectory, RunStatus
    from engine.runs.history import History
    from engine.runs.validation import Validations
    from presets import Preset
    from presets.own import Broken

_CHART_WIDTH, _CHART_HEIGHT = 100, 14
_LOG_LINES = 8
_LEAST_COLUMNS = 4  # run, state, best and split, of the columns of runs
_PHASES = "time: "
_STATE_COLOURS = {"done": "green", "failed": "red", "interrupted": "yellow", "stopped": "yellow", "unreadable": "red"}


def print_presets(presets: Sequence[Preset | Broken]) -> None:
    """Each family's presets, a line each: name, whether it needs a download, what it is about, or why it is broken."""
    from presets.own import FAMILY, Broken

    rows: list[Row] = []
    for family, members in groupby(presets, key=lambda one: FAMILY if isinstance(one, Broken) else one.family):
        rows += [(), (bold(family),)]
        for one in members:
            if isinstance(one, Broken):
                rows.append((f"  {one.name}", "broken", _printable(one.reason)))
            else:
                rows.append((f"  {one.name}", download_text(one.recipe), one.recipe.about))
    print_rows(("name", "data", "about"), rows)
    print("\nTrain one: torch-tui train NAME · Look at one: torch-tui presets NAME")


def print_preset(preset: Preset) -> None:
    """A preset's file, as it is, and its model with every shape."""
    from engine.check import check  # loads torch, which takes 1.7 s

    print(preset.path.read_text(encoding="utf-8").rstrip())
    checked = check(preset.recipe)
    print()
    print_checked(checked)
    for problem in checked.problems:
        complain(problem)


def print_checked(checked: Checked, *, drawn: bool = False) -> None:
    """The data's parts with their sizes, and the model's layers with their shapes and costs, or `drawn` as blocks."""
    if checked.source is not None:
        sizes = " · ".join(f"{count:,} {part}" for part, count in checked.sizes.items())
        print(f"data   {checked.source.name}: {checked.source.about} {sizes} ({download_text(checked.recipe)})\n")
    if drawn:
        print("\n".join(diagram(checked.rows)))
        return
    batch = max(1, checked.recipe.data.batch_size // checked.recipe.training.accumulate)
    rows = [_layer_row(row, batch) for row in checked.rows]
    outermost = [row for row in checked.rows if row.outermost]
    flops, kept = sum(row.flops for row in outermost), sum(row.kept for row in outermost)
    rows.append((bold("in all"), "", f"{checked.parameters:,}", f"{count_text(flops)}", bytes_text(kept * batch)))
    names = ("layer", "output", "parameters", "FLOP", f"kept for {batch}", "settings")
    print_rows(names, rows, numbers=names[2:5])


def _layer_row(row: LayerRow, batch: int) -> Row:
    from engine.models.rows import shape_text  # loads torch, which is there by now

    costs = count_text(row.flops) if row.flops else "", bytes_text(row.kept * batch) if row.kept else ""
    name = "  " * (len(row.path) - 1) + row.name
    return name, shape_text(row.output), f"{row.parameters:,}", *costs, row.settings


def download_text(recipe: Recipe) -> str:
    """Whether the recipe's data must be fetched, and how much it is."""
    from engine.data.sources import glimpse

    source = glimpse(recipe.data.name)
    if source is None or source.origin != "download":
        return "no download"
    if not source.download_mb:
        return "here" if source.ready else "a download"
    return f"{source.download_mb:,} MB, here" if source.ready else f"{source.download_mb:,} MB download"


def print_runs(root: Path) -> None:
    """All runs under `root`, the newest first, a line each, and what the folds of a recipe came to."""
    from engine.runs.directory import all_runs

    found = list(all_runs(root))
    validations = _validations(found)
    rows = [_run_row(directory, validations) for directory in found]
    if not rows:
        print(f"There are no runs in {root} yet. Train one: torch-tui train digits-mlp")
        return
    names = ("run", "state", "best", "split", "epoch", "time", "started")
    # A run's name ends with the moment at which it was made: where room is short, that will do.
    columns = len(names)
    while columns > _LEAST_COLUMNS and least_width(names[:columns], [row[:columns] for row in rows]) > width():
        columns -= 1
    print_rows(names[:columns], [row[:columns] for row in rows], numbers=("epoch", "time"))
    if len({row[names.index("split")] for row in rows} - {""}) > 1:
        print("\nsplit: best values with the same letter were measured on the same samples, others can't be compared")
    for newest, folds in validations.all_folds():
        print(f"{folds}  ({newest})")


def print_runs_json(root: Path) -> None:
    """One JSON object a run: name, directory, state, reason, title, task, epoch, epochs, started, and its summary.

    `validation` is what it was validated on: samples, digest (the same for the same samples), data, fold, folds, recipe
    (the same for folds of one recipe). `folds` are those of its recipe that are done: metric, numbers, of, mean,
    deviation. Both are null where there is none.
    """
    from engine.runs.directory import all_runs

    found = list(all_runs(root))
    validations = _validations(found)
    for directory in found:
        print(to_json(_run_values(directory, validations)))


def print_run_json(directory: RunDirectory) -> None:
    """What `runs --json` says of it, with recipe, origin, phases, events and the last value of each curve.

    `origin` is what a branch began at (run, path, checkpoint, step), `phases` says where the time went; null where
    there is none. Averaged weights have curves of their own: val-average/…, test-average/….
    """
    history = directory.history()
    last = {name: {"step": series.last_step, "value": series.last} for name, series in history.series.items()}
    events = [{"step": event.step, "kind": event.kind, "text": event.text} for event in history.events]
    values = {
        **_run_values(directory, _beside(directory)),
        "recipe": directory.recipe().values(),
        "origin": directory.status().facts.get("origin"),
        "phases": _phases(history),
        "last": last,
        "events": events,
    }
    print(to_json(values))


def print_checkpoints(directory: RunDirectory) -> None:
    """A run's checkpoints, the oldest first, a line each. Raises RunError where there are none."""
    from engine.devices.memory import size_text  # loads torch, which takes 1.7 s

    rows: list[Row] = []
    for values in _checkpoints(directory):
        score = "–" if values["score"] is None else f"{values['score']:.4g}"
        marks = " ".join(mark for mark in ("best", "last") if values[mark])
        size = size_text(values["bytes"])
        rows.append((values["name"], str(values["epoch"]), f"{values['step']:,}", score, size, marks))
    names = ("checkpoint", "epoch", "step", "score", "size", "marks")
    print_rows(names, rows, numbers=("epoch", "step", "score", "size"))


def print_checkpoints_json(directory: RunDirectory) -> None:
    """One JSON object a checkpoint: name, directory, epoch, step, score (greater is better), best, last, bytes."""
    for values in _checkpoints(directory):
        print(to_json(values))


def _checkpoints(directory: RunDirectory) -> Iterator[dict[str, Any]]:
    from engine.checkpoints.checkpoint import Checkpoints  # loads torch, which takes 1.7 s

    kept = Checkpoints(directory.checkpoints)
    found, best = kept.all(), kept.best()
    if not found:
        raise RunError(directory.name, "has no checkpoint that can be read", "Train its recipe anew.")
    for checkpoint in found:
        yield {
            "name": checkpoint.name,
            "directory": str(checkpoint.path),
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "score": checkpoint.score,
            "best": checkpoint == best,
            "last": checkpoint == found[-1],
            "bytes": sum(file.stat().st_size for file in checkpoint.path.iterdir()),
        }


def print_run(directory: RunDirectory) -> None:
    """Recipe, result, curves and the log's last lines."""
    recipe, status, history = directory.recipe(), directory.status(), directory.history()
    print_rows((), [(bold(label), text) for label, text in _facts_of(directory, recipe, status, history)])
    for chart in _charts(history, recipe.training.average.kind):
        print(f"\n{chart}")
    if history.log:
        print("\nlog")
        lines = [_printable(line).partition("  ") for line in list(history.log)[-_LOG_LINES:]]
        print_rows((), [(moment, text) for moment, _, text in lines])


def _validations(runs: Iterable[RunDirectory]) -> Validations:
    """What those of the runs that can be read were validated on."""
    from engine.runs.validation import Validations

    found = []
    for directory in runs:
        with suppress(StudioError):
            found.append(directory.status())
    return Validations(found)


def _beside(directory: RunDirectory) -> Validations:
    """The same of a run and those in its folder."""
    from engine.runs.directory import all_runs

    return _validations(all_runs(directory.path.resolve().parent))


def _run_row(directory: RunDirectory, validations: Validations) -> Row:
    """(name, state, best, split, epoch, time, started) of a run."""
    try:
        status, recipe = directory.status(), directory.recipe()
    except StudioError:
        return directory.name, _state("unreadable"), "", "", "", "", ""
    best = status.summary and status.summary.best
    return (
        directory.name,
        _state(status.state),
        f"{status.summary.metric} {best:.4g}" if status.summary and best is not None else "–",
        validations.mark(directory.name),
        f"{_epochs_done(status, recipe)}/{_epochs(status, recipe)}",
        _time_text(status),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(status.started)) if status.started else "–",
    )


def _run_values(directory: RunDirectory, validations: Validations) -> dict[str, Any]:
    values: dict[str, Any] = {"name": directory.name, "directory": str(directory.path)}
    try:
        status, recipe = directory.status(), directory.recipe()
    except StudioError as error:
        return {**values, "state": "unreadable", "reason": str(error)}
    validation, folds = validations.of(directory.name), validations.folds(directory.name)
    return {
        **values,
        "state": status.state,
        "reason": status.reason,
        "title": recipe.title,
        "task": recipe.task,
        "epoch": _epochs_done(status, recipe),
        "epochs": _epochs(status, recipe),
        "started": status.started or None,
        **summary_values(status.summary),
        "validation": asdict(validation) if validation else None,
        "folds": asdict(folds) if folds else None,
    }


def _facts_of(
    directory: RunDirectory, recipe: Recipe, status: RunStatus, history: History
) -> Iterator[tuple[str, Cell]]:
    """(label, text) of all that is said about a run in a line."""
    from rich.text import Text

    yield "run", str(directory.path)
    yield "state", Text.assemble(_state(status.state), f": {status.reason}" if status.reason else "")
    if origin := status.facts.get("origin"):
        yield "origin", f"{origin['run']}, {origin['checkpoint']}"
    yield "epochs", f"{_epochs_done(status, recipe)} of {_epochs(status, recipe)}"
    if status.started:
        yield "started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started))
    if status.summary is not None:
        yield from result_lines(status.summary)
    validations = _beside(directory)
    said = validations.about(directory.name), str(validations.folds(directory.name) or "")
    if any(said):
        yield "samples", " · ".join(filter(None, said))
    if averaged := _averaged(history):
        yield "average", f"{recipe.training.average.kind} weights: {averaged}"
    if phases := _phases(history):
        yield "phases", phases
    yield "recipe", " · ".join(filter(None, (recipe.title, recipe.task)))
    yield "data", f"{recipe.data.name or recipe.data.path or recipe.data.python}, {recipe.data.batch_size} a batch"
    model = recipe.model
    yield "model", model.zoo or model.python or " → ".join(part_text(layer) for layer in model.layers)
    yield "loss", part_text(recipe.loss)
    yield "optimizer", part_text(recipe.optimizer)
    if recipe.scheduler is not None:
        yield "scheduler", f"{part_text(recipe.scheduler)} every {recipe.scheduler.every}"
    settings = recipe.training
    yield "training", f"seed {settings.seed}, {settings.precision}, device {settings.device}"


def _averaged(history: History) -> str:
    """The newest metrics of the averaged weights; empty where there are none."""
    found = []
    for part in ("val", "test"):
        series = {name.partition("/")[2]: one for name, one in history.series.items() if name.startswith(f"{part}-av")}
        numbers = [f"{metric} {one.last:.4g}" for metric, one in sorted(series.items()) if one.last is not None]
        found += [f"{part} {' · '.join(numbers)}"] if numbers else []
    return ", ".join(found)


def _phases(history: History) -> str | None:
    """Where the time went, as the run has logged it in the end."""
    texts = (line.partition("  ")[2] for line in reversed(history.log))
    return next((_printable(text.removeprefix(_PHASES)) for text in texts if text.startswith(_PHASES)), None)


def _charts(history: History, average: str) -> Iterator[str]:
    """A chart of the loss and one of the metric that the run is about, training, validation and average together."""
    from tui.charts.line import MARKER, STROKE, Line
    from tui.charts.text_chart import chart_text

    for metric in ["loss", *([history.summary.metric] if history.summary else [])]:
        # A metric that means nothing on a single batch has no curve over steps, only one over epochs.
        trained = f"train/{metric}" if f"train/{metric}" in history.series else f"epoch/{metric}"
        parts = (
            (trained, "train", "primary", STROKE),
            (f"val/{metric}", "val", "warning", MARKER),
            (f"val-average/{metric}", average, "success", "◇"),
        )
        lines = [
            Line(label, *history.series[name].curve(), colour, marker != STROKE, marker)
            for name, label, colour, marker in parts
            if name in history.series
        ]
        yield chart_text(metric, lines, min(width(), _CHART_WIDTH), _CHART_HEIGHT, colour=colourful())


def _epochs_done(status: RunStatus, recipe: Recipe) -> int:
    """Whole epochs behind the run."""
    return int(status.facts.get("epoch", _epochs(status, recipe) if status.state == "done" else 0))


def _epochs(status: RunStatus, recipe: Recipe) -> int:
    """How many it has in all; a person may have changed it while it trained."""
    return int(status.facts.get("epochs", recipe.training.epochs))


def _time_text(status: RunStatus) -> str:
    return "–" if status.summary is None else clock(status.summary.seconds)


def part_text(part: Part) -> str:
    """`Linear(out_features=10)`."""
    settings = ", ".join(f"{name}={value}" for name, value in part.parameters.items())
    return f"{part.name}({settings})" if settings else part.name


def _printable(line: str) -> str:
    """`line` without what would move the cursor: a model's own words may be in it."""
    return "".join(character if character.isprintable() else " " for character in line)


def _state(state: str) -> Text:
    from rich.text import Text

    return Text(state, _STATE_COLOURS.get(state, ""))
