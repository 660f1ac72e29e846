"""The command line without a training: lists, help, errors, and what must not be loaded for them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from said import Run

import presets as shipped
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory
from tui import main
from tui.commands import doctor

HEAVY = ("torch", "torchvision", "textual", "plotext", "rich")


def executed(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m tui.main …` in `folder`, in a process of its own."""
    root = Path(main.__file__).parents[1]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TORCH_TUI_")}
    return subprocess.run(
        [sys.executable, "-m", "tui.main", *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def loaded_by(code: str, folder: Path) -> set[str]:
    """The top-level modules that a fresh interpreter has after `code`."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


def unmade_run(root: Path) -> RunDirectory:
    """A run directory whose training never began."""
    return RunDirectory.create(root, "unmade", shipped.load("line-fit").recipe, "cpu")


# What is loaded


def test_importing_the_command_line_loads_nothing_heavy(tmp_path: Path) -> None:
    assert not loaded_by("import tui.main, tui.cli", tmp_path) & {*HEAVY, "numpy", "pydantic"}


@pytest.mark.parametrize("command", ["--help", "train --help", "presets", "runs", "runs --json", "check x", "train x"])
def test_commands_that_only_look_load_neither_torch_nor_textual(command: str, tmp_path: Path) -> None:
    code = f"import tui.main; sys.argv = ['torch-tui', *{command.split()!r}]; tui.main.main()"
    assert not loaded_by(code, tmp_path) & {"torch", "torchvision", "textual", "plotext"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, ("PASSIVE", "10000")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", None)),
        ({"GOMP_SPINCOUNT": "5"}, ("PASSIVE", "5")),
    ],
)
def test_threads_are_told_to_wait_passively_after_a_moment_unless_the_person_says_otherwise(
    before: dict[str, str],
    after: tuple[str | None, str | None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["torch-tui", "--version"])
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    monkeypatch.setattr(os, "environ", {**kept, **before})
    with pytest.raises(SystemExit):
        main.main()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ.get("GOMP_SPINCOUNT")) == after


def test_cublas_is_told_to_be_deterministic_unless_the_person_says_otherwise(tmp_path: Path) -> None:
    code = "import tui.main; sys.argv = ['torch-tui', 'presets']\ntry: tui.main.main()\nexcept SystemExit: pass\n"
    code = f"import os, sys\n{code}print(os.environ['CUBLAS_WORKSPACE_CONFIG'], 'torch' in sys.modules)"
    kept = {key: value for key, value in os.environ.items() if key != "CUBLAS_WORKSPACE_CONFIG"}
    for own, used in (({}, ":4096:8"), ({"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, ":16:8")):
        ran = subprocess.run([sys.executable, "-c", code], env={**kept, **own}, capture_output=True, text=True)
        assert ran.stdout.splitlines()[-1] == f"{used} False", ran.stderr


# Help and errors


def test_help_names_every_command_without_cutting_a_word(tmp_path: Path) -> None:
    done = executed("--help", folder=tmp_path)
    assert done.returncode == 0
    commands = ("presets", "train", "check", "find-lr", "find-batch-size", "resume", "branch", "checkpoints", "runs")
    commands = (*commands, "export")
    for command in (*commands, "show", "doctor", "data"):
        assert re.search(rf"^  {command} +\S", done.stdout, re.MULTILINE), command
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_version_is_said(tmp_path: Path) -> None:
    done = executed("--version", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("torch-tui")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train"], "RECIPE"),
        (["train", "digits-mpl"], "error: digits-mpl: is no preset and no recipe file. Did you mean 'digits-mlp'?"),
        (["train", "here/not.toml"], "error: here/not.toml: No such file"),
        (["train", "line-fit", "--epochs", "0"], "--epochs"),
        (["train", "line-fit", "--set", "epochs"], "error: --set epochs: is not KEY=VALUE. Try"),
        (
            ["train", "line-fit", "--set", "optimizer.lr=fast"],
            "error: --set: optimizer.lr: 'fast' is not a number. Try",
        ),
        (["train", "line-fit", "--set", "trainin.epochs=3"], "error: --set: trainin: is not a setting. Did you mean"),
        (["presets", "line-fitt"], "Did you mean 'line-fit'?"),
        (["resume", "nothing"], "error: nothing: is no run in runs. See: torch-tui runs."),
        (["show", "nothing"], "error: nothing: is no run in runs. See: torch-tui runs."),
        (["show", "n" * 5000], "is no run in runs. See: torch-tui runs."),
        (["checkpoints", "nothing"], "error: nothing: is no run in runs. See: torch-tui runs."),
        (["branch", "nothing"], "error: nothing: is no run in runs. See: torch-tui runs."),
        (["check", "digits-mpl"], "error: digits-mpl: is no preset and no recipe file. Did you mean 'digits-mlp'?"),
        (["find-lr", "line-fit", "--set", "optimizer.lrr"], "error: --set optimizer.lrr: is not KEY=VALUE. Try"),
        (["find-lr", "line-fit", "--from", "1", "--to", "0.1"], "error: find-lr: 1 to 0.1 is no range. Try --from"),
        (["find-batch-size", "line-fit", "--largest", "0"], "--largest"),
        (
            ["export", "digits-mpl"],
            "error: digits-mpl: is no preset, no recipe file and no run. Did you mean 'digits-mlp'?",
        ),
        (["export", "nothing"], "error: nothing: is no run in runs. See: torch-tui runs."),
        (
            ["export", "line-fit", "--to", "onnx"],
            "error: --to: 'onnx' is nothing that can be written. There is python.",
        ),
    ],
)
def test_a_wrong_request_says_where_what_and_what_to_do(
    run: Run, arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert said in done.err
    assert not done.out
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs").exists()


def test_a_malformed_recipe_file_names_file_and_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('title = "x"\ntask = \n')
    done = run("train", "mine.toml")
    assert done.status == 2
    assert done.err.startswith("error: mine.toml: is not TOML:")
    assert "line 2" in done.err


def test_a_fault_of_our_own_costs_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise KeyError("no such thing")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["torch-tui", "presets"])
    monkeypatch.setattr(shipped, "presets", broken)
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no such thing" in said
    assert "Traceback" not in said
    (written,) = tmp_path.rglob("crash-*.txt")
    assert str(written) in said
    assert "Traceback" in written.read_text()


# Presets


def test_presets_are_listed_by_family_with_what_they_need(run: Run) -> None:
    lines = run("presets").out.splitlines()
    families = [line for line in lines if line in ("vision", "tabular")]
    assert families == ["vision", "tabular"]
    for preset in shipped.presets():
        (line,) = [line for line in lines if line.split()[:1] == [preset.name]]
        assert line.endswith(preset.recipe.about)
        assert ("MB" in line) == (preset.recipe.data.name in ("MNIST", "FashionMNIST", "CIFAR10"))


def test_ones_own_presets_are_listed_first_and_trained_by_name_and_a_broken_one_says_why(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "config" / "presets"
    folder.mkdir(parents=True)
    text = shipped.load("line-fit").path.read_text(encoding="utf-8")
    (folder / "mine.toml").write_text(text.replace('about = "', 'about = "Mine: '), encoding="utf-8")
    (folder / "bad.toml").write_text("[data]\nnames = 3\n", encoding="utf-8")
    monkeypatch.setenv("TORCH_TUI_CONFIG", str(tmp_path / "config"))

    listed = run("presets")
    assert listed.status == 0
    lines = [line for line in listed.out.splitlines() if line]
    assert [line.split()[0] for line in lines[1:5]] == ["yours", "bad", "mine", "vision"]
    assert re.search(r"broken +data\.names: is not a setting\. Did you mean 'name'\?$", lines[2])
    assert "Mine: y = 2x" in lines[3]

    assert run("presets", "mine").out.startswith(text[:40])
    assert run("train", "mine", "--epochs", "1").status == 0
    assert [path.name.startswith("mine-") for path in (tmp_path / "runs").iterdir()] == [True]
    refused = run("train", "bad")
    assert refused.status == 2
    assert "bad.toml: data.names: is not a setting" in refused.err
    # The twin: without that folder there is no such preset.
    monkeypatch.setenv("TORCH_TUI_CONFIG", str(tmp_path / "elsewhere"))
    assert run("train", "mine").status == 2


def test_a_presets_file_is_shown_as_it_is_with_its_shapes(run: Run) -> None:
    file, _, rest = run("presets", "digits-mlp").out.partition("\ndata ")
    assert Recipe.from_values(tomllib.loads(file)) == shipped.load("digits-mlp").recipe
    assert re.search(r"^Flatten +784 +0$", rest, re.MULTILINE)
    assert re.search(r"^in all +101,770 +203 k +233 kB$", rest, re.MULTILINE)


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 120])
def test_nothing_is_cut_however_narrow_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from tui.commands import tables

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    tables.print_presets(shipped.presets())
    table = screen.getvalue().rpartition("\n\n")[0]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", table)
    assert max(map(len, plain.splitlines())) <= columns
    words = set(plain.split())
    for preset in shipped.presets():
        assert preset.name in words
        assert set(preset.recipe.about.split()) <= words
    assert "\x1b[3" not in table, "NO_COLOR"


def test_a_word_that_is_no_command_is_told_with_what_it_may_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("", "utf-8")
    (tmp_path / "my photos").mkdir()
    means = {
        "digits-cnn": "It is a preset: torch-tui train digits-cnn, or torch-tui open digits-cnn",
        "digits-cn": "There is a preset 'digits-cnn': torch-tui train digits-cnn,",
        "mine": "torch-tui train mine.toml, or torch-tui open mine.toml",
        "my photos": "torch-tui data 'my photos'",
        "trian": "Did you mean 'train'?",
        "xyz": "error: xyz: is no command. See: torch-tui --help.",
    }
    for word, meant in means.items():
        done = run(word)
        assert (done.status, meant in " ".join(done.err.split())) == (2, True), done.err
    assert run("--runs", "train", "check", "nothing").err.startswith("error: nothing:"), "check is a command"


# Runs


def test_no_runs_is_a_friendly_line(run: Run, tmp_path: Path) -> None:
    done = run("runs")
    assert done.status == 0
    assert done.out == "There are no runs in runs yet. Train one: torch-tui train digits-mlp\n"
    assert run("runs", "--json").out == ""
    assert not (tmp_path / "runs").exists(), "looking makes no folder"


def test_a_damaged_run_does_not_hide_the_others(run: Run, tmp_path: Path) -> None:
    damaged = unmade_run(tmp_path / "runs")
    damaged.metrics_file.write_bytes(b"no database" * 100)
    torn = unmade_run(tmp_path / "runs")
    torn.recipe_file.write_text("torn = ")
    done = run("runs")
    assert done.status == 0
    assert done.out.count("unreadable") == 2
    values = run("runs", "--json").objects
    assert {value["name"] for value in values} == {damaged.name, torn.name}
    assert all(value["state"] == "unreadable" and value["reason"] for value in values)


def test_runs_are_found_where_the_person_says(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = unmade_run(tmp_path / "elsewhere").name
    assert name in run("runs", "--runs", "elsewhere").out
    assert name in run("--runs", "elsewhere", "runs").out
    assert name in run("--runs", "nowhere", "runs", "--runs", "elsewhere").out
    assert name not in run("runs").out
    monkeypatch.setenv("TORCH_TUI_RUNS", "elsewhere")
    assert name in run("runs").out


def test_a_run_on_files_names_them(run: Run, tmp_path: Path) -> None:
    recipe = shipped.load("line-fit").recipe.override({"data": {"path": str(tmp_path / "heights.csv")}})
    RunDirectory.create(tmp_path / "runs", "mine", recipe, "cpu")
    assert "heights.csv, " in run("show", "mine").out


# Doctor


def test_doctor_says_what_is_there_and_what_to_do(tmp_path: Path) -> None:
    done = executed("doctor", "--json", folder=tmp_path)
    findings = {finding["what"]: finding for finding in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert {"python", "torch", "torchvision", "textual", "CUDA build", "device", "runs", "datasets"} <= findings.keys()
    assert all(finding["remedy"] for finding in findings.values() if finding["level"] != "ok")


def test_a_folder_that_cant_be_written_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    healthy = doctor.print_findings(doctor.examine(tmp_path / "file" / "runs"), as_json=False)
    shown = capsys.readouterr().out
    assert not healthy
    assert re.search(rf"^broken +runs +{tmp_path}/file/runs can't be written", shown, re.MULTILINE)
    assert "--runs" in shown


def test_a_look_that_fails_is_a_finding_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wedged() -> None:
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr(doctor, "_gpus", wedged)
    findings = list(doctor.examine(tmp_path))
    assert [finding.found for finding in findings if finding.level == "broken"] == ["RuntimeError: the driver is gone"]
    assert findings[-1].what == "machine"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["my.toml"], ["open", "my.toml"]),
        (["my.toml", "--runs", "there"], ["open", "my.toml", "--runs", "there"]),
        (["--runs", "there", "my.toml"], ["--runs", "there", "open", "my.toml"]),
        (["--runs=there", "my.toml"], ["--runs=there", "open", "my.toml"]),
        (["train", "my.toml"], ["train", "my.toml"]),
        (["--runs", "my.toml"], ["--runs", "my.toml"]),
        (["--runs", "there", "train", "my.toml"], ["--runs", "there", "train", "my.toml"]),
        ([], []),
    ],
)
def test_a_file_alone_is_opened(typed: list[str], meant: list[str]) -> None:
    assert main.spelled_out(typed) == meant
