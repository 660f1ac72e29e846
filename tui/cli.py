"""The command line: every command is a thin call into the engine.

Exit status: 0 done · 1 the run failed · 2 the request was wrong · 130 stopped by the person, with a checkpoint.
Nothing heavy is imported before a command needs it: `torch-tui --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import StudioError
from tui.commands.complaints import complain, complain_of_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.recipe import Recipe

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


def main() -> None:
    """The console command `torch-tui`."""
    # Else two intra-op threads spin when another thread wants a core: on two cores a 1 ms step took 10 to 200 ms.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _tame_output()
    try:
        app(_spelled_out(sys.argv[1:]), prog_name="torch-tui")
    except StudioError as error:
        complain(error)
        sys.exit(2)
    except Exception as error:  # a traceback never reaches the screen
        complain_of_fault(error)
        sys.exit(1)


def _spelled_out(arguments: list[str]) -> list[str]:
    """`torch-tui my.toml` is short for `torch-tui open my.toml`: no command ends in .toml."""
    return ["open", *arguments] if arguments and arguments[0].endswith(".toml") else arguments


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
        return
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") not in (None, "dumb", "unknown"):
        from tui.app import run_studio

        raise typer.Exit(run_studio(runs, None))
    import presets as shipped

    preset = shipped.load(shipped.DEFAULT)
    raise typer.Exit(_train(preset.recipe, preset.name, preset.name, runs, as_json=False))


@app.command("open")
def open_studio(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A preset's name, or a .toml file.")],
    runs: Runs = None,
) -> None:
    """Open the studio on a recipe; `torch-tui FILE.toml` does the same."""
    name, chosen = _find_recipe(recipe)
    from tui.app import run_studio

    raise typer.Exit(run_studio(runs, chosen, name))


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one, its model and its file.")] = None,
) -> None:
    """List the recipes that ship with torch-tui, or show one."""
    import presets as shipped
    from tui.commands import tables

    if name is None:
        tables.print_presets(shipped.presets())
    else:
        tables.print_preset(shipped.load(name))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A preset's name, or a .toml file.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as optimizer.lr=0.1; repeatable."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", min=1, help="The same as --set training.epochs=N.")] = None,
    device: Annotated[str | None, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:N or mps.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What the run's name begins with.")] = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Train a recipe and print its progress."""
    usual_name, chosen = _find_recipe(recipe)
    chosen = _changed(chosen, changes or [], epochs, device)
    raise typer.Exit(_train(chosen, recipe, name or usual_name, runs, as_json=as_json))


@app.command()
def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, its unique beginning, or its folder.")],
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
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, its unique beginning, or its folder.")],
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


def _train(recipe: Recipe, where: str, name: str, runs: Path | None, *, as_json: bool) -> int:
    from engine.paths import runs_root
    from tui.commands import headless

    report, command = headless.report_for(as_json), _resume_command(runs)
    return headless.train(recipe, name, runs_root(runs), report, where=where, resume_with=command)


def _find_recipe(wanted: str) -> tuple[str, Recipe]:
    """The recipe of that preset or file, and a name for its run."""
    import presets as shipped
    from engine.recipe import Recipe

    path = Path(wanted)
    if path.suffix == ".toml" or len(path.parts) > 1:
        return path.stem, Recipe.load(path)
    preset = shipped.load(wanted)
    return preset.name, preset.recipe


def _changed(recipe: Recipe, changes: Sequence[str], epochs: int | None, device: str | None) -> Recipe:
    from engine.recipe import parse_override

    values = dict(parse_override(change) for change in changes)
    if epochs is not None:
        values["training.epochs"] = epochs
    if device is not None:
        values["training.device"] = device
    return recipe.override(values, "--set") if values else recipe


def _resume_command(runs: Path | None) -> str:
    """What a person types before a run's name to go on with it."""
    import shlex

    return "torch-tui resume" + (f" --runs {shlex.quote(str(runs))}" if runs else "")


def _tame_output() -> None:
    """Each line leaves at once, and a character that the terminal can't show becomes a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `torch-tui runs >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="replace")


if __name__ == "__main__":
    main()
