from __future__ import annotations

import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from nursery import Nursery, call
from small_runs import (
    AtLook,
    digits,
    finish,
    line,
    python_file,
    resume,
    same,
    start,
    stop_at,
    train,
    weights,
)

from engine.data.fetching.telling import Bytes, Fetched
from engine.data.serving.batches import TensorBatches
from engine.devices.monitor import Monitor
from engine.errors import DeviceError, RunError, StudioError
from engine.job import Job, explain
from engine.models.blocks import Chain
from engine.recipe import Recipe
from engine.runs.recorder import Recorder
from engine.training.trainer import Trainer

MODEL = """
import torch
class Mine(torch.nn.Linear):
    steps = 0
    def forward(self, inputs):
        # The shape is traced on the meta device, and a first step is made, before anything goes wrong.
        self.steps += inputs.device.type == "cpu"
        if self.steps > 1:
            {}
        return super().forward(inputs)
def make():
    return Mine(1, 1)
"""
DATA = """
import torch
class Points:
    "Points of mine."
    def __len__(self):
        return 40
    def __getitem__(self, index):
        if index == 7:
            {}
        return torch.tensor([index / 40]), torch.tensor([index / 20])
def make():
    return Points()
"""


def with_model(tmp_path: Path, statement: str) -> Recipe:
    return line({"model": {"python": python_file(tmp_path, MODEL.format(statement)) + ":make"}})


def with_data(tmp_path: Path, statement: str, workers: int = 0) -> Recipe:
    file = python_file(tmp_path, DATA.format(statement), "data.py")
    return line({"data": {"python": f"{file}:make", "batch_size": 8, "num_workers": workers}})


class Resuming(Job):
    """Notes the tensors of the checkpoint that it loads."""

    def _take_newest(self, say: Callable[[str], None]) -> None:
        super()._take_newest(say)
        assert self._loaded is not None
        self.tensors = [weakref.ref(tensor) for tensor in self._loaded.weights.values()]

    def held(self) -> list[object]:
        return [reference() for reference in self.tensors if reference() is not None]


class WithoutRecorder(Resuming):
    """Its disk is full when it has loaded the checkpoint."""

    def _open(self, monitor: Monitor) -> Recorder:
        super()._open(monitor).close()
        raise OSError("no space left")


def vanish(folder: Path) -> None:
    """Remove a folder in which another thread may be writing."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def assert_failed(job: Job, *words: str) -> None:
    """The reason is in memory, on disk and in one line; the traceback is in the log file alone."""
    reason = str(job.history.error)
    assert isinstance(job.history.error, StudioError)
    for word in words:
        assert word in reason
    assert "\n" not in reason
    assert job.history.progress.state == "failed"
    assert job.history.progress.text == reason
    status = job.directory.status()
    assert (status.state, status.reason) == ("failed", reason)
    assert "Traceback" in job.directory.log_file.read_text()
    assert not any("Traceback" in entry for entry in job.history.log)
    assert any(f"failed: {reason}" in entry for entry in job.history.log)


class TestFailingModel:
    @pytest.mark.parametrize(
        ("statement", "words"),
        [
            ("raise ValueError('my mistake')", ("mine.py:9", "ValueError: my mistake", "log.txt")),
            ("raise SystemExit", ("mine.py:9", "SystemExit")),
            ("raise SystemExit(3)", ("mine.py:9", "SystemExit: 3")),
            ("raise KeyboardInterrupt", ("mine.py:9", "KeyboardInterrupt")),
            ("raise GeneratorExit", ("mine.py:9", "GeneratorExit")),
            ("raise BaseException('bare')", ("BaseException: bare",)),
            ("raise ValueError('two\\nlines')", ("ValueError: two",)),
            (
                "return super().forward(inputs) * float('nan')",
                ("the loss is not finite at step 2; it first appeared in Mine", "Try a lower"),
            ),
            ("return torch.empty(10**14)", ("out of memory: not even a single sample fits", "a smaller model")),
            ("return bytearray(10**17)", ("out of memory: not even a single sample fits", "a smaller model")),
            ("return None", ("AttributeError",)),
            ("return inputs[:1].long()", ()),
            ("return self.forward(inputs)", ("RecursionError",)),
            ("import nowhere", ("ModuleNotFoundError: No module named 'nowhere'",)),
            ("raise type('Odd', (Exception,), {{'__str__': lambda self: ''}})", (": Odd.",)),
        ],
    )
    def test_a_run_fails_with_its_reason_and_the_process_goes_on(
        self, statement: str, words: tuple[str, ...], root: Path, tmp_path: Path
    ) -> None:
        failed = train(with_model(tmp_path, statement.replace("{{", "{").replace("}}", "}")), root)

        assert_failed(failed, *words)
        assert train(line(), root).history.progress.state == "done"

    def test_the_same_model_without_the_fault_trains(self, root: Path, tmp_path: Path) -> None:
        assert train(with_model(tmp_path, "pass"), root).history.error is None

    @pytest.mark.parametrize("statement", ["raise SystemExit(3)", "raise KeyboardInterrupt", "1 / 0", "import nowhere"])
    def test_a_file_that_fails_when_it_is_loaded_names_its_line(
        self, statement: str, root: Path, tmp_path: Path
    ) -> None:
        file = python_file(tmp_path, f"def make():\n    return None\n{statement}\n")

        job = train(line({"model": {"python": f"{file}:make"}}), root)

        assert_failed(job, "mine.py:3")

    def test_an_exception_that_cannot_be_printed_is_survived(self, root: Path, tmp_path: Path) -> None:
        statement = "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})"

        job = train(with_model(tmp_path, statement), root)

        assert job.history.progress.state == "failed"
        assert "Mute" in str(job.history.error)
        assert job.directory.status().state == "failed"


class TestFailingData:
    def test_a_sample_that_cannot_be_read_fails_the_run_and_names_the_line(self, root: Path, tmp_path: Path) -> None:
        assert_failed(
            train(with_data(tmp_path, "raise ValueError('sample 7 is broken')"), root),
            "data.py:9",
            "sample 7 is broken",
        )

    def test_the_same_data_without_the_fault_trains(self, root: Path, tmp_path: Path) -> None:
        assert train(with_data(tmp_path, "pass"), root).history.error is None

    def test_what_a_worker_raises_is_told_in_its_own_words(self, root: Path, tmp_path: Path) -> None:
        job = train(with_data(tmp_path, "raise ValueError('sample 7 is broken')", workers=2), root)

        assert_failed(job, "sample 7 of the dataset can't be read", "ValueError: sample 7 is broken")

    def test_a_worker_that_dies_fails_the_run(self, root: Path, tmp_path: Path) -> None:
        job = train(with_data(tmp_path, "import os; os._exit(1)", workers=1), root)

        assert_failed(job, "worker 0", "died while reading sample 7", "num_workers = 0")


class TestFailingDirectory:
    def test_a_root_that_cannot_be_written_is_refused_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("a file in the way")

        with pytest.raises(RunError, match="a run can't be written there"):
            Job.create(line(), tmp_path / "runs", "line")

    def test_a_directory_that_vanished_before_the_start_is_one_clear_message(self, root: Path) -> None:
        job = Job.create(line(), root, "line")
        shutil.rmtree(job.directory.path)

        job.start()

        finish(job)
        assert isinstance(job.history.error, RunError)
        assert str(job.directory.path) in str(job.history.error)
        assert "can't be written" in str(job.history.error)
        assert job.history.progress.state == "failed"

    def test_a_directory_that_vanishes_while_it_trains_is_said_and_not_made_again(self, root: Path) -> None:
        job = start(line(), root, AtLook({3: lambda control: vanish(root)}))

        finish(job)

        assert not root.exists()
        trouble = [event.text for event in job.history.events if event.kind == "trouble"]
        assert trouble
        assert all("a checkpoint can't be written" in text for text in trouble)
        assert train(line(), root).history.progress.state == "done"

    def test_a_stop_without_a_place_for_a_checkpoint_does_not_claim_one(self, root: Path) -> None:
        job = train(line(), root, AtLook({3: lambda control: vanish(root), 4: lambda control: control.stop()}))

        assert job.history.progress.state == "stopped"
        assert job.history.log[-1].endswith("stopped, and no checkpoint could be written")


def train_again_and_again(root: str) -> None:
    resident = []
    for _ in range(8):
        train(digits(), Path(root))
        resident.append(psutil.Process().memory_info().rss)
    print(max(resident[2:]) - resident[1])


class TestGrowth:
    def test_five_runs_leave_no_thread_and_no_model_behind(self, root: Path) -> None:
        threads = set(threading.enumerate())

        jobs = [train(digits(), root) for _ in range(5)]

        assert set(threading.enumerate()) == threads
        assert all(job.history.progress.state == "done" for job in jobs)
        assert [each for each in gc.get_objects() if type(each) in (Chain, Trainer, TensorBatches)] == []

    def test_after_the_first_two_runs_memory_does_not_grow(self, nursery: Nursery, root: Path) -> None:
        assert int(call(nursery, "test_job", "train_again_and_again", root)) < 16 * 2**20

    def test_a_model_that_somebody_holds_would_be_found(self) -> None:
        held = Chain()

        assert [each for each in gc.get_objects() if type(each) is Chain] == [held]

    @pytest.mark.parametrize(
        "statement", ["raise ValueError", "raise SystemExit", "return super().forward(inputs) * float('nan')"]
    )
    def test_a_failed_run_lets_its_model_go_while_its_history_is_kept(
        self, statement: str, root: Path, tmp_path: Path
    ) -> None:
        job = train(with_model(tmp_path, statement), root)

        assert job.history.error is not None
        assert [each for each in gc.get_objects() if type(each).__name__ == "Mine"] == []
        assert [each for each in gc.get_objects() if type(each) is Trainer] == []

    def test_a_stopped_run_lets_its_trainer_go(self, root: Path) -> None:
        job = train(digits(), root, stop_at(3))

        assert job.history.progress.state == "stopped"
        assert [each for each in gc.get_objects() if type(each) in (Chain, Trainer)] == []

    def test_a_resume_that_fails_before_it_begins_lets_its_checkpoint_go(self, root: Path, tmp_path: Path) -> None:
        stopped = train(with_model(tmp_path, "pass"), root, stop_at(3))
        (tmp_path / "mine.py").write_text("def make(): raise ValueError")
        job = Resuming.resumed(stopped.directory)
        job.start()

        assert finish(job).history.progress.state == "failed"
        assert job.tensors
        assert job.held() == []

    def test_a_resume_without_a_recorder_lets_its_checkpoint_go(self, root: Path) -> None:
        stopped = train(line(), root, stop_at(3))
        job = WithoutRecorder.resumed(stopped.directory)
        job.start()

        assert "no space left" in str(finish(job).history.error)
        assert job.tensors
        assert job.held() == []

    def test_a_job_that_nobody_holds_is_gone(self, root: Path) -> None:
        reference = weakref.ref(train(line(), root))
        gc.collect()

        assert reference() is None

    def test_workers_end_with_their_run(self, root: Path) -> None:
        def workers() -> int:
            children = psutil.Process().children(recursive=True)
            return len([child for child in children if child.is_running() and child.status() != "zombie"])

        train(digits({"data.num_workers": 2, "training.epochs": 1}), root)  # starts forkserver and resource tracker
        before = workers()
        train(digits({"data.num_workers": 2}), root, stop_at(3))

        assert workers() == before


CONVOLUTION = [
    {"name": "Conv2d", "out_channels": 4, "kernel_size": 3},
    {"name": "BatchNorm2d"},
    {"name": "ReLU"},
    {"name": "Flatten"},
    {"name": "Dropout", "p": 0.2},
    {"name": "Linear", "out_features": "classes"},
]


class TestSettings:
    """Settings that go through the whole engine, as a person meets them."""

    recipe = digits({"model": {"layers": CONVOLUTION}, "training.epochs": 1, "training.limit_batches": 3})

    def test_gradient_checkpointing_is_said_and_learns_the_same(self, root: Path) -> None:
        free = train(self.recipe, root)

        job = train(self.recipe.override({"training.gradient_checkpointing": True}), root)

        assert job.history.error is None
        assert any("parts of the model are computed twice" in said for said in job.history.log)
        for name, tensor in weights(free.directory).items():
            torch.testing.assert_close(weights(job.directory)[name], tensor, rtol=0, atol=1e-6)

    def test_channels_last_learns_the_same_and_its_checkpoint_serves_both(self, root: Path) -> None:
        free = train(self.recipe, root)
        recipe = self.recipe.override({"training.channels_last": True})

        job = resume(train(recipe, root, stop_at(2)).directory)

        assert job.history.error is None
        for name, tensor in weights(free.directory).items():
            torch.testing.assert_close(weights(job.directory)[name], tensor, rtol=0, atol=1e-5)

    def test_deterministic_learns_the_same_bits_twice_and_leaves_no_switch_behind(self, root: Path) -> None:
        recipe = self.recipe.override({"training.deterministic": True})

        one, two = train(recipe, root), train(recipe, root)

        assert one.history.error is None
        assert same(weights(one.directory), weights(two.directory))
        assert not torch.are_deterministic_algorithms_enabled()

    def test_an_operator_without_a_deterministic_version_is_named(self, root: Path, tmp_path: Path) -> None:
        statement = "torch.use_deterministic_algorithms(True); torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))"

        job = train(with_model(tmp_path, statement).override({"training.deterministic": True}), root)

        assert_failed(job, "training.deterministic", "put_ has no deterministic version", "Set it to false")

    @pytest.mark.parametrize(("precision", "says"), [("tf32", "needs an NVIDIA GPU"), ("fp16", "needs a GPU")])
    def test_a_precision_that_the_cpu_has_not_is_refused(self, precision: str, says: str, root: Path) -> None:
        job = train(self.recipe.override({"training.precision": precision}), root)

        assert isinstance(job.history.error, DeviceError)
        assert_failed(job, "training.precision", says)

    def test_bf16_trains(self, root: Path) -> None:
        assert train(self.recipe.override({"training.precision": "bf16"}), root).history.error is None

    @pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
    def test_a_compiled_model_learns_the_same_and_its_checkpoint_has_plain_names(self, root: Path) -> None:
        recipe = line({"training.epochs": 1})
        free = train(recipe, root)

        job = start(recipe.override({"training.compile": True}), root)
        job.join(150)

        assert job.history.error is None
        assert job.history.progress.state == "done"
        assert weights(job.directory).keys() == weights(free.directory).keys()
        for name, tensor in weights(free.directory).items():
            torch.testing.assert_close(weights(job.directory)[name], tensor, rtol=0, atol=1e-5)


class TestExplain:
    def test_a_message_of_ours_stays_as_it_is(self) -> None:
        error = RunError("here", "is wrong", "Mend it.")

        assert explain(error) is error

    def test_an_exception_without_a_word_is_named_by_its_type(self) -> None:
        assert str(explain(ValueError())).startswith("training: ValueError. The traceback")


class Told:
    """A recorder that keeps the state it is told."""

    def progress(self, *, state: str, **facts: object) -> None:
        self.state = state


@pytest.mark.parametrize(("done", "state"), [(Fetched(3), "downloading"), (Bytes(3), "preparing"), (3, "preparing")])
def test_only_what_comes_over_the_network_is_said_to_be_downloaded(root: Path, done: int, state: str) -> None:
    told = Told()
    Job.create(line(), root, "reading")._preparing(told, "table.csv", done, 9)  # type: ignore[arg-type]
    assert told.state == state


def test_a_model_larger_than_all_memory_says_how_large_it_is(root: Path) -> None:
    layers = [{"name": "Linear", "out_features": 10**12}, {"name": "Linear", "out_features": "targets"}]
    job = train(line({"model.layers": layers}), root)
    assert job.history.error is not None
    assert "model: its weights take" in str(job.history.error)
    assert "more memory than is free. Make its layers smaller" in str(job.history.error)
