from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from small_runs import AtLook, digits, finish, line, resume, rows, stop_at, train, wait_for

from engine.checkpoints.checkpoint import Checkpoints
from engine.job import Job
from engine.training.control import CheckpointNow, Command, Control, SetLearningRate

LONG = {"training.epochs": 100_000, "training.checkpoint_every": "1 h"}


@pytest.fixture
def job(root: Path) -> Job:
    return Job.create(line(LONG), root, "line")


def steps(job: Job) -> int:
    return job.history.progress.step


def events(job: Job, kind: str) -> list[str]:
    return [event.text for event in job.history.events if event.kind == kind]


class TestPause:
    def test_it_holds_and_resume_goes_on_where_it_was(self, job: Job) -> None:
        job.start()
        try:
            wait_for(lambda: steps(job) > 0)
            job.control.pause()
            wait_for(lambda: job.history.progress.state == "paused")
            held = steps(job)
            time.sleep(0.3)
            assert steps(job) == held
            job.control.resume()
            wait_for(lambda: steps(job) > held)
            assert job.history.progress.state in ("training", "validating")
        finally:
            job.control.stop()
            finish(job)
        assert events(job, "pause") == [f"paused at step {held}"]
        assert events(job, "resume") == ["training goes on"]

    def test_a_pause_changes_no_number(self, root: Path) -> None:
        def pause_a_moment(control: Control) -> None:
            control.pause()
            threading.Timer(0.05, control.resume).start()

        paused, free = train(digits(), root, AtLook({5: pause_a_moment})), train(digits(), root)

        assert events(paused, "pause") == ["paused at step 5"]
        assert rows(paused.directory, "train", "val") == rows(free.directory, "train", "val")

    def test_stop_ends_a_pause_and_does_not_claim_to_go_on(self, job: Job) -> None:
        job.start()
        job.control.pause()
        wait_for(lambda: job.history.progress.state == "paused")

        job.control.stop()

        finish(job)
        assert job.history.progress.state == "stopped"
        assert events(job, "resume") == []

    def test_the_time_of_a_pause_is_not_training_time(self, root: Path) -> None:
        def pause_a_moment(control: Control) -> None:
            control.pause()
            threading.Timer(1.0, control.resume).start()

        job = train(line(), root, AtLook({2: pause_a_moment}))

        assert job.history.summary is not None
        assert job.history.summary.seconds < 1.0


class TestStop:
    @pytest.mark.parametrize("look", [1, 3])
    def test_it_ends_after_the_step_with_a_checkpoint_of_it(self, look: int, root: Path) -> None:
        job = train(line(), root, stop_at(look))

        newest = Checkpoints(job.directory.checkpoints).all()[-1]
        assert newest.step == look
        assert list(rows(job.directory)["train/loss"]) == list(range(1, look + 1))
        assert job.history.progress.state == job.directory.status().state == "stopped"
        assert job.history.error is None

    def test_during_validation_it_ends_before_the_validation_does(self, root: Path) -> None:
        job = train(digits(), root, stop_at(9))  # eight steps, then the first of three validation batches

        newest = Checkpoints(job.directory.checkpoints).all()[-1]
        assert (newest.epoch, newest.step) == (0, 8)
        assert "val/loss" not in rows(job.directory)

    def test_before_the_start_one_step_is_made_and_kept(self, job: Job) -> None:
        job.control.stop()

        job.start()

        finish(job)
        assert Checkpoints(job.directory.checkpoints).all()[-1].step == 1

    def test_twice_is_once(self, root: Path) -> None:
        control = AtLook({2: lambda control: (control.stop(), control.stop())})

        assert train(line(), root, control).history.progress.state == "stopped"


class TestLearningRate:
    def test_it_is_that_of_the_next_step_and_is_recorded(self, root: Path) -> None:
        control = AtLook({3: lambda control: control.set_learning_rate(1e-30)})

        job = train(line(), root, control)

        assert events(job, "lr") == ["learning rate 0.05 → 1e-30"]
        assert [event.step for event in job.history.events if event.kind == "lr"] == [3]
        # Nothing is learned from the fourth step on, so the weights are those of the third.
        values = rows(job.directory, "val")["val/loss"]
        assert values[5] == values[10]
        free = rows(train(line(), root).directory, "train")["train/loss"]
        ours = rows(job.directory, "train")["train/loss"]
        assert [ours[step] for step in (1, 2, 3, 4)] == [free[step] for step in (1, 2, 3, 4)]
        assert ours[5] != free[5]

    def test_of_several_the_last_holds(self, root: Path) -> None:
        control = AtLook({3: lambda control: [control.set_learning_rate(rate) for rate in (0.1, 0.2, 0.3)]})

        job = train(line(), root, control)

        assert job.history.progress.learning_rate == 0.3
        assert len(events(job, "lr")) == 3


class TestCheckpointNow:
    @pytest.mark.usefixtures("disk_keeps_up")
    def test_it_is_written_and_the_training_goes_on(self, root: Path) -> None:
        job = train(line(), root, AtLook({3: Control.checkpoint}))

        assert events(job, "checkpoint") == ["checkpoint written at step 3"]
        assert job.history.progress.state == "done"

    def test_also_while_paused(self, job: Job) -> None:
        job.start()
        job.control.pause()
        wait_for(lambda: job.history.progress.state == "paused")
        job.control.checkpoint()
        wait_for(lambda: events(job, "checkpoint"))
        written = Checkpoints(job.directory.checkpoints).all()[-1].step

        job.control.stop()

        finish(job)
        assert written == steps(job)

    def test_also_during_validation(self, root: Path) -> None:
        job = train(digits(), root, AtLook({10: Control.checkpoint, 11: Control.stop}))

        assert job.history.error is None
        assert events(job, "checkpoint") == ["checkpoint written at step 8"]


class TestThreads:
    def test_nothing_told_by_any_thread_is_lost(self) -> None:
        control, count, tellers = Control(), 2000, 4
        taken: list[Command] = []

        def tell() -> None:
            for number in range(1, count + 1):
                control.set_learning_rate(number)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=tell) for _ in range(tellers)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                if control.pending:
                    taken += control.take()
        finally:
            sys.setswitchinterval(interval)
        if control.pending:
            taken += control.take()

        assert len(taken) == count * tellers

    def test_a_command_told_while_others_are_taken_is_still_pending(self) -> None:
        class Late(Control):
            """Is told something more at the very end of `take`."""

            @property
            def stopping(self) -> bool:
                if self.late:
                    self.late.pop()()
                return False

            @stopping.setter
            def stopping(self, value: bool) -> None:
                self.late = [self.checkpoint] if value else []

        control = Late()
        control.set_learning_rate(0.1)
        control.late = [control.checkpoint]

        assert control.take() == [SetLearningRate(0.1)]
        assert control.pending
        assert control.take() == [CheckpointNow()]
        assert not control.pending

    def test_a_signal_handler_may_interrupt_it_at_any_line(self) -> None:
        """A SIGHUP comes within the handler of a SIGTERM: both stop the run, in one thread."""
        control, interrupted = Control(), []

        def stop_again(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            if event == "line":
                interrupted.append(frame.f_code.co_name)
                control.stop()  # no line of this one is traced
            return stop_again

        def stop() -> None:
            sys.settrace(stop_again)
            control.stop()
            sys.settrace(None)

        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        thread.join(5)

        assert not thread.is_alive(), f"it waits for itself: {interrupted}"
        assert "_tell" in interrupted

    def test_who_waits_is_woken_at_once_and_by_what_was_told_before_only_once(self) -> None:
        control = Control()
        control.checkpoint()
        control.checkpoint()
        began = time.monotonic()

        control.wait(10)
        assert time.monotonic() - began < 5
        control.wait(0.2)
        assert time.monotonic() - began >= 0.2

        threading.Timer(0.05, control.resume).start()
        control.wait(10)
        assert time.monotonic() - began < 5

    def test_a_run_takes_commands_of_many_threads(self, job: Job) -> None:
        job.start()
        wait_for(lambda: steps(job) > 0)

        def tell(number: int) -> None:
            for _ in range(5):
                job.control.pause()
                job.control.set_learning_rate(number / 100)
                job.control.resume()

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(events(job, "lr")) == 40)
        job.control.stop()

        finish(job)
        assert job.history.progress.state == "stopped"


class TestRateAndCheckpoint:
    def test_a_rate_changed_after_a_checkpoint_of_the_same_step_is_in_the_one_that_stop_writes(
        self, root: Path
    ) -> None:
        """Pause, checkpoint, change the rate, stop: all at one step, and the resumed run must have the new rate."""

        def act(control: Control) -> None:
            control.checkpoint()
            control.set_learning_rate(0.5)
            control.stop()

        run = train(line(), root, AtLook({3: act})).directory

        assert resume(run).history.progress.learning_rate == 0.5
