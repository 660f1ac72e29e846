"""Commands that take real steps which no run keeps: does it train, at which learning rate, with how large a batch."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from engine.data.fetching.telling import reading_text
from engine.durations import clock
from engine.errors import DataError, RecipeError, SampleRefused, StudioError, TrainingError
from tui.commands.complaints import complain
from tui.commands.data import examined_values, print_examined
from tui.commands.json_report import to_json
from tui.commands.rows import colourful, print_rows, width
from tui.commands.signals import Signals
from tui.commands.tables import download_text, part_text, print_checked

if TYPE_CHECKING:
    from engine.check import Checked
    from engine.data.preview import Examination, Finding
    from engine.data.samples import Progress
    from engine.models.rows import LayerRow
    from engine.recipe import Recipe
    from engine.trials.batch_finder import BatchSizes, Size
    from engine.trials.lr_finder import RateRange
    from engine.trials.trial import TriedOut

T = TypeVar("T")

_DONE, _FAILED, _REFUSED = 0, 1, 2  # exit status
_TELL_S = 1.0
_CHART_WIDTH, _CHART_HEIGHT = 100, 16
_CEILING = 1.5


def check(
    recipe: Recipe, where: str, *, download: bool, as_json: bool, drawn: bool = False, seconds: float = 20.0
) -> int:
    """Say all that is known of a recipe, and take two real steps with it; the exit status, 2 where it has problems.

    Before the steps its samples are read for some `seconds`, to find those that are bad. Both are left out where the
    data would have to be downloaded for them, unless `download` says so. The model is
    a table of layers, or `drawn` as blocks.
    """
    from engine.check import check as look  # torch takes 1.7 s to import
    from engine.data.load import load
    from engine.training.control import Stopped

    with Signals() as signals:
        waiting = _Waiting()
        tell = waiting.reading()

        def reading(what: str, done: int, total: int) -> None:
            if signals.status:
                raise Stopped
            tell(what, done, total)

        try:
            checked = look(recipe, reading=reading)
            problems = list(checked.problems)
            if download and not checked.hindrances and problems:  # of this data nothing is known before it is here
                problems.clear()
                _attempt(lambda: load(recipe.data, recipe.task, reading), problems)
                checked = checked if problems else look(recipe, reading=reading)
                problems = problems or list(checked.problems)
        except Stopped:
            return signals.status
        finally:
            waiting.end()
        missing = checked.source is not None and not checked.source.ready and not download
        if not as_json:
            _print_known(checked, drawn)
            if missing and not problems:
                print(f"\nThe data are not here: {download_text(recipe)}. For two steps with them: --download.")
        tried = None
        examined: list[Examination] = []
        if (recipe.data.path or not problems) and not missing and not signals.status:
            examined = _examined(recipe, seconds, signals, problems)
            fatal = [_problem(finding) for each in examined for finding in each.findings if finding.fatal]
            if fatal:  # the first bad sample, at which opening the data stopped, is among them
                problems = [problem for problem in problems if not isinstance(problem, SampleRefused)]
            problems = list({str(problem): problem for problem in problems + fatal}.values())  # data that can't be read
            if not as_json:
                print_examined(examined)
        if not problems and not missing and not signals.status:
            tried = _attempt(lambda: _try_out(recipe, signals), problems)
        if tried is not None and not as_json:
            _print_tried(tried, recipe)
        for problem in problems:
            complain(f"{where}: {problem}")
        if as_json:
            print(to_json(_known(checked, problems, tried, examined)))
        return signals.status or (_REFUSED if problems else _DONE)


def find_lr(recipe: Recipe, command: Sequence[str], *, lowest: float, highest: float, steps: int, as_json: bool) -> int:
    """Find a learning rate, and draw the losses that it is read from; the exit status.

    `command` trains the recipe as it is. Raises RecipeError for a range that is none.
    """
    if not 0 < lowest < highest < float("inf"):
        raise RecipeError("find-lr", f"{lowest:g} to {highest:g} is no range", "Try --from 1e-7 --to 10.")
    from engine.training.control import Control
    from engine.trials.lr_finder import find_lr as find  # torch takes 1.7 s to import

    control, waiting = Control(), _Waiting()

    def look(rate: float, loss: float) -> None:
        waiting.say(f"learning rate {rate:.1e}, loss {loss:.4g}")

    def search() -> RateRange:
        return find(
            recipe,
            waiting.reading(),
            lowest=lowest,
            highest=highest,
            steps=steps,
            control=control,
            look=look,
        )

    def show(found: RateRange) -> None:
        waiting.end()
        advice = _with_settings(command, {"optimizer.lr": f"{found.suggestion:g}"}) if found.suggestion else None
        if as_json:
            print(to_json({**asdict(found), "command": advice}))
            return
        print(_rate_chart(found))
        if advice is None:
            print("The loss falls at none of these rates. Look at the data and the model: torch-tui check.")
        else:
            print(f"steepest at {found.suggestion:g}\ntrain       {advice}")

    return _searched(search, show, control.stop)


def find_batch_size(recipe: Recipe, command: Sequence[str], *, largest: int, as_json: bool) -> int:
    """Measure steps with ever larger batches, and say which size to take; the exit status.

    `command` trains the recipe as it is.
    """
    from engine.training.control import Control
    from engine.trials.batch_finder import find_batch_size as find  # torch takes 1.7 s to import

    control, waiting, batch_size = Control(), _Waiting(), recipe.data.batch_size

    def look(size: Size) -> None:
        print(to_json(_size_values(size)) if as_json else _size_line(size))

    def search() -> BatchSizes:
        if not as_json:
            print(f"{'size':>6}  {'ms a step':>10}  {'samples/s':>11}  memory")
        return find(recipe, waiting.reading(), largest=largest, control=control, look=look)

    def show(found: BatchSizes) -> None:
        best, keeps = {"data.batch_size": found.recommended}, found.settings(batch_size)
        if as_json:
            values = {"recommended": found.recommended, "too_large": found.too_large, "settings": keeps}
            print(to_json({**values, "command": _with_settings(command, best)}))
            return
        if found.too_large is not None:
            print(f"{found.too_large:>6,}  does not fit into the memory")
        print(f"\n{found.recommended:,} samples a batch are about as fast as any: {_with_settings(command, best)}")
        print(
            f"Another batch wants another learning rate. With {batch_size:,} as now: {_with_settings(command, keeps)}"
        )

    return _searched(search, show, control.stop)


def _searched(search: Callable[[], T], show: Callable[[T], None], stop: Callable[[], None]) -> int:
    """Search until it is done or a signal tells it to `stop`; the exit status."""
    from engine.training.control import Stopped

    problems: list[StudioError] = []
    with Signals(stop) as signals:
        try:
            found = _attempt(search, problems)
        except Stopped:
            return signals.status
        if found is not None:
            show(found)
        for problem in problems:
            complain(problem)
        if signals.status:
            return signals.status
        return _DONE if not problems else _FAILED if isinstance(problems[0], TrainingError) else _REFUSED


def _attempt(work: Callable[[], T], problems: list[StudioError]) -> T | None:
    """What `work` gives, or None with its problem noted. Raises Stopped."""
    from engine.job import explain
    from engine.training.control import Stopped

    try:
        return work()
    except Stopped:
        raise
    except BaseException as error:  # a person's own module may raise anything, SystemExit included
        problems.append(explain(error, logged=False))
        return None


def _try_out(recipe: Recipe, signals: Signals) -> TriedOut | None:
    """Two steps; None when a signal ends them."""
    from engine.training.control import Stopped
    from engine.trials.trial import try_out

    def stop() -> None:
        raise Stopped  # from within a step, however long that takes: there is nothing to be saved

    waiting = _Waiting()
    signals.told = stop
    try:
        return try_out(recipe, waiting.reading())
    except Stopped:
        return None
    finally:
        signals.told = lambda: None
        waiting.end()


def _print_known(checked: Checked, drawn: bool) -> None:
    recipe = checked.recipe
    print_checked(checked, drawn=drawn)
    facts = [("loss", part_text(recipe.loss)), ("optimizer", part_text(recipe.optimizer))]
    if recipe.scheduler is not None:
        facts.append(("scheduler", f"{part_text(recipe.scheduler)} every {recipe.scheduler.every}"))
    print()
    print_rows((), facts)


def _print_tried(tried: TriedOut, recipe: Recipe) -> None:
    from engine.devices.memory import size_text

    memory = " · ".join(f"{owner} {size_text(size)}" for owner, size in tried.memory.items())
    whole = f"about {clock(tried.estimate)} for {tried.steps:,} steps in {recipe.training.epochs} epochs"
    rows = [
        ("two steps", "loss " + " → ".join(f"{loss:.4g}" for loss in tried.losses)),
        ("time", f"{tried.seconds * 1000:.3g} ms a step, {whole}, without validation"),
        ("memory", f"{memory}, of {size_text(tried.total)}"),
    ]
    print_rows((), rows)


def _problem(finding: Finding) -> DataError:
    return DataError("data", str(finding).removesuffix(finding.remedy).strip(), finding.remedy)


def _examined(recipe: Recipe, seconds: float, signals: Signals, problems: list[StudioError]) -> list[Examination]:
    """What is wrong with the data; nothing when they can't be opened, of which `problems` tells, or a signal comes."""
    from engine.data.preview import View, findings
    from engine.training.control import Stopped

    waiting = _Waiting()
    tell = waiting.reading()

    def progress(what: str, done: int, total: int) -> None:
        if signals.status:
            raise Stopped
        tell(what, done, total)

    def read(what: str, done: int, total: int) -> None:
        if signals.status:
            raise Stopped
        waiting.say(f"{what}: {done:,} of {total:,}")

    try:
        found = _attempt(lambda: findings(View(recipe, progress), read, seconds), problems)
    except Stopped:
        return []
    finally:
        waiting.end()
    return [] if found is None else [found]


def _known(
    checked: Checked, problems: Sequence[StudioError], tried: TriedOut | None, examined: Sequence[Examination]
) -> dict[str, object]:
    """What `check --json` prints; `tried` and `examined` are null where no step was taken and no sample read."""
    source = checked.source
    return {
        "title": checked.recipe.title,
        "task": checked.recipe.task,
        "problems": [{"where": one.where, "what": one.what, "remedy": one.remedy} for one in problems],
        "data": source and {"name": source.name, "ready": source.ready, "download_mb": source.download_mb},
        "sizes": dict(checked.sizes),
        "layers": [_known_layer(row) for row in checked.rows],
        "parameters": checked.parameters,
        "optimizer": part_text(checked.recipe.optimizer),
        "examined": next((examined_values(each) for each in examined), None),
        "tried": tried and {**asdict(tried), "estimate": tried.estimate},
    }


def _known_layer(row: LayerRow) -> dict[str, object]:
    """A container's numbers are the sums of what is in it: those whose path has one place add up to the model's."""
    return {
        "name": row.name,
        "path": row.path,
        "output": row.output,
        "parameters": row.parameters,
        "flops": row.flops,
        "kept_bytes": row.kept,
    }


def _rate_chart(found: RateRange) -> str:
    import numpy as np

    from tui.charts.line import Line
    from tui.charts.text_chart import chart_text

    powers, smoothed = np.log10(np.array(found.rates)), np.array(found.smoothed)
    # A loss that has left all bounds would press the part that matters flat.
    ceiling = _CEILING * np.nanmax(smoothed[: int(np.nanargmin(smoothed)) + 1])
    lines = [
        Line(label, powers, np.where(losses <= ceiling, losses, np.nan), colour)
        for label, losses, colour in (
            ("loss", np.array(found.losses), "secondary"),
            ("smoothed", smoothed, "primary"),
        )
    ]
    if found.suggestion:
        at = np.log10([found.suggestion])
        lines.append(Line("steepest", at, np.interp(at, powers, smoothed), "warning", points=True))
    size = min(width(), _CHART_WIDTH), _CHART_HEIGHT
    return chart_text("loss over learning rate", lines, *size, colour=colourful(), log_x=True)


def _size_line(size: Size) -> str:
    from engine.devices.memory import size_text

    memory = "–" if size.peak_bytes is None else size_text(size.peak_bytes)
    return f"{size.samples:>6,}  {size.seconds * 1000:>10.2f}  {size.samples_per_second:>11,.0f}  {memory}"


def _size_values(size: Size) -> dict[str, object]:
    return {**asdict(size), "samples_per_second": size.samples_per_second}


def _with_settings(command: Sequence[str], settings: Mapping[str, object]) -> str:
    """`command` with settings of its own, as a person would type it."""
    return shlex.join([*command, *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))])


class _Waiting:
    """One line on a terminal's stderr that says how far it is; nothing where stderr leads elsewhere but downloads."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = 0.0

    def say(self, text: str) -> None:
        """What is being done now, at most once a tenth of a second."""
        if self._live and time.monotonic() - self._shown > _TELL_S / 10:
            self._shown = time.monotonic()
            print(f"\r{text[: width() - 1]}\x1b[K", end="", file=sys.stderr, flush=True)

    def reading(self) -> Progress:
        """Told how much of the data is here."""
        return lambda what, done, total: self._tell(reading_text(what, done, total))

    def _tell(self, text: str) -> None:
        if self._live:
            self.say(text)
        elif time.monotonic() - self._shown > _TELL_S:
            self._shown = time.monotonic()
            print(text, file=sys.stderr)

    def end(self) -> None:
        """Take the line away."""
        if self._live and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
