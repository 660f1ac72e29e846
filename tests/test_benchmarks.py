"""The race can be run on a GPU and in half precision: what contestants are told, and what is said of targets."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(_REPOSITORY))

from benchmarks.contestants.race import Race  # noqa: E402
from benchmarks.environments import PACKAGES  # noqa: E402
from benchmarks.loops import CONTESTANTS, FailedError, Results, script_of_ours, target, trained  # noqa: E402
from benchmarks.made_data import write_mnist  # noqa: E402
from benchmarks.works import WORKS  # noqa: E402
from engine.recipe import Recipe  # noqa: E402


def chosen(**given: object) -> argparse.Namespace:
    usual = {"threads": 1, "epochs": 1, "workers": 0, "steps": 4, "device": "cpu", "precision": "fp32"}
    return argparse.Namespace(**{**usual, **given})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    write_mnist(root, train=1000, test=500)
    return root


@pytest.mark.parametrize("name", ["tutorial", "tuned", "torch-tui"])
def test_a_loop_by_hand_and_torch_tui_train_in_half_precision(name: str, files: Path) -> None:
    told = trained(CONTESTANTS[name], "W1", files, 0, chosen(precision="bf16"))
    assert told["samples_per_second"] > 0
    assert 0 <= told["accuracy"] <= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU here")
@pytest.mark.parametrize("name", ["tutorial", "tuned", "torch-tui"])
def test_the_device_reaches_them(name: str, files: Path) -> None:
    with pytest.raises(FailedError, match=r"(?i)cuda|nvidia"):
        trained(CONTESTANTS[name], "W1", files, 0, chosen(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", ["tutorial", "tuned", "torch-tui"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_they_train_on_a_gpu(name: str, precision: str, files: Path) -> None:
    told = trained(CONTESTANTS[name], "W2", files, 0, chosen(device="cuda", precision=precision))
    assert told["samples_per_second"] > 0


def test_the_command_says_that_there_is_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is an NVIDIA GPU here")
    command = [sys.executable, "benchmarks/loops.py", "W1", "--device", "cuda"]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "torch sees no NVIDIA GPU here" in done.stderr


def test_who_is_compared_on_a_gpu_is_laid_out_alike() -> None:
    for device, precision, laid in (("cpu", "bf16", False), ("cuda", "fp32", False), ("cuda", "bf16", True)):
        race = Race(WORKS["W3"], Path(), 1, 1, 0, 0, device, precision)
        training = Recipe.from_values(race.recipe()).training
        assert (training.device, training.precision, training.channels_last) == (device, precision, laid)
        assert race.channels_last == laid


def test_another_layout_is_raced_apart() -> None:
    laid = {name for name, contestant in CONTESTANTS.items() if contestant.channels_last}
    assert laid == {"tuned-nhwc", "torch-tui-nhwc"}
    assert (
        Recipe.from_values(
            Race(WORKS["W2"], Path(), 1, 1, 0, 0, wants_channels_last=True).recipe()
        ).training.channels_last
        is True
    )


def test_frameworks_race_on_the_cpu_alone() -> None:
    ours = {name for name, contestant in CONTESTANTS.items() if script_of_ours(contestant)}
    assert ours == set(CONTESTANTS) - set(PACKAGES)
    assert {"tutorial", "torch-tui-studio", "tuned-nhwc"} <= ours


@pytest.mark.parametrize(
    ("work", "precision", "speeds", "said"),
    [
        ("W1", "fp32", {"torch-tui": 2100.0, "tutorial": 100.0}, "W1 in fp32: 21.00× tutorial, wanted 20×: met"),
        ("W1", "fp32", {"torch-tui": 1900.0, "tutorial": 100.0}, "W1 in fp32: 19.00× tutorial, wanted 20×: missed"),
        ("W3", "bf16", {"torch-tui": 91.0, "tuned": 100.0}, "W3 in bf16: 0.91× tuned, wanted 0.9×: met"),
        ("W3", "fp32", {"torch-tui": 91.0, "tuned": 100.0}, ""),
        ("W1", "fp32", {"torch-tui": 91.0, "tuned": 100.0}, ""),
        ("W1", "fp32", {"tutorial": 91.0}, ""),
    ],
)
def test_a_target_is_met_or_missed(work: str, precision: str, speeds: dict[str, float], said: str) -> None:
    results = {name: Results(speeds={0: speed}) for name, speed in speeds.items()}
    assert target(work, results, precision) == said
