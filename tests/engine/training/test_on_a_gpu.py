"""What a training does where there is a GPU, on one that is pretended: see `pretended_gpu`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pretended_gpu
import pytest
from nursery import Nursery, call
from small_runs import AtLook, digits, resume, rows, same, stop_at, train, weights

from engine.job import Job
from engine.training.control import Control

pytestmark = pytest.mark.skipif(bool(pretended_gpu.compiler()), reason=str(pretended_gpu.compiler()))

CONVOLUTIONS = [
    {"name": "Conv2d", "out_channels": 8, "kernel_size": 3},
    {"name": "BatchNorm2d"},
    {"name": "ReLU"},
    {"name": "Flatten"},
    {"name": "Linear", "out_features": "classes"},
]
CASES: dict[str, dict[str, Any]] = {
    "in memory": {},
    "loader": {"data.in_memory": False},
    "workers": {"data.in_memory": False, "data.num_workers": 1},
    "convolutions": {"model.layers": CONVOLUTIONS},
    "accumulate": {"training.accumulate": 3},
    "adamw": {"optimizer": {"name": "AdamW", "lr": 0.01}, "scheduler": None},
    "ema": {"training.average.kind": "ema"},
    "clipped": {"training.clip_grad_norm": 1.0},
    "class weights": {"loss.weight": [1.0, 2.0] * 5},
    "bf16": {"training.precision": "bf16"},
    "fp16": {"training.precision": "fp16"},
    "careful": {"training.on_nan": "skip"},
}
# Where the host may wait: to read the losses, ten times a second, to keep a checkpoint, and when a part is measured.
READS = "training/meter.py Meter._transfer"
MEANT = {
    READS,
    "insight/health.py Health._checkup",
    "policies/nonfinite.py all_finite",
    "checkpoints/snapshot.py _Copying.run",
    "training/evaluation.py evaluate",
}
# torch's scaler asks after each step whether its gradients were finite, unless the optimizer's kernel does.
OF_THEIR_OWN = {
    "clipped": {"training/trainer.py Trainer._read"},
    "fp16": {"optim/optim.py Optim._move", "optim/optim.py Optim.state", "policies/precision.py Precision.collapsed"},
    "careful": {"policies/nonfinite.py FirstAid.check_loss", "policies/nonfinite.py FirstAid.check_gradients"},
}
# What is copied once, or once an epoch: the data, the weights, the order of the samples.
ONCE = {
    "data/serving/server.py Server._held",
    "policies/backends.py place",
    "data/serving/batches.py TensorBatches.epoch",
    "tasks/losses.py make_task",
    "policies/averaging.py load_named",  # the best weights, to be tested
}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretended_gpu.compiled(tmp_path_factory.mktemp("gpu"))


@pytest.fixture
def on_gpu(nursery: Nursery, library: Path, root: Path) -> Callable[..., dict[str, Any]]:
    """What a function of this module says that is called where there is a GPU."""

    def said(function: str, *arguments: str) -> dict[str, Any]:
        text = call(nursery, "test_on_a_gpu", function, library, root, *arguments, seconds=120)
        told: dict[str, Any] = json.loads(text.splitlines()[-1])
        return told

    return said


def trained(library: str, root: str, case: str) -> None:
    gpu = pretended_gpu.pretend(library)
    began = time.monotonic()
    job = train(digits({**CASES[case], "training.device": "cuda"}), Path(root))
    seen = {"seconds": time.monotonic() - began, "waits": dict(gpu.waits), "pageable": dict(gpu.pageable)}
    print(json.dumps({"error": str(job.history.error or ""), "losses": losses(job), **seen}))


def cut_and_resumed(library: str, root: str) -> None:
    pretended_gpu.pretend(library)
    recipe = digits({"training.device": "cuda", "training.precision": "fp16", "training.average.kind": "ema"})
    whole = train(recipe, Path(root))
    resumed = resume(train(recipe, Path(root), stop_at(13)).directory)
    print(json.dumps(_alike(whole, resumed)))


def parked(library: str, root: str) -> None:
    gpu = pretended_gpu.pretend(library)
    recipe = digits({"training.device": "cuda"})
    free = train(recipe, Path(root))
    emptied = gpu.emptied
    job = train(recipe, Path(root), AtLook({5: _park_a_moment}))
    said = [event.text for event in job.history.events if event.kind == "park"]
    print(json.dumps({**_alike(free, job), "said": said, "emptied": gpu.emptied - emptied}))


def mixed(library: str, root: str) -> None:
    import torch

    gpu = pretended_gpu.pretend(library)
    here, there = torch.ones(2), torch.ones(2, device="cuda:0")
    try:
        here + there
    except RuntimeError as error:
        refused = str(error)
    assert float(there.sum()) == 2
    print(json.dumps({"refused": refused, "type": there.device.type, "waits": gpu.waits.total()}))


def losses(job: Job) -> list[float]:
    return list(rows(job.directory, "train/loss").get("train/loss", {}).values())


def _alike(first: Job, second: Job) -> dict[str, Any]:
    """Whether two trainings have ended with the same bits."""
    bits = same(weights(first.directory), weights(second.directory))
    curves = [rows(job.directory, "train", "val") for job in (first, second)]
    errors = [str(job.history.error or "") for job in (first, second)]
    return {"errors": errors, "same": bits and curves[0] == curves[1]}


def _park_a_moment(control: Control) -> None:
    control.park()
    threading.Timer(0.1, control.resume).start()


def test_what_is_pretended_is_strict(on_gpu: Callable[..., dict[str, Any]]) -> None:
    said = on_gpu("mixed")

    assert "to be on the same device, but found cuda:0 and cpu" in said["refused"]
    assert (said["type"], said["waits"]) == ("cuda", 1)


@pytest.mark.parametrize("case", CASES)
def test_a_training_waits_for_the_device_where_it_means_to(case: str, on_gpu: Callable[..., dict[str, Any]]) -> None:
    said = on_gpu("trained", case)

    assert said["error"] == ""
    assert len(said["losses"]) == 24
    assert said["waits"].keys() <= MEANT | OF_THEIR_OWN.get(case, set())
    assert said["waits"][READS] <= said["seconds"] / 0.1 + 4  # and at the end of each epoch
    assert said["pageable"].keys() <= ONCE


@pytest.mark.parametrize("case", ["in memory", "loader", "adamw", "clipped", "class weights"])
def test_it_learns_there_what_it_learns_on_a_cpu(
    case: str, on_gpu: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    there, here = on_gpu("trained", case), train(digits(CASES[case]), tmp_path)

    assert there["losses"] == pytest.approx(losses(here), rel=1e-3)


def test_a_run_that_was_cut_ends_with_the_same_bits(on_gpu: Callable[..., dict[str, Any]]) -> None:
    assert on_gpu("cut_and_resumed") == {"errors": ["", ""], "same": True}


def test_a_pause_that_gives_the_memory_back_changes_no_bit(on_gpu: Callable[..., dict[str, Any]]) -> None:
    said = on_gpu("parked")

    assert (said["errors"], said["same"]) == (["", ""], True)
    assert said["emptied"]
    assert "host memory" in said["said"][0]
