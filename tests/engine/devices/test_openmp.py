"""Threads of the studio keep no intra-op threads that would slow a training down."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from small_runs import line

from engine.devices import openmp
from engine.devices.openmp import Threads, let_go
from engine.job import Job


def tasks() -> set[str]:
    return {each.name for each in Path("/proc/self/task").iterdir()}


def threads() -> int:
    return len(tasks())


def compute() -> float:
    torch.set_num_threads(2)
    return float(torch.ones(1000, 1000).exp().sum())


only_gcc = pytest.mark.skipif(
    sys.platform != "linux" or not list((Path(torch.__file__).parent / "lib").glob("libgomp.so.1")),
    reason="torch's OpenMP is not GCC's",
)


@only_gcc
@pytest.mark.parametrize(("kind", "kept"), [(ThreadPoolExecutor, True), (Threads, False)])
def test_intra_op_threads_end_with_the_work_that_needed_them(kind: type[ThreadPoolExecutor], kept: bool) -> None:
    share = torch.get_num_threads()
    with kind(1) as pool:
        pool.submit(os.getpid).result()
        before = threads()
        for _ in range(2):  # the second needs them anew
            assert pool.submit(compute).result() == pytest.approx(torch.e * 1e6, rel=1e-4)
            pool.submit(os.getpid).result()
            assert (threads() > before) is kept
    torch.set_num_threads(share)


@only_gcc
def test_a_training_begins_without_those_of_the_thread_that_starts_it(tmp_path: Path) -> None:
    """As `torch-tui train` checks its recipe before."""

    def started() -> set[str]:
        job = Job.create(line(), tmp_path, "line")
        job._thread = threading.Thread()  # its own threads would be seen too
        before = tasks()
        compute()
        own = tasks() - before
        job.start()
        return own

    with ThreadPoolExecutor(1) as pool:
        own = pool.submit(started).result()
        assert own
        assert not own & tasks()


def test_what_is_raised_and_returned_goes_through() -> None:
    with Threads(1) as pool:
        assert pool.submit(max, 1, 2).result() == 2
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()


def test_where_openmp_is_another_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_library", openmp._Library())
    monkeypatch.setattr(sys, "platform", "darwin")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(compute).result()
        before = threads()
        pool.submit(let_go).result()
        assert threads() == before
