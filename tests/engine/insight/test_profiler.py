"""A few profiled steps name their costliest operations and leave a trace that other programs can read."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from nursery import Nursery, call
from torch import nn

from engine.errors import TrainingError
from engine.insight.profiler import Profile, Report, top


class Training:
    """Steps of a small CNN."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01)

    def step(self) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(torch.randn(16, 1, 28, 28)), torch.zeros(16, dtype=torch.long)).backward()
        self.optimizer.step()


def profiled(profile: Profile, step: int = 0) -> int:
    """Train until the profile has enough; how many steps that were."""
    training, steps = Training(), 0
    training.step()
    profile.begin(step)
    while True:
        training.step()
        steps += 1
        if profile.step():
            return steps


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    profile = Profile(3)
    assert profiled(profile, 40) == 3
    return profile.finish(tmp_path_factory.mktemp("profiles") / "made")


def test_the_costliest_operations_of_a_cnn_are_its_products(report: Report) -> None:
    calls = {operation.name: operation.calls for operation in report.by_time}
    assert calls["aten::convolution_backward"] == 3  # one convolution, three steps
    assert calls["aten::addmm"] == 3
    assert "aten::softmax_of_nothing" not in calls


def test_ten_are_named_the_costliest_first(report: Report) -> None:
    times = [operation.seconds for operation in report.by_time]
    memory = [operation.memory for operation in report.by_memory]
    assert len(times) == 10
    assert 0 < len(memory) <= 10
    assert times == sorted(times, reverse=True)
    assert memory == sorted(memory, reverse=True)
    assert min(memory) > 0
    assert 0.3 < sum(operation.share for operation in report.by_time) <= 1.0
    assert sum(times) < 60


def test_memory_is_counted_in_bytes(report: Report) -> None:
    # Three times 16 pictures drawn, of 28 by 28 floats.
    drawn = next(operation for operation in report.by_memory if operation.name in ("aten::randn", "aten::empty"))
    assert drawn.memory >= 3 * 16 * 28 * 28 * 4


def test_the_trace_is_one_that_chrome_reads(report: Report) -> None:
    assert report.trace.name == "trace-40.json"
    events = json.loads(report.trace.read_text(encoding="utf-8"))["traceEvents"]
    assert any("addmm" in event.get("name", "") for event in events)


def test_the_text_has_both_tables_and_lies_beside_the_trace(report: Report) -> None:
    assert (report.trace.parent / "profile-40.txt").read_text(encoding="utf-8") == report.text
    assert "The costliest operations of 3 steps by time (CPU)\noperation" in report.text
    assert "by memory (CPU)" in report.text
    assert report.text.count("aten::addmm ") >= 1
    assert max(map(len, report.text.splitlines())) <= 100
    assert top(report).startswith(f"{report.by_time[0].name} takes ")


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    profile = Profile(1)
    profiled(profile)
    with pytest.raises(TrainingError, match=r"the profile can't be written: .* Make room on the disk"):
        profile.finish(tmp_path / "file")


def profile_with_little_room(folder: str, limit: str) -> None:
    profile = Profile(1)
    profile.begin()
    for _ in range(100):
        torch.ones(8, 8) @ torch.ones(8, 8)
    profile.step()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        profile.finish(Path(folder))
        print("written whole")
    except TrainingError as error:
        print(error)


@pytest.mark.parametrize(("limit", "said"), [(10_000, "the profile can't be written"), (10**8, "written whole")])
def test_a_disk_that_takes_half_a_trace_is_said(nursery: Nursery, tmp_path: Path, limit: int, said: str) -> None:
    # A process of its own may not write more than `limit` bytes into a file, as if the disk were full.
    assert said in call(nursery, "test_profiler", "profile_with_little_room", tmp_path, str(limit))


def test_a_cancelled_profile_can_begin_again(tmp_path: Path) -> None:
    profile = Profile(2)
    profile.begin()
    Training().step()
    profile.cancel()
    profile.cancel()
    assert profiled(profile, 7) == 2
    assert profile.finish(tmp_path).steps == 2
