"""How layers are spread: every number is counted once, in its place, and a long training keeps few of the counts."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from nursery import Nursery, call
from small_runs import AtLook, digits, line, train, wait_for
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoints
from engine.insight.counting import _LIMIT, _count, _sample, _scattered, tally
from engine.insight.facts import Checkup
from engine.insight.health import Health
from engine.insight.histograms import KEPT, KINDS, Histogram, Spread, thinned
from engine.job import Job
from engine.models.recompute import recompute
from engine.runs.directory import RunDirectory
from engine.runs.history import History
from engine.runs.metrics import read_spreads
from engine.runs.recorder import Recorder
from engine.training.control import Control


def histogram(*tensors: Tensor, scale: Tensor | None = None) -> Histogram:
    counted = tally(tensors, scale)
    assert counted is not None
    (made,) = Histogram.each(counted.counts[None].numpy(), [counted.total], [counted.zeros])
    return made


def looked(model: nn.Module, *parts: Tensor, hooks: bool = True) -> dict[str, Spread]:
    """The spreads of one step on `parts`."""
    health = Health(model, 1, hooks=hooks)
    health.begin(1)
    for part in parts:
        model(part).float().square().mean().backward()
    health.after_backward()
    health.after_update(1)
    (checkup,) = health.read()
    return dict(checkup.spreads)


class TestCounting:
    def test_each_number_is_counted_once_and_zeros_and_wild_ones_apart(self) -> None:
        numbers = torch.tensor([0.0, -0.0, 1.0, 1.1, -3.0, 1e-30, torch.nan, torch.inf, -torch.inf, 3e38])

        made = histogram(numbers)

        assert (made.total, made.seen, made.zeros, made.wild) == (10, 10, 2, 3)
        assert made.columns(np.array([-4.0, -2.0, 0.0, 0.5, 2.0, 1e39])).tolist() == [1, 0, 1, 2, 1]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
    def test_the_columns_are_those_of_numpy_to_the_width_of_a_bin(self, dtype: torch.dtype) -> None:
        numbers = torch.randn(30_000, generator=torch.Generator().manual_seed(0)).to(dtype)
        edges = np.linspace(-3, 3, 13)

        counts = histogram(numbers).columns(edges)

        assert counts.sum() <= 30_000
        exact = np.histogram(numbers.float().numpy(), edges)[0]
        assert np.abs(counts - exact).max() < 0.15 * exact.max()
        assert np.abs(histogram(numbers + 1).columns(edges) - exact).max() > 0.3 * exact.max(), "moved, they differ"

    def test_median_and_range_are_right_to_a_quarter(self) -> None:
        made = histogram(torch.linspace(1.0, 9.0, 1001), torch.zeros(3))

        assert made.quantile(0.5) == pytest.approx(5.0, rel=0.13)
        assert made.quantile(0.5, sizes=True) == made.quantile(0.5)
        low, high = made.range or (0.0, 0.0)
        assert 0.75 <= low <= 1.0
        assert 9.0 <= high <= 11.25

    def test_zeros_are_part_of_the_median_and_of_no_column(self) -> None:
        made = histogram(torch.tensor([0.0, 0.0, 0.0, 5.0, -5.0]))

        assert made.quantile(0.5) == 0
        assert made.quantile(0.1, zeros=False) is not None
        assert made.columns(np.array([-10.0, 10.0])).tolist() == [2]

    def test_of_zeros_alone_there_is_a_median_but_no_range(self) -> None:
        made = histogram(torch.zeros(4))

        assert (made.quantile(0.5), made.range, made.quantile(0.5, zeros=False)) == (0.0, None, None)
        assert made.columns(np.array([-1.0, 1.0])).tolist() == [0]

    def test_of_many_numbers_so_many_are_looked_at_in_all_channels(self) -> None:
        channels = torch.arange(1.0, 9.0).repeat(100_000)  # 1 … 8 again and again

        made = histogram(channels)

        assert made.total == 800_000
        assert _LIMIT / 2 < made.seen <= _LIMIT
        assert made.columns(np.array([0.9, 1.25, 8.0, 10.0]))[[0, 2]] / made.seen == pytest.approx(1 / 8, rel=0.02)

    def test_a_large_weight_and_its_bias_are_looked_at_alike(self) -> None:
        made = histogram(torch.full((1000, 1000), 2.0), torch.full((20_000,), -2.0))

        assert made.total == 1_020_000
        assert made.columns(np.array([-3.0, 0.0, 3.0]))[0] / made.seen == pytest.approx(0.02, rel=0.2)

    def test_a_sample_of_a_tensor_that_fills_its_memory_is_no_copy(self) -> None:
        pictures = torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)

        assert _sample(pictures, 1).data_ptr() == pictures.data_ptr()
        assert _sample(pictures, 1).sort().values.tolist() == pictures.flatten().sort().values.tolist()
        assert _sample(pictures[:, :2], 1).numel() == 2 * 2 * 5 * 7

    def test_counting_as_other_devices_do_gives_the_same(self) -> None:
        codes = torch.randint(0, 2048, (5000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)

        assert torch.equal(_count(codes), torch.bincount(codes, minlength=2048))
        torch.use_deterministic_algorithms(True)
        try:
            assert torch.equal(_scattered(codes), torch.bincount(codes, minlength=2048))
        finally:
            torch.use_deterministic_algorithms(False)

    def test_a_sparse_gradient_counts_what_it_does_not_hold_as_zeros(self) -> None:
        table = nn.Embedding(10, 4, sparse=True)
        table(torch.tensor([1, 1, 3])).sum().backward()

        assert table.weight.grad is not None
        made = histogram(table.weight.grad)

        assert (made.total, made.seen, made.zeros) == (40, 40, 32)
        assert made.columns(np.array([0.9, 1.5, 2.5])).tolist() == [4, 4], "the row that was used twice has both"

    def test_a_sparse_gradient_of_nothing_is_zeros(self) -> None:
        made = histogram(torch.zeros(1000, 100).to_sparse(), torch.ones(100_000))

        assert made.total == 200_000
        assert made.zeros / made.seen == pytest.approx(0.5, rel=0.02)
        assert histogram(torch.zeros(10, 4).to_sparse()).zeros == 40

    def test_of_integers_and_of_nothing_there_is_nothing(self) -> None:
        assert tally([torch.arange(3)]) is None
        assert tally([]) is None
        assert tally([torch.empty(0)]) is None


class TestOfLayers:
    def test_weights_outputs_and_gradients_are_counted_whole(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

        spreads = looked(model, torch.randn(5, 3))

        assert set(spreads) == {"0 Linear", "2 Linear"}, "of layers with weights alone"
        first = spreads["0 Linear"]
        assert first.weights is not None
        assert first.activations is not None
        assert first.gradients is not None
        assert [first.weights.seen, first.activations.seen, first.gradients.seen] == [16, 20, 16]

    def test_the_parts_of_a_batch_and_the_places_of_a_shared_layer_add_up(self) -> None:
        shared = nn.Linear(3, 3)
        model = nn.Sequential(shared, nn.ReLU(), shared)

        spread = looked(model, torch.randn(5, 3), torch.randn(2, 3))["0 Linear"]

        assert spread.activations is not None
        assert spread.activations.seen == 2 * 7 * 3

    def test_a_step_that_is_done_anew_is_counted_once(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4))
        health = Health(model, 1)
        health.begin(1)
        model(torch.randn(5, 3))
        health.begin(1)
        model(torch.randn(5, 3)).sum().backward()
        health.after_backward()
        health.after_update(1)

        (checkup,) = health.read()
        assert checkup.spreads["0 Linear"].activations is not None
        assert checkup.spreads["0 Linear"].activations.seen == 20
        assert not model._forward_hooks
        assert not model[0]._forward_hooks

    def test_what_gradient_checkpointing_computes_again_is_not_counted_again(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        recompute(model)
        calls = []
        model[0].register_forward_hook(lambda *_: calls.append(1))

        spread = looked(model, torch.randn(5, 3))["0 Linear"]

        assert len(calls) == 2, "it is computed twice"
        assert spread.activations is not None
        assert spread.activations.seen == 20

    def test_a_layer_the_loss_does_not_depend_on_has_no_gradients_and_one_not_called_no_activations(self) -> None:
        class Partly(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.unused = nn.Linear(3, 1), nn.Linear(3, 1)

            def forward(self, inputs: Tensor) -> Tensor:
                outputs: Tensor = self.used(inputs)
                return outputs

        spreads = looked(Partly(), torch.randn(5, 3))

        assert spreads["unused Linear"].gradients is None
        assert spreads["unused Linear"].activations is None
        assert spreads["unused Linear"].weights is not None
        assert spreads["used Linear"].gradients is not None

    def test_a_frozen_layer_is_left_out_and_one_frozen_later_has_no_gradients(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
        model[0].requires_grad_(False)
        health = Health(model, 1)
        model[1].requires_grad_(False)
        health.begin(1)
        model(torch.randn(5, 3)).sum().backward()
        health.after_backward()
        health.after_update(1)

        (checkup,) = health.read()
        assert set(checkup.spreads) == {"1 Linear", "2 Linear"}
        assert checkup.spreads["1 Linear"].gradients is None

    def test_without_hooks_as_for_compiled_models_there_are_no_activations(self) -> None:
        spread = looked(nn.Sequential(nn.Linear(3, 4)), torch.randn(5, 3), hooks=False)["0 Linear"]

        assert spread.activations is None
        assert spread.weights is not None
        assert spread.gradients is not None

    def test_of_a_layer_that_gives_several_tensors_the_first_is_counted(self) -> None:
        class Sequences(nn.Module):
            def __init__(self, packed: bool) -> None:
                super().__init__()
                self.lstm, self.packed = nn.LSTM(3, 4, batch_first=True), packed

            def forward(self, inputs: Tensor) -> Tensor:
                given = nn.utils.rnn.pack_sequence([inputs[0], inputs[1, :2]]) if self.packed else inputs
                outputs = self.lstm(given)[0]
                loss: Tensor = outputs.data if self.packed else outputs
                return loss

        for packed, steps in ((False, 10), (True, 7)):
            spread = looked(Sequences(packed), torch.randn(2, 5, 3))["lstm LSTM"]
            assert spread.activations is not None
            assert spread.activations.seen == steps * 4

    def test_weights_of_another_kind_of_number_and_wild_ones_are_told(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4)).bfloat16()
        with torch.no_grad():
            model[0].weight[0, 0] = torch.nan

        spread = looked(model, torch.randn(5, 3).bfloat16())["0 Linear"]

        assert spread.weights is not None
        assert (spread.weights.seen, spread.weights.wild) == (16, 1)
        assert spread.activations is not None
        assert spread.activations.wild == 5

    def test_the_factor_of_gradient_scaling_is_taken_out(self) -> None:
        gradient = torch.randn(100)

        assert histogram(gradient * 1024, scale=torch.tensor(1024.0)) == histogram(gradient)
        assert histogram(gradient * 1024) != histogram(gradient)

    def test_outputs_without_room_cost_the_histogram_and_not_the_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(tensors: Sequence[Tensor], scale: Tensor | None = None) -> None:
            if not isinstance(tensors[0], nn.Parameter) and tensors[0].shape == (5, 4):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return

        monkeypatch.setattr("engine.insight.health.tally", full)
        model = nn.Sequential(nn.Linear(3, 4))
        health = Health(model, 1)
        health.begin(1)
        model(torch.randn(5, 3)).sum().backward()
        health.after_backward()
        health.after_update(1)

        (checkup,) = health.read()
        assert checkup.layers[0].gradient is not None
        assert checkup.spreads == {}


class TestKept:
    def test_packed_and_unpacked_it_is_the_same(self) -> None:
        spread = Spread(histogram(torch.randn(100)), None, histogram(torch.tensor([0.0, torch.nan, -1.0])))

        assert Spread.unpacked(spread.packed()) == spread
        assert Spread.unpacked(Spread().packed()) == Spread()

    @pytest.mark.parametrize("cut", [1, 20, -1])
    def test_what_is_damaged_is_none(self, cut: int) -> None:
        packed = Spread(histogram(torch.randn(100))).packed()

        assert Spread.unpacked(packed[:cut]) is None
        assert Spread.unpacked(b"\xff" + packed[1:]) is None
        assert Spread.unpacked("text") is None

    def test_a_long_training_keeps_few_and_always_the_first_and_the_last(self) -> None:
        kept: list[int] = []
        for step in [1, *range(200, 1_000_001, 200)]:
            kept = thinned([*kept, step])
            assert len(kept) < KEPT
            assert kept[-1] == step
        assert kept[0] == 1
        assert len(kept) > KEPT / 4
        gaps = np.diff(kept[:-1])
        assert gaps.max() <= 2.5 * gaps.min()

    def test_the_rows_on_disk_are_as_few_and_those_in_memory_the_same(self, root: Path) -> None:
        directory = RunDirectory.create(root, "long", line(), "cpu")
        history = History()
        recorder = Recorder(history, directory)
        spread = Spread(*(histogram(torch.randn(60_000)) for _ in KINDS))
        for step in range(200, 200_001, 200):
            recorder.checkup(Checkup(step, [], {"0 Linear": spread}))
        recorder.close()

        assert directory.history().spreads == history.spreads
        assert len(history.spreads) < KEPT
        assert max(history.spreads) == 200_000
        assert directory.metrics_file.stat().st_size < 400_000

    def test_a_run_of_before_has_none(self, root: Path) -> None:
        job = train(line(), root)
        with sqlite3.connect(job.directory.metrics_file) as connection:
            assert read_spreads(job.directory.metrics_file)
            connection.execute("DROP TABLE spreads")

        assert read_spreads(job.directory.metrics_file) == {}
        assert job.directory.history().spreads == {}


def train_and_die(root: str) -> None:
    def kill(control: Control) -> None:
        (run,) = (RunDirectory(path) for path in Path(root).iterdir())
        wait_for(lambda: 10 in run.history().spreads and Checkpoints(run.checkpoints).all())
        os.kill(os.getpid(), signal.SIGKILL)

    recipe = digits({"training.health_every": 2, "training.checkpoint_every": "5 steps"})
    train(recipe, Path(root), AtLook({22: kill}))


class TestRun:
    def test_every_step_that_is_looked_at_has_them(self, root: Path) -> None:
        """That weights and losses are the same bits with it is what test_health.py shows of the same training."""
        job = train(digits({"training.health_every": 1}), root)

        assert len(job.history.spreads) == 24
        spread = job.history.spreads[24]["5 Linear"]
        assert spread.activations is not None
        assert spread.activations.total == 52 * 10, "the last batch of an epoch"

    @pytest.mark.parametrize(
        "changes",
        [
            {"training.accumulate": 3},
            {"training.gradient_checkpointing": True},
            {"training.precision": "bf16"},
            {"training.deterministic": True},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_however_a_step_is_computed_each_output_is_counted_once(
        self, changes: dict[str, object], root: Path
    ) -> None:
        job = train(digits({**changes, "training.health_every": 5, "training.epochs": 1}), root)

        spread = job.history.spreads[5]["1 Linear"]
        assert spread.activations is not None
        assert spread.activations.seen == 64 * 32

    def test_those_of_a_killed_run_are_there_and_go_on_when_it_is_resumed(self, nursery: Nursery, root: Path) -> None:
        assert call(nursery, "test_histograms", "train_and_die", root) == "", "no word of its end"
        (run,) = (RunDirectory(path) for path in root.iterdir())
        before = run.history().spreads
        assert {1, 2, 4, 6, 8, 10} <= set(before) < {*range(1, 25)}

        job = Job.resumed(run)
        job.start()
        job.join()

        assert job.history.error is None
        assert set(job.history.spreads) == {1, *range(2, 25, 2)}
        assert job.history.spreads[4] == before[4]
        assert run.history().spreads == job.history.spreads

    @pytest.mark.usefixtures("disk_keeps_up")
    def test_a_branch_has_those_up_to_its_step(self, root: Path) -> None:
        origin = train(digits({"training.health_every": 2, "training.keep_checkpoints": 9}), root).directory
        checkpoint = Checkpoints(origin.checkpoints).all()[1]

        job = Job.branched(origin, checkpoint.name, origin.recipe(), root, "branch")

        assert {*job.directory.history().spreads} == {
            step for step in origin.history().spreads if step <= checkpoint.step
        }
        assert 0 < checkpoint.step < 24
        assert len(origin.history().spreads) == 13
