from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from engine.devices.monitor import GpuSample, HostSample, Snapshot
from engine.devices.nvml import GIB
from tui.panes.devices import DevicesPane
from tui.widgets.told import Told

SMALL, LARGE = (34, 9), (78, 18)
STUDIO = (38, 11)  # 34 by 9 within border and padding


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

    for part in ("cuda:0 H200", "temp", "61°C", "power", "87% █", "/140 GiB █", "cpu 54% · ram 25.6/128 GiB"):
        assert part in text
    for part in ("alloc", "40.0", "peak 41.0 GiB"):
        assert part in text
    assert any(block in text for block in "▁▂▃▄▅▆▇")


def spark(text: str, label: str) -> str:
    """The small graph beside the number with this label."""
    found = re.search(rf"\b{label} +\S+(?: W| GiB)? ([▁-█ ]*[▁-█])", text)
    assert found, f"no graph beside {label} in:\n{text}"
    return found[1]


def heating(time: float) -> tuple[GpuSample, ...]:
    """A GPU that warms from 20 to 100 °C in a minute and draws up to its limit, while torch fills what it holds."""
    part = time / 59.5
    heat, power, own = 20 + 80 * part, 700 * part, int(40 * part * GIB)
    used, total, held = 60 * GIB, 140 * GIB, 40 * GIB
    return (GpuSample(0, "NVIDIA H200", "GPU-0", 0.9, used, total, heat, power, 700, 0, own, held, own),)


@pytest.mark.parametrize("size", [STUDIO, LARGE])
@pytest.mark.parametrize("label", ["temp", "power", "alloc", "peak"])
async def test_every_number_has_a_minute_of_history(label: str, size: tuple[int, int]) -> None:
    graph = spark(await shown(minute(heating), size), label)

    assert len(graph) >= (4 if size == STUDIO else 12)
    assert graph[-1] in "▇█"
    assert graph[0] in "▁▂"
    assert sorted(graph) == list(graph)


async def test_what_does_not_change_has_a_flat_graph() -> None:
    text = await shown(minute(lambda time: (gpu(0, time, torch=0, own=40 * GIB),)), STUDIO)

    assert set(spark(text, "temp")) == {"▄"}  # 61 of 20 to 100 °C
    assert set(spark(text, "power")) == {"▅"}  # 412 of 700 W
    assert set(spark(text, "(?:resv|reserved)")) == {"█"}


async def test_with_a_row_less_the_peak_moves_to_the_title() -> None:
    text = await shown(minute(heating), (38, 10))

    assert text.splitlines()[0] == "cuda:0 H200    torch peak 40.0 GiB"
    assert text.count("peak") == 1
    assert len(text.splitlines()) == 8


async def test_two_gpus_have_all_their_numbers_in_34_by_9() -> None:
    history = minute(lambda time: tuple(gpu(i, time, torch=i, own=20 * GIB) for i in range(2)))
    lines = (await shown(history, STUDIO)).splitlines()

    assert len(lines) == 9
    for card in (lines[:4], lines[4:8]):
        for label in ("gpu", "mem", "temp", "power", "alloc", "resv"):
            assert len(spark("\n".join(card), label)) >= 4


async def test_a_sensor_that_is_missing_leaves_its_place_to_the_others() -> None:
    no_power = GpuSample(0, "NVIDIA H200", "GPU-0", 0.5, GIB, 140 * GIB, 61, None, None, 0)
    text = await shown(minute(lambda time: (no_power,)), STUDIO)

    assert "power" not in text
    assert len(spark(text, "temp")) > 20


async def test_a_maximised_pane_has_taller_graphs_for_all_numbers() -> None:
    lines = (await shown(minute(heating), (120, 40))).splitlines()
    (numbers,) = (row for row, line in enumerate(lines) if line.startswith("temp"))

    for part in ("power 700/700 W", "alloc 40.0 GiB", "reserved 40.0 GiB", "peak 40.0 GiB"):
        assert part in lines[numbers]
    assert len(lines) - 1 - numbers - 1 >= 3  # rows of graph above the host's line


async def test_a_large_pane_spells_torchs_numbers_out() -> None:
    history = minute(lambda time: (gpu(0, time, torch=0, own=40 * GIB),))
    text = await shown(history, LARGE)

    for part in ("alloc 40.0 GiB", "reserved 40.0 GiB", "peak 41.0 GiB"):
        assert part in text
    load = text.splitlines()[2:6]
    assert load[1].startswith("█" * 60)  # 87 % of four rows is three and a half
    assert load[0].startswith("▄" * 60)


async def test_memory_is_split_by_owner() -> None:
    half = GpuSample(
        0, "NVIDIA H200", "GPU-0", 0.5, 70 * GIB, 140 * GIB, torch_index=0, allocated=0, reserved=0, peak=0
    )
    text = await shown(minute(lambda time: (half,)), LARGE)
    (bar,) = (line for line in text.splitlines() if line.startswith("mem"))
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
    numbers = (
        r"torch 20\.0/20\.0 peak 21\.0 GiB" if size == SMALL else r"torch 20\.0 [▁-█]+ / 20\.0 [▁-█]+ peak 21\.0 GiB"
    )
    assert any(re.search(numbers, line) for line in seen)
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
    assert title.endswith("Ada")


async def test_torchs_first_gpu_stands_first_with_nvmls_number() -> None:
    text = await shown(minute(lambda time: (gpu(0, time, torch=1), gpu(1, time, torch=0))), LARGE)
    titles = [line for line in text.splitlines() if line.startswith("cuda")]

    assert titles[0].startswith("cuda:0 H200 (GPU 1)")
    assert titles[1].startswith("cuda:1 H200 (GPU 0)")


async def test_only_news_is_painted() -> None:
    history = minute(lambda time: (gpu(0, torch=0),))
    painted = 0

    class CountingTold(Told):
        def update(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
            nonlocal painted
            painted += 1

    class CountingPane(DevicesPane):
        def compose(self) -> ComposeResult:
            yield CountingTold()

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


async def test_a_gpu_that_is_lost_while_torch_runs_says_so_in_the_title() -> None:
    lost = GpuSample(0, "NVIDIA H200", "GPU-0", torch_index=0, allocated=GIB, reserved=GIB, peak=GIB)
    text = await shown(minute(lambda time: (lost,)), (38, 10))

    assert text.splitlines()[0].endswith("no answer")


async def test_the_pane_is_titled_and_keyed_as_the_others_are() -> None:
    assert DevicesPane.BORDER_TITLE == "Devices [dim]6[/]"
    app = PaneApp()
    async with app.run_test(size=SMALL):
        assert [each.id for each in app.pane._bindings.key_to_bindings["m"]] == ["pane.maximize"]


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


async def test_what_was_drawn_for_more_room_leaves_no_scrollbar_in_less() -> None:
    app = PaneApp()
    async with app.run_test(size=(82, 30)) as pilot:
        history = minute(lambda time: (), "No NVIDIA driver is installed here.")
        app.pane.show(history)
        await pilot.pause()
        await pilot.resize_terminal(*STUDIO)
        await pilot.pause()
        assert not app.pane.show_vertical_scrollbar, "\n".join(app.lines())
        assert app.lines()[0].startswith("cpu")
        assert "█" in app.lines()[0]
