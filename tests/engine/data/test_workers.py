"""A worker that dies or hangs is named, with its sample, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from nursery import Nursery, call
from torch import Tensor
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from engine.data.load import load
from engine.data.serving.batches import Batch, Finish
from engine.data.serving.loader import LoaderBatches
from engine.data.serving.workers import Slots, patience
from engine.errors import DataError, RecipeError, TrainingError
from engine.recipe import Data

CPU = torch.device("cpu")
COUNT, BAD = 23, 12


@dataclass
class Troubled:
    """A dataset in which something befalls the reader of sample 12."""

    trouble: str
    slow: float = 0.0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(self.slow)
        if index == BAD:
            befall(self.trouble)
        return torch.zeros(2 + (self.trouble == "shape" and index == BAD)), index


def befall(trouble: str) -> None:
    time.sleep(0.2)  # what was read before is on its way
    if trouble == "exit":
        os._exit(3)
    if trouble == "SystemExit":
        sys.exit("no more")
    if trouble == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    if trouble == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble == "sleep":
        time.sleep(3600)
    if trouble == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if trouble == "raise":
        raise ValueError("a torn picture\nwith more to say")
    if trouble == "two arguments":
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "bad start")
    if trouble == "stop":
        raise StopIteration


@pytest.fixture(autouse=True)
def _torch_looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks every five seconds whether its workers live, and waits as long for one that it ends."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)


Made = list[LoaderBatches]


@pytest.fixture
def made() -> Iterator[Made]:
    batches: Made = []
    yield batches
    for each in batches:
        each.close()


def serve(made: Made, trouble: str, *, workers: int = 2, patience_s: float = 60, slow: float = 0) -> LoaderBatches:
    """In order, in batches of 2; sample 12 has something in it."""
    data = Troubled(trouble, slow)
    made.append(LoaderBatches(data, None, Finish(()), 2, CPU, workers=workers, patience_s=patience_s))
    return made[-1]


def processes(batches: LoaderBatches) -> list[psutil.Process]:
    return [psutil.Process(worker.pid) for worker in batches._readers.processes]


def gone(workers: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(workers, timeout=5)[1]


@pytest.mark.parametrize(("trouble", "ending"), [("exit", "exited with status 3"), ("kill", "killed (SIGKILL)")])
def test_a_worker_that_dies_is_named_with_its_sample(made: Made, trouble: str, ending: str) -> None:
    batches = serve(made, trouble)
    epoch, served = batches.epoch(0), list[Batch]()
    served.append(next(epoch))
    workers = processes(batches)
    with pytest.raises(TrainingError) as caught:
        served.extend(epoch)
    assert 0 < len(served) <= BAD // 2
    # Batches go round: the seventh is the first worker's.
    what = f"data: worker 0 (process {workers[0].pid}) died while reading sample {BAD}."
    assert str(caught.value).startswith(what)
    assert ending in caught.value.remedy
    assert "data.num_workers = 0" in caught.value.remedy
    assert caught.value.__cause__ is not None
    began = time.monotonic()
    batches.close()
    assert time.monotonic() - began < 4
    assert gone(workers)


@pytest.mark.parametrize("trouble", ["sleep", "freeze"])
def test_a_worker_that_hangs_is_named_with_its_sample_and_killed(made: Made, trouble: str) -> None:
    batches = serve(made, trouble, patience_s=1)
    epoch = batches.epoch(0)
    next(epoch)
    workers = processes(batches)
    with pytest.raises(TrainingError) as caught:
        list(epoch)
    what = f"worker 0 (process {workers[0].pid}) hangs: it has been reading sample {BAD} for 1 second"
    assert caught.value.what == what
    assert "data.worker_timeout" in caught.value.remedy
    began = time.monotonic()
    batches.close()
    assert time.monotonic() - began < 4
    assert gone(workers)
    assert "data-workers" not in {thread.name for thread in threading.enumerate()}


def test_slow_samples_are_no_hang(made: Made) -> None:
    # Each batch takes longer than the patience, each sample less.
    batches = serve(made, "", patience_s=0.8, slow=0.5)
    assert sum(map(len, batches.epoch(0))) == COUNT


def test_an_idle_worker_does_not_hang(made: Made) -> None:
    batches = serve(made, "", workers=1, patience_s=0.4)
    epoch = batches.epoch(0)
    next(epoch)
    time.sleep(1.5)  # the one who trains is slow
    assert sum(map(len, epoch)) == COUNT - 2
    time.sleep(1.0)
    assert sum(map(len, batches.epoch(1))) == COUNT


class Noted(Troubled):
    """Notes in shared memory which samples are read."""

    def __init__(self) -> None:
        super().__init__("", slow=0.2)
        self.read = torch.zeros(COUNT, dtype=torch.bool)
        self.read.share_memory_()  # type: ignore[no-untyped-call]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read[index] = True
        return super().__getitem__(index)


def test_what_is_read_ahead_is_left_as_soon_as_another_reading_takes_the_workers(made: Made) -> None:
    data = Noted()
    made.append(LoaderBatches(data, None, Finish(()), 2, CPU, workers=1))  # which reads two batches ahead
    first = made[-1].epoch(0)
    next(first)
    assert next(made[-1].epoch(1)).targets.tolist() == [0, 1]
    assert not data.read[5], "it was to be read for the first reading"
    assert next(first).targets.tolist() == [2, 3], "which goes on where it was"


def test_a_hung_worker_is_ended_by_close_too(made: Made) -> None:
    batches = serve(made, "freeze", patience_s=3600)
    epoch = batches.epoch(0)
    for _ in range(3):  # the next ones are read ahead
        next(epoch)
    workers = processes(batches)
    while workers[0].status() != psutil.STATUS_STOPPED:
        time.sleep(0.05)
    batches.close()
    assert gone(workers)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("raise", "ValueError: a torn picture"),
        ("two arguments", "UnicodeDecodeError: 'utf-8' codec can't decode"),
        ("stop", "StopIteration"),
        ("SystemExit", "SystemExit: no more"),
    ],
)
def test_an_error_of_the_dataset_names_sample_file_and_line(made: Made, workers: int, trouble: str, says: str) -> None:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if f'trouble == "{trouble}":' in text) + 1
    batches = serve(made, trouble, workers=workers)
    served: list[Batch] = []
    with pytest.raises(DataError) as caught:
        served.extend(batches.epoch(0))
    assert len(served) == BAD // 2
    assert f"sample {BAD} of the dataset can't be read: {__file__}:{line}: {says}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "in befall" in traceback_of(caught.value)


def traceback_of(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_that_do_not_fit_together_are_named(made: Made, workers: int) -> None:
    with pytest.raises(DataError, match=f"samples {BAD}, {BAD + 1} do not make a batch: "):
        list(serve(made, "shape", workers=workers).epoch(0))


def test_the_line_is_the_persons_and_not_the_librarys(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import json\nclass Mine:\n    classes = ['a']\n    def __len__(self): return 4\n"
        "    def __getitem__(self, index):\n        return ([1.0], 0) if index < 3 else json.loads('{')\n",
        encoding="utf-8",
    )
    data = load(Data(python=f"{file}:Mine"), "classification").parts["all"]
    with pytest.raises(DataError, match=r"sample 3 of the dataset can't be read: .*mine\.py:6: JSONDecodeError"):
        list(LoaderBatches(data, None, Finish(()), 2, CPU).epoch(0))


def test_a_subset_names_the_sample_by_its_number_in_the_dataset() -> None:
    batches = LoaderBatches(Troubled("raise"), torch.tensor([5, BAD, 2]), Finish(()), 1, CPU)
    with pytest.raises(DataError, match=f"sample {BAD} of"):
        list(batches.epoch(0))


def test_patience_is_a_time() -> None:
    assert patience("5 min") == 300
    with pytest.raises(RecipeError, match=r"data\.worker_timeout: '2 epochs' is not a time"):
        patience("2 epochs")


def test_a_worker_outlives_a_sigterm_which_its_training_obeys(made: Made) -> None:
    read = [number for batch in serve(made, "sigterm").epoch(0) for number in batch.targets.flatten().tolist()]
    assert sorted(read) == list(range(COUNT))


def end_what_was_started() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGTERM)
    Slots(1)(0)
    started = subprocess.Popen(["sleep", "60"])
    started.terminate()
    print(started.wait(10))


def test_what_a_dataset_starts_in_a_worker_can_still_be_ended_by_sigterm(nursery: Nursery) -> None:
    """Also where the worker began with the signal blocked, so that it outlives one that comes while it starts."""
    assert call(nursery, "test_workers", "end_what_was_started") == f"{-signal.SIGTERM}\n"
