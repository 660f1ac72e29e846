"""check, find-lr, find-batch-size, branch, checkpoints and what `show` says of it, run as a person runs them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from forked import Forked
from nursery import Nursery
from said import Run

from tui import main

ROOT = Path(main.__file__).parents[1]


def write_model(folder: Path, body: str) -> None:
    """custom.toml: a recipe whose model's forward is `body`."""
    (folder / "model.py").write_text(
        "import time, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, outputs):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(1, outputs)\n"
        f"    def forward(self, x):\n        {body}\n"
    )
    (folder / "custom.toml").write_text(
        'task = "regression"\n[data]\nname = "line"\n[model]\npython = "model.py:Net"\n[loss]\nname = "MSELoss"\n'
    )


# check


def test_check_shows_model_data_optimizer_and_two_real_steps(run: Run) -> None:
    said = run("check", "breast-cancer-mlp")
    assert (said.status, said.err) == (0, "")
    assert re.search(r"^data +breast_cancer: .* \d+ train · \d+ val · \d+ test", said.out, re.MULTILINE)
    assert re.search(r"^in all +[\d,]+ +[\d.]+ k +[\d.]+ kB$", said.out, re.MULTILINE)
    assert re.search(r"^optimizer +\w+\(lr=", said.out, re.MULTILINE)
    assert re.search(r"^two steps +loss [\d.]+ → [\d.]+$", said.out, re.MULTILINE)
    assert re.search(r"^time +[\d.]+ ms a step, about .* for [\d,]+ steps in \d+ epochs", said.out, re.MULTILINE)
    assert re.search(r"^memory +weights .* · gradients .* · optimizer .*, of .* GiB$", said.out, re.MULTILINE)
    assert not Path("runs").exists(), "a trial is no run"


def test_check_json_is_one_object_with_the_same(run: Run) -> None:
    said = run("check", "line-fit", "--set", "training.epochs=7", "--json")
    (found,) = said.objects
    assert said.status == 0
    assert (found["problems"], found["sizes"]) == ([], {"train": 800, "val": 100, "test": 100})
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    assert len(found["tried"]["losses"]) == 2
    assert found["tried"]["steps"] == 7 * 25
    assert found["tried"]["estimate"] == pytest.approx(found["tried"]["seconds"] * 175)


def test_check_names_every_problem_in_a_line_each_and_takes_no_step(run: Run) -> None:
    wrong = ("--set", "optimizer.lrr=1", "--set", "training.device=gpu7")
    said = run("check", "line-fit", *wrong)
    assert said.status == 2
    parameter, device = said.err.splitlines()
    assert parameter.startswith("error: line-fit: optimizer.lrr: is not a parameter of SGD. Did you mean 'lr'?")
    assert device.startswith("error: line-fit: training.device: 'gpu7' is not a device.")
    assert "two steps" not in said.out
    (found,) = run("check", "line-fit", *wrong, "--json").objects
    assert [problem["where"] for problem in found["problems"]] == ["optimizer.lrr", "training.device"]
    assert found["tried"] is None


def test_check_finds_what_only_a_real_step_shows(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path, "return self.layer(x) if x.is_meta else self.lost")
    said = run("check", "custom.toml")
    assert said.status == 2
    assert re.fullmatch(r"error: custom\.toml: .*model\.py:7: AttributeError: .*'lost'.*\n", said.err)


def test_what_torch_refuses_in_a_step_is_not_laid_to_our_own_files(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path, "return self.layer(x) if x.is_meta else self.layer(x).detach()")
    said = run("check", "custom.toml")
    assert said.status == 2
    assert said.err.startswith("error: custom.toml: training: RuntimeError: element 0 of tensors does not require grad")
    assert said.err.endswith(". The log.txt of a training has the traceback.\n")


def test_check_downloads_nothing_unasked(run: Run, tmp_path: Path) -> None:
    said = run("check", "mnist-mlp")
    assert (said.status, said.err) == (0, "")
    assert "The data are not here: 12 MB download. For two steps with them: --download." in said.out
    assert "two steps  " not in said.out
    assert not (tmp_path / "data").exists()
    (found,) = run("check", "mnist-mlp", "--json").objects
    assert (found["data"]["ready"], found["tried"]) == (False, None)


# find-lr


def test_find_lr_draws_the_curve_and_its_command_is_understood(run: Run) -> None:
    said = run("find-lr", "line-fit", "--set", "data.batch_size=16", "--steps", "60")
    assert (said.status, said.err) == (0, "")
    assert "loss over learning rate" in said.out
    assert re.search("[⠁-⣿]", said.out), "no curve"
    assert re.search(r"1e-6 .*1e-4 .*0\.01", said.out), "no logarithmic axis"
    (advice,) = re.findall(r"^train +torch-tui (.*)$", said.out, re.MULTILINE)
    assert shlex.split(advice)[:4] == ["train", "line-fit", "--set", "data.batch_size=16"]
    trained = run(*shlex.split(advice), "--epochs", "1", "--json")
    assert trained.status == 0, trained.err
    assert trained.objects[-1]["state"] == "done"


def test_find_lr_json_holds_the_curve(run: Run) -> None:
    said = run("find-lr", "line-fit", "--from", "1e-5", "--to", "0.5", "--steps", "40", "--json")
    (found,) = said.objects
    assert said.status == 0
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"]) <= 40
    assert found["rates"][0] == pytest.approx(1e-5)
    assert found["command"] == f"torch-tui train line-fit --set optimizer.lr={found['suggestion']:g}"


def test_find_lr_of_a_model_that_fails_is_status_1_in_one_line(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path, "return self.layer(x) if x.is_meta else self.lost")
    said = run("find-lr", "custom.toml")
    assert (said.status, said.out) == (1, "")
    assert re.fullmatch(r"error: .*AttributeError.*\n", said.err)


def test_find_lr_of_a_wrong_recipe_is_status_2(run: Run) -> None:
    said = run("find-lr", "line-fit", "--set", "optimizer.lrr=1")
    assert (said.status, said.out) == (2, "")
    assert "Did you mean 'lr'?" in said.err


# find-batch-size


def test_find_batch_size_measures_each_size_and_keeps_the_effective_batch(run: Run) -> None:
    said = run("find-batch-size", "breast-cancer-mlp", "--largest", "16")
    assert (said.status, said.err) == (0, "")
    assert [int(size) for size in re.findall(r"^ +(\d+)  +[\d.]+  +[\d,]+  ", said.out, re.MULTILINE)] == [
        1,
        2,
        4,
        8,
        16,
    ]
    assert re.search(
        r"^\d+ samples a batch .*: torch-tui train breast-cancer-mlp --set data\.batch_size=", said.out, re.M
    )
    assert (
        "32 as now: torch-tui train breast-cancer-mlp --set data.batch_size=32 --set training.accumulate=2" in said.out
    )


def test_find_batch_size_json_is_an_object_a_size_and_the_advice(run: Run) -> None:
    said = run("find-batch-size", "line-fit", "--largest", "4", "--json")
    *sizes, advice = said.objects
    assert [size["samples"] for size in sizes] == [1, 2, 4]
    assert all(size["samples_per_second"] == pytest.approx(size["samples"] / size["seconds"]) for size in sizes)
    assert advice["recommended"] in (1, 2, 4)
    assert (advice["too_large"], advice["settings"]) == (None, {"data.batch_size": 32, "training.accumulate": 8})


# branch, checkpoints, show


def test_a_branch_begins_at_the_checkpoint_with_changed_settings_and_is_shown(run: Run) -> None:
    averaging = ("--set", "training.average.kind=ema", "--set", "training.average.decay=0.9")
    assert run("train", "line-fit", "--epochs", "3", "--name", "first", *averaging).status == 0
    (origin,) = (run.name for run in Path("runs").iterdir())

    listed = run("checkpoints", "first", "--json").objects
    assert [one["last"] for one in listed] == [False] * (len(listed) - 1) + [True]
    assert sum(one["best"] for one in listed) == 1
    assert all(one["bytes"] > 0 and (Path(one["directory"]) / "manifest.json").exists() for one in listed)
    text = run("checkpoints", "first").out
    assert re.search(rf"^{listed[-1]['name']} +3 +75 .*last$", text, re.MULTILINE)

    said = run(
        "branch", "first", "--from", "last", "--set", "training.epochs=5", "--set", "optimizer.lr=0.01", "--json"
    )
    assert said.status == 0, said.err
    epochs = [event["epoch"] for event in said.objects if event["event"] == "epoch"]
    assert epochs == [4, 5], "it goes on from the third"
    branch = said.objects[-1]["run"]
    assert branch.startswith("first-")
    assert branch != origin

    (shown,) = run("show", branch, "--json").objects
    assert shown["origin"]["run"] == origin
    assert shown["origin"]["checkpoint"] == listed[-1]["name"]
    assert shown["recipe"]["optimizer"]["lr"] == 0.01
    assert {"val-average/r2", "test-average/r2"} <= shown["last"].keys()
    assert re.match(r"data \d+%", shown["phases"])
    page = run("show", branch).out
    assert re.search(rf"^origin +{origin}, {listed[-1]['name']}$", page, re.MULTILINE)
    assert re.search(r"^average +ema weights: val .*r2 .*, test .*r2 ", page, re.MULTILINE)
    assert re.search(r"^phases +data \d+%", page, re.MULTILINE)
    assert re.search(r"^r2 .*◆ val .*◇ ema ", page, re.MULTILINE)


def test_a_run_that_is_no_branch_has_no_origin(run: Run) -> None:
    assert run("train", "line-fit", "--epochs", "1").status == 0
    (shown,) = run("show", "line-fit", "--json").objects
    assert shown["origin"] is None
    page = run("show", "line-fit").out
    assert not re.search("^(origin|average)", page, re.MULTILINE)
    said = run("branch", "line-fit", "--from", "epoch-99999")
    assert said.status == 2
    assert "has no checkpoint 'epoch-99999'" in said.err
    assert len(list(Path("runs").iterdir())) == 1, "nothing is begun"
    said = run("branch", "line-fit", "--set", "optimizer.lrr=1")
    assert said.status == 2
    assert "Did you mean 'lr'?" in said.err


def test_a_profile_is_in_the_log(run: Run) -> None:
    assert run("train", "line-fit", "--epochs", "4", "--profile").status == 0
    (folder,) = Path("runs").iterdir()
    assert "profiling the next steps" in (folder / "log.txt").read_text()
    assert list(folder.rglob("*trace*")), "no trace"


# Ctrl+C


def test_ctrl_c_ends_each_of_them_at_once_or_after_the_step(nursery: Nursery, tmp_path: Path) -> None:
    """All at once, as most of the time is the step's."""
    write_model(tmp_path, "not x.is_meta and (print('stepping', flush=True), time.sleep(2)); return self.layer(x)")
    commands = ("check", "find-lr", "find-batch-size")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [
        Forked(nursery, command, "custom.toml", cwd=str(tmp_path), env=environment, **pipes) for command in commands
    ]
    for process in processes:
        assert process.stdout is not None
        assert any("stepping" in line for line in process.stdout), process.communicate()
        process.send_signal(signal.SIGINT)
    for process in processes:
        _, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (130, "")
    assert not list(temporary.glob("torch-tui-trial-*")), "a trial was left behind"


def test_options_that_the_files_need_to_be_read_at_all_are_heard(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "said.jsonl"
    file.write_text("".join(f'{{"body": "{i % 2} a b", "topic": "t{i % 2}", "n": {i}}}\n' for i in range(30)), "utf-8")
    named = ("--set", "data.options.text=body", "--set", "data.options.label=topic")
    assert "2: t0, t1" in run("data", str(file), *named).out
    assert "Set label" in run("data", str(file), *named[:2]).err
