"""The studio's looks, frozen at the three sizes it is made for. `make snapshots` takes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine.devices.monitor import GpuSample, HostSample, Snapshot
from engine.insight.facts import Checkup, LayerHealth, Times
from engine.insight.histograms import CODES, Histogram, Spread
from engine.recipe import Recipe
from engine.runs.history import Event, History, Progress, Summary
from tui.app import StudioApp
from tui.screens.studio import StudioScreen
from tui.training import Desk

SIZES = [(80, 24), (120, 40), (200, 60)]
GIB = 1 << 30


class StillMonitor:
    """A minute of one GPU and its host, always the same."""

    def __init__(self, *, gpu: bool) -> None:
        self._snapshots = tuple(self._snapshot(second / 2, gpu) for second in range(120))

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def history(self) -> tuple[Snapshot, ...]:
        return self._snapshots

    @staticmethod
    def _snapshot(time: float, gpu: bool) -> Snapshot:
        host = HostSample(0.25 + time / 120, 9 * GIB, 24 * GIB, 2 * GIB, 0.9)
        if not gpu:
            return Snapshot(time, host, (), "No NVIDIA driver is installed here.")
        used = int((3 + time / 6) * GIB)
        board = GpuSample(
            index=0,
            name="NVIDIA H200",
            uuid="GPU-0",
            utilisation=0.5 + 0.4 * np.sin(time / 5).item(),
            memory_used=used,
            memory_total=141 * GIB,
            temperature=61.0,
            power=412.0,
            power_limit=700.0,
            torch_index=0,
            allocated=used - 2 * GIB,
            reserved=used - GIB,
            peak=used,
        )
        return Snapshot(time, host, (board,), None)


class StillDesk(Desk):
    """A desk whose numbers don't move: what is tested here is how they are drawn."""

    def __init__(self, history: History | None, *, gpu: bool) -> None:
        super().__init__()
        self.monitor = StillMonitor(gpu=gpu)  # type: ignore[assignment]
        self.history = history
        self.name = "digits-mlp" if history else ""

    def load(self) -> None:
        super().load()
        self.lines.clear()

    def find_lr(self, recipe: Recipe, control: object, look: Callable[[float, float], None]) -> object:
        from engine.trials.lr_finder import RateRange

        rates = np.geomspace(1e-7, 2.0, 91)
        losses = (2.3 - 1.8 / (1 + (0.02 / rates) ** 2) + (rates / 0.4) ** 3).tolist()
        for rate, loss in zip(rates.tolist(), losses, strict=True):
            look(rate, loss)
        return RateRange(rates.tolist(), losses, losses, 0.012, True)

    def find_batch_size(self, recipe: Recipe, control: object, look: Callable[[object], None]) -> object:
        from engine.trials.batch_finder import BatchSizes, Size

        sizes = [Size(2**power, 1e-3 + 2**power * 4e-6, (1 + power) << 28) for power in range(11)]
        for size in sizes:
            look(size)
        return BatchSizes(sizes, 2048)

    @property
    def live(self) -> bool:
        return self.history is not None and self.history.progress.state == "training"

    @property
    def where(self) -> str:
        return "runs/digits-mlp-20260101-120000" if self.history else ""


def training() -> History:
    """Half of a run: a falling loss with noise, a changed learning rate."""
    history = History()
    steps = np.arange(1, 901)
    noise = np.random.default_rng(0).normal(0, 0.05, len(steps))
    history.add("train/loss", steps, 2.2 * np.exp(-steps / 150) + 0.15 + noise)
    history.add("train/accuracy", steps, np.clip(1 - 0.9 * np.exp(-steps / 120) + noise / 2, 0, 1))
    epochs = np.arange(63, 901, 63)
    history.add("val/loss", epochs, 2.0 * np.exp(-epochs / 150) + 0.25)
    history.add("val/accuracy", epochs, 0.94 - 0.5 * np.exp(-epochs / 120))
    history.add("lr", steps, np.where(steps < 500, 0.01, 0.02))
    history.add("samples_per_second", steps[::20], 81_000 + 4_000 * np.sin(steps[::20] / 90))
    history.note(Event(500, "lr", "learning rate 0.01 → 0.02"))
    history.times = Times(
        {
            "data": 0.11,
            "copy": 0.0,
            "forward": 0.28,
            "backward": 0.42,
            "optimizer": 0.15,
            "metrics": 0.03,
            "other": 0.01,
        },
        "computes 85% of the time: the device is the limit",
    )
    history.checkup = Checkup(
        900,
        [
            LayerHealth("1 Linear", 0.098, 8.76, 3.0e-4),
            LayerHealth("3 Linear", 0.045, 5.63, 4.1e-2),
            LayerHealth("5 Linear", 1.2e-7, 3.1, 2.0e-7),
            LayerHealth("2 ReLU", dead=0.01),
            LayerHealth("4 ReLU", dead=0.78),
        ],
    )
    history.spreads = {
        step: {f"{layer} Linear": spread(step, layer) for layer in (1, 3, 5)} for step in range(100, 901, 100)
    }
    history.log.extend(
        f"12:00:{second:02d}  epoch {second}/30  val loss 0.41 · accuracy 0.9{second % 10}" for second in range(1, 15)
    )
    history.logged = len(history.log)
    history.progress = Progress(
        "training", "", None, 14, 30, 900, 1890, 1152, 4000, 81234.5, 1.3, 0.02
    )  # fmt: skip
    return history


def spread(step: int, layer: int) -> Spread:
    """Weights that grow, activations of which half are none, gradients that shrink."""
    noise = np.random.default_rng(layer).normal(0, 1, 4000)
    weights, outputs, gradients = noise * (0.05 + step / 9000), np.maximum(noise, 0) * layer, noise * 2e-3 / layer
    counts = (np.bincount(each.astype(np.float32).view(np.uint32) >> 21, minlength=CODES) for each in
              (weights, outputs, gradients * 100 / step))  # fmt: skip
    return Spread(*Histogram.each(np.stack(list(counts)), [len(noise)] * 3, [0] * 3))


def averaged() -> History:
    """The same with averaged weights, and with all that can go wrong."""
    history = training()
    epochs = np.arange(63, 901, 63)
    history.add("val-average/loss", epochs, 1.2 * np.exp(-epochs / 150) + 0.2)
    history.add("val-average/accuracy", epochs, 0.97 - 0.3 * np.exp(-epochs / 120))
    for step, kind in ((200, "memory"), (300, "nan"), (400, "rollback"), (600, "weight_decay"), (700, "epochs")):
        history.note(Event(step, kind, kind))
    return history


def done() -> History:
    history = training()
    history.summary = Summary("accuracy", 0.938, 27, {"loss": 0.2083, "accuracy": 0.932}, 2.41)
    history.progress = Progress("done", epoch=30, epochs=30, step=1890, steps=1890)
    return history


async def settle(pilot: Pilot[Any]) -> None:
    screen = pilot.app.screen_stack[1]
    assert isinstance(screen, StudioScreen)
    for _ in range(600):
        await pilot.pause(0.05)
        if screen.ready and screen.checked and screen.preview:
            break
    screen.catch_up()
    await pilot.pause(0.3)


class StillApp(StudioApp):
    """The studio on a desk that stands still."""

    def __init__(self, history: History | None = None, *, gpu: bool = False, recipe: Recipe | None = None) -> None:
        super().__init__(Path("runs"), recipe, "made" if recipe else "")
        self.desk = StillDesk(history, gpu=gpu)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_first_screen(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    assert snap_compare(StillApp(), terminal_size=size, run_before=settle)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_while_training_on_a_gpu(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press("5")
        await pilot.pause(0.3)

    assert snap_compare(StillApp(training(), gpu=True), terminal_size=size, run_before=before)


def test_the_end_of_a_run(snap_compare: Callable[..., bool]) -> None:
    assert snap_compare(StillApp(done()), terminal_size=(120, 40), run_before=settle)


@pytest.mark.parametrize("pane", ["model", "data", "settings", "devices"])
def test_panes_at_80_columns(snap_compare: Callable[..., bool], pane: str) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press({"model": "2", "data": "3", "settings": "4", "devices": "6"}[pane])
        await pilot.pause(0.3)

    assert snap_compare(StillApp(gpu=True), terminal_size=(80, 24), run_before=before)


def test_adding_a_layer(snap_compare: Callable[..., bool]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press("2", "a")
        await pilot.pause(0.5)
        pilot.app.screen.query_one(Input).cursor_blink = False
        await pilot.press(*"conv2")
        await pilot.pause(0.5)

    assert snap_compare(StillApp(), terminal_size=(120, 40), run_before=before)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("key", ["h", "f", "b"], ids=["health", "find_lr", "find_batch"])
def test_dialogs_of_a_run_and_a_recipe(snap_compare: Callable[..., bool], key: str, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press(key)
        await pilot.pause(1.0)

    assert snap_compare(StillApp(done()), terminal_size=size, run_before=before)


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
def test_what_can_be_changed_while_it_trains(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press("l")
        await pilot.pause(0.5)
        pilot.app.screen.query_one("#rate", Input).cursor_blink = False
        await pilot.press("up")
        await pilot.pause(0.3)

    app = StillApp(training())
    app.desk.weight_decay = lambda: 0.01  # type: ignore[method-assign]
    assert snap_compare(app, terminal_size=size, run_before=before)


def test_averaged_weights_and_marks_in_the_curves(snap_compare: Callable[..., bool]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press("5", "m")
        await pilot.pause(0.5)

    app = StillApp(averaged())
    app.desk.average = "ema"
    assert snap_compare(app, terminal_size=(120, 40), run_before=before)


def test_a_setting_found_by_a_word(snap_compare: Callable[..., bool]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settle(pilot)
        await pilot.press("4", "slash")
        pilot.app.screen.query_one("#settings-filter", Input).cursor_blink = False
        await pilot.press(*"grad", "enter", "down")
        await pilot.pause(0.5)

    assert snap_compare(StillApp(), terminal_size=(80, 24), run_before=before)
