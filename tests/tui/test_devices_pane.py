from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from engine.devices.monitor import GpuSample, HostSample, Snapshot
from tui.panes.devices import DevicesPane

GIB = 2**30
SMALL, LARGE = (34, 9), (78, 18)


class PaneApp(App[None]):
    """The pane with the border that the studio gives it, as large as the screen."""

    CSS = "DevicesPane { border: round white; } #below { height: 0; }"

    def compose(self) -> ComposeResult:
        yield DevicesPane()
        yield Static(id="below")

    @property
    def pane(self) -> DevicesPane:
        return self.query_one(DevicesPane)

    def lines(self) -> list[str]:
        """The screen's text within the border."""
        strips = self.screen._compositor.render_strips()
        return [strip.text[2:-2].rstrip() for strip in strips][1:-1]


def gpu(index: int, time: float = 0.0, *, torch: int | None = None, own: int | None = None) -> GpuSample:
    used = int((60 + 30 * math.sin(time / 11 + index)) * GIB)
    peak = None if own is None else own + GIB
    return GpuSample(index, "NVIDIA H200", f"GPU-{index}", 0.87, used, 140 * GIB, 61, 412.3, 700, torch, own, own, peak)


def minute(gpus: Callable[[float], tuple[GpuSample, ...]], no_gpu: str | None = None) -> tuple[Snapshot, ...]:
    host = HostSample(0.54, int(25.6 * GIB), 128 * GIB, int(3.4 * GIB), 3.2)
    return tuple(Snapshot(1000 + tick / 2, host, gpus(tick / 2), no_gpu) for tick in range(120))


async def shown(history: tuple[Snapshot, ...], size: tuple[int, int]) -> str:
    app = PaneApp()
    async with app.run_test(size=size) as pilot:
        app.pane.show(history)
        await pilot.pause()
        return "\n".join(app.lines())


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_without_a_gpu_the_host_is_shown_with_the_reason(size: tuple[int, int]) -> None:
    text = await shown(minute(lambda time: (), "No NVIDIA driver is installed here."), size)

    for part in ("cpu", "54% █", "25.6/128 GiB", "▒", "░", "process 3.4 GiB · 3.2 cores"):
        assert part in text
    assert "No NVIDIA driver is installed here." in " ".join(text.split())


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_one_gpu_is_shown_in_full(size: tuple[int, int]) -> None:
    text = await shown(minute(lambda time: (gpu(0, time, torch=0, own=40 * GIB),)), size)

    for part in ("cuda:0 H200", "61°C 412/700 W", "87% █", "/140 GiB █", "cpu 54% · ram 25.6/128 GiB"):
        assert part in text
    for part in ("torch 40.0", "peak", "41.0", "GiB"):
        assert part in text
    assert any(block in text for block in "▁▂▃▄▅▆▇")


async def test_a_maximised_pane_has_taller_graphs_and_spells_torchs_line_out() -> None:
    history = minute(lambda time: (gpu(0, time, torch=0, own=40 * GIB),))
    text = await shown(history, LARGE)

    assert "40.0 allocated / 40.0 reserved / 41.0 peak GiB" in text
    load = text.splitlines()[2:7]
    assert load[1].startswith("█" * 60)  # 87 % of five rows is four and a bit
    assert load[0].startswith("▃" * 60)


async def test_memory_is_split_by_owner() -> None:
    half = GpuSample(
        0, "NVIDIA H200", "GPU-0", 0.5, 70 * GIB, 140 * GIB, torch_index=0, allocated=0, reserved=0, peak=0
    )
    text = await shown(minute(lambda time: (half,)), LARGE)
    bar = text.splitlines()[7]
    assert "█" not in bar
    assert bar.count("▒") == pytest.approx(bar.count("░"), abs=1)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_eight_gpus_have_a_line_each_and_scroll_where_they_must(size: tuple[int, int]) -> None:
    own = 20 * GIB
    history = minute(lambda time: tuple(gpu(i, time, torch=i, own=own if i == 2 else 0) for i in range(8)))
    app = PaneApp()
    async with app.run_test(size=size) as pilot:
        app.pane.show(history)
        await pilot.pause()
        assert (app.pane.max_scroll_y > 0) is (size == SMALL)
        top = app.lines()
        app.pane.scroll_end(animate=False)
        await pilot.pause()
        seen = top + app.lines()

    for index in range(8):
        assert any(line.startswith(f"cuda:{index}  87%") and "/140 GiB" in line for line in seen)
    assert any("torch 20.0/20.0 peak 21.0 GiB" in line for line in seen)
    assert any("ram 25.6/128 GiB" in line for line in seen)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_missing_numbers_are_said_to_be_missing(size: tuple[int, int]) -> None:
    lost = GpuSample(0, "NVIDIA H200", "GPU-0")
    text = await shown(minute(lambda time: (lost,)), size)
    title, load = text.splitlines()[:2]

    assert title.startswith("GPU 0 H200")
    assert title.endswith("no answer")
    assert load.split() == ["gpu", "n/a"]
    assert "mem n/a" in text
    assert "torch" not in text


async def test_a_long_name_gives_way_between_words_to_the_numbers() -> None:
    long = GpuSample(0, "NVIDIA RTX 6000 Ada Generation", "GPU-0", 0.5, GIB, 48 * GIB, 61, 212, 300, 0)
    text = await shown(minute(lambda time: (long,)), SMALL)
    title = text.splitlines()[0]

    assert title.startswith("cuda:0 RTX 6000 ")
    assert title.endswith("61°C 212 W")


async def test_torchs_first_gpu_stands_first_with_nvmls_number() -> None:
    text = await shown(minute(lambda time: (gpu(0, time, torch=1), gpu(1, time, torch=0))), LARGE)
    titles = [line for line in text.splitlines() if line.startswith("cuda")]

    assert titles[0].startswith("cuda:0 H200 (GPU 1)")
    assert titles[1].startswith("cuda:1 H200 (GPU 0)")


async def test_only_news_is_painted() -> None:
    history = minute(lambda time: (gpu(0, torch=0),))
    painted = 0

    class CountingStatic(Static):
        def update(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
            nonlocal painted
            painted += 1

    class CountingPane(DevicesPane):
        def compose(self) -> ComposeResult:
            yield CountingStatic()

    class CountingApp(PaneApp):
        def compose(self) -> ComposeResult:
            yield CountingPane()

    app = CountingApp()
    async with app.run_test(size=SMALL) as pilot:
        app.pane.show(history)
        await pilot.pause()
        before = painted
        app.pane.show(history)  # the same snapshots
        app.pane.show((*history,))  # others, that look the same
        assert painted == before
        app.pane.show(minute(lambda time: (gpu(0, torch=0, own=GIB),)))
        assert painted == before + 1


async def test_m_maximises_and_restores() -> None:
    app = PaneApp()
    async with app.run_test(size=SMALL) as pilot:
        app.pane.focus()
        await pilot.press("m")
        assert app.screen.maximized is app.pane
        await pilot.press("m")
        assert app.screen.maximized is None


async def test_before_the_first_snapshot_the_pane_says_that_it_waits() -> None:
    assert "Waiting for the first sample" in await shown((), SMALL)
