"""The process's switches are set for a run and given back; placing and compiling leaves the model's keys alone."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import digits, line, resume, same, stop_at, train, weights
from torch import nn

import engine.job
import engine.training.assemble
import engine.trials.trial
from engine.errors import DeviceError, RecipeError
from engine.policies.backends import (
    backends,
    compile_trouble,
    lays_channels_last,
    nondeterministic,
    place,
    selected,
)
from engine.policies.precision import Precision
from engine.recipe import Recipe, Training
from engine.runs.metrics import write_facts

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NEWER: list[Any] = [
    torch.backends,
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
]


def switches() -> list[object]:
    return [
        *(owner.fp32_precision for owner in NEWER),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    ]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = switches()
    yield
    for owner, value in zip(NEWER, before, strict=False):
        owner.fp32_precision = value
    assert switches() == before


class TestSelected:
    @pytest.mark.parametrize("device", ["cpu", "mps", "meta"])
    def test_what_is_no_cuda_device_leaves_cuda_alone(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(torch.cuda, "device")
        with selected(torch.device(device)):
            assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]

    @pytest.mark.gpu
    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
    def test_events_and_memory_are_of_the_runs_device_inside_and_of_the_first_outside(self) -> None:
        with selected(torch.device("cuda", 1)):
            assert torch.cuda.current_device() == 1
        assert torch.cuda.current_device() == 0

    def test_a_run_and_a_trial_are_within_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a second GPU it can only be seen that the device is selected while the model is made."""
        within, seen = [], []

        @contextmanager
        def noted(device: torch.device) -> Iterator[None]:
            within.append(device)
            yield
            within.pop()

        for module in (engine.job, engine.trials.trial):
            monkeypatch.setattr(module, "selected", noted)
            assembling = module.assemble
            monkeypatch.setattr(module, "assemble", lambda *a, f=assembling, **k: seen.append([*within]) or f(*a, **k))
        train(line({"training.epochs": 1}), tmp_path)
        with engine.trials.trial.trial(line(), lambda what, done, total: None) as tried:
            list(tried.steps(1))
            assert within == [CPU]
        assert seen == [[CPU], [CPU]]
        assert within == []


class TestSwitches:
    @pytest.mark.parametrize(("precision", "tf32"), [("tf32", True), ("fp32", False), ("bf16", False)])
    def test_tf32_is_on_where_asked_and_off_else(self, precision: Any, tf32: bool) -> None:
        before = switches()
        with backends(Training(precision=precision), CUDA):
            assert torch.backends.cuda.matmul.allow_tf32 is tf32
            assert torch.backends.cudnn.allow_tf32 is tf32
            assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        assert switches() == before
        assert torch.backends.cudnn.allow_tf32  # torch's default, which fp32 has to turn off

    @pytest.mark.parametrize("value", ["tf32", "ieee"])
    def test_what_others_said_in_newer_terms_is_overruled_and_given_back(self, value: str) -> None:
        for owner in NEWER[1:4]:
            owner.fp32_precision = value
        torch.backends.fp32_precision = value  # type: ignore[attr-defined]
        before = switches()
        with backends(Training(), CUDA):
            assert {owner.fp32_precision for owner in NEWER} <= {"none", "ieee"}
        assert switches() == before

    def test_deterministic_is_set_and_given_back(self) -> None:
        before = switches()
        with backends(Training(deterministic=True), CPU):
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.backends.cudnn.deterministic
            assert not torch.backends.cudnn.benchmark
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert switches() == before
        with backends(Training(), CPU):
            assert not torch.are_deterministic_algorithms_enabled()

    def test_a_persons_own_workspace_is_kept_if_it_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for own, used in ((":16:8", ":16:8"), (":8:1", ":4096:8")):
            monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", own)
            with backends(Training(deterministic=True), CPU):
                assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == used
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == own

    def test_an_exception_gives_everything_back(self) -> None:
        before = switches()

        def failing_run() -> None:
            with backends(Training(deterministic=True, precision="tf32"), CUDA):
                assert switches() != before
                raise KeyError

        with pytest.raises(KeyError):
            failing_run()
        assert switches() == before

    def test_an_operator_without_a_deterministic_version_is_named(self) -> None:
        values, index, ones = torch.zeros(4), torch.tensor([0]), torch.ones(1)
        with backends(Training(deterministic=True), CPU), pytest.raises(RuntimeError) as caught:
            values.put_(index, ones)
        said = "put_ has no deterministic version, which training.deterministic asks for"
        assert nondeterministic(caught.value) == said
        assert nondeterministic(RuntimeError("something else")) is None
        assert nondeterministic(ValueError("use_deterministic_algorithms")) is None


class TestPrecision:
    def test_tf32_without_such_a_gpu_is_refused(self) -> None:
        with pytest.raises(DeviceError, match="tf32 needs an NVIDIA GPU of the Ampere generation or later"):
            Precision("tf32", CPU)


def convolutions() -> Recipe:
    """Two of them, of digits."""
    layers = [
        {"name": "Conv2d", "out_channels": 4, "kernel_size": 5},
        {"name": "Conv2d", "out_channels": 4, "kernel_size": 5},
        {"name": "Flatten"},
        {"name": "Linear", "out_features": "classes"},
    ]
    return digits({"model": {"layers": layers}, "optimizer": {"name": "AdamW", "fused": True}, "scheduler": None})


class TestPlace:
    def test_only_four_dimensional_weights_become_channels_last(self) -> None:
        model = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(3, 4)])
        before = {name: value.clone() for name, value in model.state_dict().items()}
        kept = list(model.parameters())
        assert place(model, Training(), CPU, channels_last=True) is model
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
        assert not model[0].weight.is_contiguous()
        assert model[1].weight.is_contiguous()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(one is other for one, other in zip(kept, model.parameters(), strict=True))
        assert place(nn.Conv2d(3, 4, 3), Training(), CPU).weight.is_contiguous()

    @pytest.mark.parametrize(
        ("precision", "device", "own", "model", "laid"),
        [
            pytest.param("bf16", CUDA, False, nn.Conv2d(3, 4, 3), True, id="bf16"),
            pytest.param("fp16", CUDA, False, nn.Conv2d(3, 4, 3), True, id="fp16"),
            pytest.param("fp32", CUDA, False, nn.Conv2d(3, 4, 3), False, id="full precision"),
            pytest.param("tf32", CUDA, False, nn.Conv2d(3, 4, 3), False, id="tf32"),
            pytest.param("fp32", CPU, False, nn.Conv2d(3, 4, 3), True, id="on the CPU"),
            pytest.param("fp32", CPU, False, nn.Conv2d(3, 4, 3, dilation=2), False, id="with gaps on the CPU"),
            pytest.param("bf16", CUDA, False, nn.Conv2d(3, 4, 3, dilation=2), True, id="with gaps on a GPU"),
            pytest.param("fp32", CPU, False, nn.Linear(3, 4), False, id="no convolutions on the CPU"),
            pytest.param("fp32", CPU, True, nn.Conv2d(3, 4, 3), False, id="a model of one's own on the CPU"),
            pytest.param(
                "fp32", CPU, False, nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), False, id="a slower norm"
            ),
            pytest.param("bf16", torch.device("mps"), False, nn.Conv2d(3, 4, 3), False, id="on a Mac"),
            pytest.param("bf16", CUDA, False, nn.Linear(3, 4), False, id="no convolutions"),
            pytest.param("bf16", CUDA, False, nn.Conv1d(3, 4, 3), False, id="convolutions of sound"),
            pytest.param("bf16", CUDA, True, nn.Conv2d(3, 4, 3), False, id="a model of one's own"),
        ],
    )
    def test_auto_is_channels_last_where_convolutions_are_sooner_done_so(
        self, precision: Any, device: torch.device, own: bool, model: nn.Module, laid: bool
    ) -> None:
        assert Training().channels_last == "auto"
        training = Training(precision=precision)
        assert lays_channels_last(training, model, device, own=own) is laid
        for said in (True, False):
            told = training.model_copy(update={"channels_last": said})
            assert lays_channels_last(told, model, device, own=own) is said

    def test_a_persons_own_view_fails_on_channels_last_pictures_which_is_why_auto_leaves_it_alone(self) -> None:
        pictures = torch.zeros(2, 3, 4, 4)
        assert pictures.view(2, -1).shape == (2, 48)
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            pictures.contiguous(memory_format=torch.channels_last).view(2, -1)

    @pytest.mark.parametrize("laid", [True, False])
    def test_a_run_that_auto_lays_out_says_so_trains_so_and_is_resumed_to_the_bit(
        self, laid: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[bool] = []
        forward = nn.Conv2d.forward

        def look(self: nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
            if self.training and not inputs.is_meta:  # the shapes are traced without memory
                seen.append(self.weight.is_contiguous(memory_format=torch.channels_last))
            return forward(self, inputs)

        monkeypatch.setattr(engine.training.assemble, "lays_channels_last", lambda *given, own: laid)
        monkeypatch.setattr(nn.Conv2d, "forward", look)
        recipe = convolutions()

        whole = train(recipe, tmp_path)
        cut = resume(train(recipe, tmp_path, stop_at(12)).directory)

        assert seen
        assert all(seen) is laid
        assert any("pictures lie channels last in memory" in said for said in whole.history.log) is laid
        assert cut.history.error is None
        assert same(weights(whole.directory), weights(cut.directory))

    @pytest.mark.parametrize("was", [None, True])
    def test_a_run_of_before_there_was_a_fact_goes_on_as_a_cpu_was_then_given_pictures(
        self, was: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = convolutions()
        with monkeypatch.context() as before:
            before.setattr(engine.training.assemble, "lays_channels_last", lambda *given, own: False)
            whole = train(recipe, tmp_path)
            begun = train(recipe, tmp_path, stop_at(12)).directory
        with closing(sqlite3.connect(begun.metrics_file)) as facts, facts:
            facts.execute("DELETE FROM facts WHERE key = 'channels_last'")
        write_facts(begun.metrics_file, {"channels_last": was} if was else {})

        cut = resume(begun)

        assert cut.directory.status().facts["channels_last"] is bool(was)
        assert same(weights(whole.directory), weights(cut.directory)) is not was

    @pytest.mark.parametrize("compiled", [True, "reduce-overhead"])
    def test_compiling_and_recomputing_exclude_each_other(self, compiled: Any) -> None:
        with pytest.raises(RecipeError, match=r"training\.compile: does not go with training\.gradient_checkpointing"):
            place(nn.Linear(1, 1), Training(compile=compiled, gradient_checkpointing=True), CPU)

    @pytest.mark.parametrize(
        ("compiled", "how"),
        [(False, None), (True, {}), ("reduce-overhead", {"mode": "reduce-overhead", "dynamic": False})],
    )
    def test_compile_says_how(self, compiled: Any, how: object, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        monkeypatch.setattr(nn.Module, "compile", lambda self, **given: asked.append(given))
        place(nn.Linear(1, 1), Training(compile=compiled), CPU)
        assert asked == ([] if how is None else [how])

    def test_an_output_that_a_graph_has_overwritten_is_explained(self) -> None:
        said = "Error: accessing tensor output of CUDAGraphs that has been overwritten by a subsequent run. Stack …"
        assert "set training.compile = true" in str(compile_trouble(RuntimeError(said)))
        assert compile_trouble(RuntimeError("CUDA error: an illegal memory access")) is None

    @pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
    def test_a_compiled_model_has_the_same_keys_and_results(self) -> None:
        plain = nn.Sequential(nn.Linear(4, 3), nn.GELU())
        compiled = nn.Sequential(nn.Linear(4, 3), nn.GELU())  # GELU makes torch write C++
        compiled.load_state_dict(plain.state_dict())
        place(compiled, Training(compile=True), CPU)
        inputs = torch.randn(5, 4)
        try:
            assert torch.allclose(compiled(inputs), plain(inputs), atol=1e-6)
            assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # it was compiled indeed
        finally:
            torch._dynamo.reset()
        assert list(compiled.state_dict()) == list(plain.state_dict()) == ["0.weight", "0.bias"]

    def test_a_missing_compiler_is_said_plainly(self, tmp_path: Path) -> None:
        program = (
            "import torch\nfrom engine.policies.backends import compile_trouble\n"
            "model = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.GELU())\nmodel.compile()\n"
            "try:\n    model(torch.ones(2, 3))\nexcept Exception as error:\n    print(compile_trouble(error))\n"
        )
        # An empty cache, or a kernel compiled before would do.
        environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=True)
        assert "needs a C++ compiler, and found none: install g++" in done.stdout

    def test_errors_of_other_origin_are_no_trouble_with_compiling(self) -> None:
        assert compile_trouble(RuntimeError("something else")) is None
