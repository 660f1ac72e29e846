"""The command line: every command is a thin call into the engine.

Exit status: 0 done · 1 the run failed · 2 the request was wrong · 130 stopped by the person, 143 by the system, with a
checkpoint.
Nothing heavy is imported before a command needs it: `torch-tui --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.start import before_screen
from tui.main import on_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.recipe import Recipe
    from engine.recipe.file import RecipeFile

app = typer.Typer(
    name="torch-tui",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Runs = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", help="Folder of all runs. Default: $TORCH_TUI_RUNS, else ./runs."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A preset's name, or a .toml file.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, its unique beginning, or its folder.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as optimizer.lr=0.1; repeatable."),
]


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        print("torch-tui", version("torch-tui"))
    except PackageNotFoundError:
        print("torch-tui, not installed")
    raise typer.Exit


@app.callback(invoke_without_command=True)
def studio(
    context: typer.Context,
    runs: Runs = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """A PyTorch training studio in the terminal.

    Without a command it opens the studio; where there is no terminal, it trains the default preset and prints its
    progress.
    """
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"runs": runs}} if runs else None
        return
    if on_terminal():
        before_screen()
        from tui.app import run_studio

        raise typer.Exit(run_studio(runs, None))
    import presets as shipped

    preset = shipped.load(shipped.DEFAULT)
    raise typer.Exit(_train(preset.recipe, preset.name, preset.name, runs, as_json=False))


@app.command("open")
def open_studio(
    recipe: RecipeName,
    runs: Runs = None,
) -> None:
    """Open the studio on a recipe, like `torch-tui FILE.toml`."""
    file = _find_file(recipe)
    name, chosen = (file.path.stem, file.recipe) if file is not None else _find_recipe(recipe)
    before_screen()
    from tui.app import run_studio

    raise typer.Exit(run_studio(runs, chosen, name, file))


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one, its model and its file.")] = None,
) -> None:
    """List the presets, your own too, or show one."""
    import presets as shipped
    from presets.own import own_presets
    from tui.commands import tables

    if name is None:
        tables.print_presets([*own_presets(), *shipped.presets()])
    else:
        tables.print_preset(shipped.load(name))


@app.command()
def train(
    recipe: RecipeName,
    changes: Changes = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", min=1, help="The same as --set training.epochs=N.")] = None,
    device: Annotated[str | None, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:N or mps.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What the run's name begins with.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile the first steps; the report is in the log.")
    ] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Train a recipe and print its progress."""
    usual_name, chosen = _find_recipe(recipe)
    chosen = _changed(chosen, changes, epochs, device)
    raise typer.Exit(_train(chosen, recipe, name or usual_name, runs, as_json=as_json, profile=profile))


@app.command()
def check(
    recipe: RecipeName,
    changes: Changes = None,
    download: Annotated[bool, typer.Option("--download", help="Download the data if they are not here.")] = False,
    seconds: Annotated[
        float, typer.Option("--read-for", metavar="SECONDS", min=0, help="How long samples are read to find bad ones.")
    ] = 20.0,
    drawn: Annotated[bool, typer.Option("--diagram", help="Draw the model in place of the table.")] = False,
    as_json: Json = False,
) -> None:
    """Check a recipe: shapes, data, memory, two real steps."""
    from tui.commands import trials

    chosen = _changed(_find_recipe(recipe)[1], changes)
    raise typer.Exit(trials.check(chosen, recipe, download=download, as_json=as_json, drawn=drawn, seconds=seconds))


@app.command()
def data(
    what: Annotated[
        str, typer.Argument(metavar="DATA", help="A file or folder, a dataset's name, a preset, or a .toml file.")
    ],
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="What is learned of files: classification, regression, …")
    ] = None,
    changes: Changes = None,
    download: Annotated[bool, typer.Option("--download", help="Download the data if they are not here.")] = False,
    as_json: Json = False,
) -> None:
    """Look at data: format, sizes, classes, bad samples."""
    from engine.recipe import parse_override
    from tui.commands import data as looking

    chosen = looking.recipe_of(what, task, dict(map(parse_override, changes or ())), _find_recipe)
    raise typer.Exit(looking.show(chosen, what, download=download, as_json=as_json))


@app.command("find-lr")
def find_lr(
    recipe: RecipeName,
    changes: Changes = None,
    lowest: Annotated[float, typer.Option("--from", metavar="RATE", help="The lowest rate.")] = 1e-7,
    highest: Annotated[float, typer.Option("--to", metavar="RATE", help="The highest rate.")] = 10.0,
    steps: Annotated[int, typer.Option(metavar="N", min=10, help="Steps from the one to the other.")] = 100,
    as_json: Json = False,
) -> None:
    """Find a learning rate: some steps while the rate grows."""
    from tui.commands import trials

    chosen, command = _changed(_find_recipe(recipe)[1], changes), _train_command(recipe, changes)
    raise typer.Exit(trials.find_lr(chosen, command, lowest=lowest, highest=highest, steps=steps, as_json=as_json))


@app.command("find-batch-size")
def find_batch_size(
    recipe: RecipeName,
    changes: Changes = None,
    largest: Annotated[int, typer.Option(metavar="N", min=1, help="The largest size to try.")] = 1 << 16,
    as_json: Json = False,
) -> None:
    """Find a batch size: how fast each is, and which fits."""
    from tui.commands import trials

    chosen, command = _changed(_find_recipe(recipe)[1], changes), _train_command(recipe, changes)
    raise typer.Exit(trials.find_batch_size(chosen, command, largest=largest, as_json=as_json))


@app.command()
def resume(
    run: RunName,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Go on with a run from its newest checkpoint."""
    from engine.paths import runs_root
    from engine.runs.directory import RunDirectory
    from tui.commands import headless

    directory = RunDirectory.open(run, runs_root(runs))
    raise typer.Exit(headless.resume(directory, headless.report_for(as_json), resume_with=_resume_command(runs)))


@app.command()
def branch(
    run: RunName,
    checkpoint: Annotated[
        str, typer.Option("--from", metavar="CHECKPOINT", help="A checkpoint's name, best or last.")
    ] = "last",
    changes: Changes = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What the new run's name begins with.")] = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Train a new run that begins at a checkpoint of another."""
    from engine.paths import runs_root
    from engine.runs.directory import RunDirectory
    from tui.commands import headless

    root = runs_root(runs)
    origin = RunDirectory.open(run, root)
    chosen = _changed(origin.recipe(), changes)
    report, command = headless.report_for(as_json), _resume_command(runs)
    raise typer.Exit(
        headless.branch(origin, checkpoint, chosen, name or _undated(origin.name), root, report, resume_with=command)
    )


@app.command()
def export(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A preset's name, a .toml file, or a run.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="python: one file without torch-tui.")] = "python",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Default: print it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    changes: Changes = None,
    runs: Runs = None,
) -> None:
    """Write a recipe as a file that runs without torch-tui."""
    from tui.commands import export as exporting

    name, chosen = _find_recipe_or_run(what, runs)
    raise typer.Exit(exporting.export(_changed(chosen, changes), name, to, output, force=force))


@app.command()
def checkpoints(run: RunName, runs: Runs = None, as_json: Json = False) -> None:
    """List a run's checkpoints, the oldest first."""
    from engine.paths import runs_root
    from engine.runs.directory import RunDirectory
    from tui.commands import tables

    directory = RunDirectory.open(run, runs_root(runs))
    if as_json:
        tables.print_checkpoints_json(directory)
    else:
        tables.print_checkpoints(directory)


@app.command()
def runs(runs: Runs = None, as_json: Json = False) -> None:
    """List the runs, the newest first."""
    from engine.paths import runs_root
    from tui.commands import tables

    root = runs_root(runs)
    if as_json:
        tables.print_runs_json(root)
    else:
        tables.print_runs(root)


@app.command()
def show(
    run: RunName,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Show a run: recipe, result, curves, last log lines."""
    from engine.paths import runs_root
    from engine.runs.directory import RunDirectory
    from tui.commands import tables

    directory = RunDirectory.open(run, runs_root(runs))
    if as_json:
        tables.print_run_json(directory)
    else:
        tables.print_run(directory)


@app.command()
def doctor(runs: Runs = None, as_json: Json = False) -> None:
    """Check that this machine can train, and say what to do."""
    from engine.paths import runs_root
    from tui.commands import doctor as examination

    healthy = examination.print_findings(examination.examine(runs_root(runs)), as_json=as_json)
    raise typer.Exit(0 if healthy else 1)


def _train(recipe: Recipe, where: str, name: str, runs: Path | None, *, as_json: bool, profile: bool = False) -> int:
    from engine.paths import runs_root
    from tui.commands import headless

    report, command = headless.report_for(as_json), _resume_command(runs)
    return headless.train(recipe, name, runs_root(runs), report, where=where, resume_with=command, profile=profile)


def _find_recipe(wanted: str) -> tuple[str, Recipe]:
    """The recipe of that preset or file, and a name for its run."""
    import presets as shipped
    from engine.recipe import Recipe

    if _is_path(wanted):
        return Path(wanted).stem, Recipe.load(wanted)
    preset = shipped.load(wanted)
    return preset.name, preset.recipe


def _find_file(wanted: str) -> RecipeFile | None:
    """The file to save that recipe's edits into; one that ships has none."""
    import presets as shipped
    from engine.recipe.file import RecipeFile
    from presets.own import FAMILY

    if _is_path(wanted):
        return RecipeFile.open(Path(wanted))
    preset = shipped.load(wanted)
    return RecipeFile.open(preset.path) if preset.family == FAMILY else None


def _is_path(wanted: str) -> bool:
    path = Path(wanted)
    return path.suffix == ".toml" or len(path.parts) > 1


def _find_recipe_or_run(wanted: str, runs: Path | None) -> tuple[str, Recipe]:
    """The recipe of that preset, file or run, and what it is called."""
    import presets as shipped
    from engine.errors import RecipeError, RunError, nearest
    from engine.paths import runs_root
    from engine.runs.directory import RunDirectory
    from presets.own import own_presets

    if Path(wanted).suffix == ".toml":
        return _find_recipe(wanted)
    if any(preset.name == wanted for preset in (*shipped.presets(), *own_presets())):
        return _find_recipe(wanted)
    try:
        directory = RunDirectory.open(wanted, runs_root(runs))
    except RunError as error:
        meant = nearest(wanted, [preset.name for preset in shipped.presets()])
        if not meant:
            raise
        raise RecipeError(wanted, "is no preset, no recipe file and no run", meant) from error
    return _undated(directory.name), directory.recipe()


def _changed(
    recipe: Recipe, changes: Sequence[str] | None, epochs: int | None = None, device: str | None = None
) -> Recipe:
    from engine.recipe import parse_override

    values = dict(parse_override(change) for change in changes or ())
    if epochs is not None:
        values["training.epochs"] = epochs
    if device is not None:
        values["training.device"] = device
    return recipe.override(values, "--set") if values else recipe


def _train_command(recipe: str, changes: Sequence[str] | None) -> list[str]:
    """What a person types to train the recipe with these changes."""
    return ["torch-tui", "train", recipe, *(word for change in changes or () for word in ("--set", change))]


def _undated(run: str) -> str:
    """A run's name without the moment at which it was made."""
    import re

    return re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", run)


def _resume_command(runs: Path | None) -> str:
    """What a person types before a run's name to go on with it."""
    import shlex

    return "torch-tui resume" + (f" --runs {shlex.quote(str(runs))}" if runs else "")
