"""Two processes on one run: one has it, the other is told whose it is."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from nursery import Child, Nursery
from small_runs import finish, line, resume, start, stop_at, train, wait_for

from engine.errors import RunError
from engine.job import Job
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.history import LIVE
from engine.runs.metrics import read_facts, write_facts

LONG = {"training.epochs": 100_000}


def hold(run: str) -> None:
    """Have a run locked, and train nothing."""
    with RunDirectory(Path(run)).claim():
        print("held", flush=True)
        time.sleep(60)


def go_on(run: str) -> None:
    job = Job.resumed(RunDirectory(Path(run)))
    job.start()
    job.join()


def let_a_child_die(run: str) -> None:
    """Train in a child that is killed, and never ask what became of it: it stays as a zombie."""
    child = os.fork()
    if child == 0:
        go_on(run)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)


def try_to_train(run: str) -> None:
    try:
        job = Job.resumed(RunDirectory(Path(run)))
    except RunError as error:
        print(f"at once: {error}")
        return
    job.start()
    job.join()
    print(f"in the end: {job.history.error}")


@pytest.fixture
def run(root: Path) -> RunDirectory:
    """A long run that was stopped after three steps."""
    job: Job = train(line(LONG), root, stop_at(3))
    return job.directory


def whose(child: Child) -> str:
    return f"is being trained by process {child.pid} on {socket.gethostname()}. Stop it there first."


def wait_until_it_trains(run: RunDirectory) -> None:
    wait_for(lambda: run.status().state in LIVE)


def can_claim(run: RunDirectory) -> bool:
    """Whether nobody holds the run."""
    try:
        run.claim().close()
    except RunError:
        return False
    return True


class TestTwoProcesses:
    def test_the_second_is_refused_with_the_pid_and_host_of_the_first(
        self, nursery: Nursery, run: RunDirectory
    ) -> None:
        first = nursery.start("test_locks", "go_on", run.path)
        wait_until_it_trains(run)
        try:
            with pytest.raises(RunError) as caught:
                Job.resumed(run)
            with pytest.raises(RunError) as again:
                run.claim()
            other = nursery.start("test_locks", "try_to_train", run.path).wait()
        finally:
            first.kill()

        assert whose(first) in str(caught.value)
        assert whose(first) in str(again.value)
        assert whose(first) in other

    def test_one_that_only_prepares_is_named_and_not_the_one_before(self, nursery: Nursery, run: RunDirectory) -> None:
        first = nursery.start("test_locks", "hold", run.path)
        wait_for(lambda: first.output.read_text())
        try:
            assert run.status().state == "stopped"  # nothing is written of the first yet
            job = resume(run)
        finally:
            first.kill()

        assert whose(first) in str(job.history.error)
        assert job.history.progress.state == "failed"
        assert run.status().state == "stopped"  # the refused one has touched nothing

    def test_the_lock_ends_with_a_process_that_is_killed(self, nursery: Nursery, run: RunDirectory) -> None:
        first = nursery.start("test_locks", "go_on", run.path)
        wait_until_it_trains(run)

        first.kill()

        assert run.status().state == "interrupted"
        run.claim().close()
        assert resume(run, stop_at(2)).history.error is None

    def test_a_killed_process_that_nobody_buries_holds_nothing(self, nursery: Nursery, run: RunDirectory) -> None:
        parent = nursery.start("test_locks", "let_a_child_die", run.path)
        try:
            wait_until_it_trains(run)
            child = int(parent.output.read_text())
            os.kill(child, 9)
            wait_for(
                lambda: f"{child} (python) Z" in Path(f"/proc/{child}/stat").read_text().replace("python3", "python")
            )

            assert run.status().state == "interrupted"
            wait_for(lambda: can_claim(run))  # the first of its threads is buried before the last has let go
            assert resume(run, stop_at(2)).history.error is None
        finally:
            parent.kill()

    def test_two_that_start_at_once_are_one_that_trains_and_one_that_is_refused(
        self, nursery: Nursery, root: Path
    ) -> None:
        run = train(line({"training.epochs": 40}), root, stop_at(3)).directory

        both = [nursery.start("test_locks", "try_to_train", run.path) for _ in range(2)]
        said = sorted((child.wait(), child.pid) for child in both)

        trained, refused = said if "None" in said[0][0] else said[::-1]
        assert trained[0] == "in the end: None\n"
        assert f"is being trained by process {trained[1]} on" in refused[0] or "is done" in refused[0]
        assert run.status().state == "done"

    def test_another_run_is_free(self, nursery: Nursery, run: RunDirectory, root: Path) -> None:
        first = nursery.start("test_locks", "go_on", run.path)
        wait_until_it_trains(run)
        try:
            assert train(line(), root).history.error is None
        finally:
            first.kill()


class TestOneProcess:
    def test_a_second_job_is_refused_while_the_first_trains_and_not_after(self, root: Path) -> None:
        job = start(line(LONG), root)
        wait_for(lambda: job.history.progress.step > 0)
        with pytest.raises(RunError, match=rf"is being trained by process {os.getpid()} on "):
            job.directory.claim()
        job.control.stop()
        finish(job)

        job.directory.claim().close()

    def test_a_run_of_another_host_is_taken_to_live(self, run: RunDirectory) -> None:
        write_facts(run.metrics_file, {"state": "training", "host": "elsewhere", "pid": 1})
        write_facts(run.metrics_file, {"claimed": {"pid": 17, "host": "elsewhere"}})

        with pytest.raises(RunError, match="is being trained by process 17 on elsewhere"):
            Job.resumed(run)

    def test_facts_of_an_owner_that_make_no_sense_name_another_process(self, run: RunDirectory) -> None:
        claimed: object
        for claimed in (5, "text", [], {"pid": 3}, None):
            write_facts(run.metrics_file, {"claimed": claimed})
            assert run.owner() == "another process"

    def test_claiming_says_who_has_it(self, run: RunDirectory) -> None:
        with run.claim():
            assert read_facts(run.metrics_file)["claimed"]["pid"] == os.getpid()
            assert isinstance(run.recipe(), Recipe)
