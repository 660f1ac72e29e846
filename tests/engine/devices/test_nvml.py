from __future__ import annotations

import pynvml
import pytest
from fake_nvml import FakeGpu, FakeNvml

from engine.devices.nvml import GIB, Gpus, GpuSample, hides_all, visible_to_cuda


def opened(nvml: FakeNvml, told: list[str] | None = None) -> Gpus:
    gpus = Gpus(nvml, [].append if told is None else told.append)
    gpus.open()
    return gpus


def test_a_gpu_is_read_in_our_units() -> None:
    (sample,) = opened(FakeNvml(FakeGpu("GPU-a"))).sample()

    assert sample == GpuSample(0, "NVIDIA H200", "GPU-a", 0.87, 41 * GIB, 140 * GIB, 61, 412.3, 700)


def test_names_in_bytes_are_read() -> None:
    (sample,) = opened(FakeNvml(FakeGpu("GPU-a", name=b"Tesla V100"))).sample()

    assert sample.name == "Tesla V100"


def test_what_is_not_supported_is_none_and_not_worth_a_word() -> None:
    unsupported = dict.fromkeys(("load", "power", "limit", "mig"), pynvml.NVML_ERROR_NOT_SUPPORTED)
    told: list[str] = []
    (sample,) = opened(FakeNvml(FakeGpu("GPU-a", refuses=unsupported)), told).sample()

    assert (sample.utilisation, sample.power, sample.power_limit) == (None, None, None)
    assert (sample.temperature, sample.memory_used) == (61, 41 * GIB)
    assert told == []


def test_a_gpu_lost_in_mid_run_leaves_the_others_and_is_told_once() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"), FakeGpu("GPU-b"))
    told: list[str] = []
    gpus = opened(nvml, told)
    assert [sample.utilisation for sample in gpus.sample()] == [0.87, 0.87]

    nvml.gpus[0].lost = True
    for _ in range(3):
        lost, well = gpus.sample()

    assert (lost.uuid, lost.utilisation, lost.memory_used, lost.temperature, lost.power) == ("GPU-a", *[None] * 4)
    assert well.utilisation == 0.87
    assert len(told) == 1
    assert "GPU 0 (NVIDIA H200): GPU is lost" in told[0]


def test_a_gpu_that_is_lost_from_the_start_leaves_the_others() -> None:
    told: list[str] = []
    samples = opened(FakeNvml(FakeGpu("GPU-a", lost=True), FakeGpu("GPU-b")), told).sample()

    assert [(sample.index, sample.uuid) for sample in samples] == [(1, "GPU-b")]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("code", "line", "is_told"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "No NVIDIA driver is installed here.", False),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "The NVIDIA driver is installed but not loaded.", True),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "NVIDIA driver and library versions differ: reboot.", True),
        (pynvml.NVML_ERROR_UNKNOWN, "NVIDIA's monitoring did not start: Unknown Error.", True),
    ],
)
def test_an_nvml_that_does_not_start_says_why(
    code: int, line: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    told: list[str] = []
    gpus = opened(FakeNvml(init_error=code), told)

    assert gpus.absence == line
    assert gpus.sample() == ()
    assert told == ([line] if is_told else [])
    gpus.close()  # nothing to shut down, nothing said


def test_on_a_mac_the_reason_is_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    assert "Metal" in str(opened(FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)).absence)


def test_a_driver_without_a_gpu_says_so() -> None:
    assert opened(FakeNvml()).absence == "The NVIDIA driver is loaded but shows no GPU."


def test_a_board_cut_up_by_mig_is_shown_as_its_slices() -> None:
    unsupported = dict.fromkeys(("load", "temperature", "power", "limit"), pynvml.NVML_ERROR_NOT_SUPPORTED)
    slices = [FakeGpu(f"MIG-{n}", "NVIDIA H200 MIG 1g.18gb", total=16 * GIB, refuses=unsupported) for n in (0, 1)]
    samples = opened(FakeNvml(FakeGpu("GPU-a", slices=slices))).sample()

    assert [(sample.index, sample.uuid, sample.memory_total) for sample in samples] == [
        (0, "MIG-0", 16 * GIB),
        (0, "MIG-1", 16 * GIB),
    ]
    assert [(sample.utilisation, sample.temperature) for sample in samples] == [(None, 61), (None, 61)]


ALIKE = [GpuSample(index, "NVIDIA H200", f"GPU-{letter}{index}") for index, letter in enumerate("abc")]
UNLIKE = [GpuSample(0, "NVIDIA T4", "GPU-a0"), GpuSample(1, "NVIDIA H200", "GPU-b1")]
SLICED = [GpuSample(0, "NVIDIA H200 MIG", "MIG-a"), GpuSample(0, "NVIDIA H200 MIG", "MIG-b")]


@pytest.mark.parametrize(
    ("gpus", "visible", "order", "places"),
    [
        (ALIKE, None, None, [0, 1, 2]),
        (ALIKE, "2,0", None, [2, 0]),
        (ALIKE, "2, 0", None, [2, 0]),
        (ALIKE, "GPU-c2,GPU-a", None, [2, 0]),
        (ALIKE, "GPU-", None, []),  # could be any
        (ALIKE, "1,7,0", None, [1]),  # CUDA stops at the first that is not there
        (ALIKE, "1,-1,0", None, [1]),
        (ALIKE, "1,1", None, []),  # CUDA takes a repetition for a mistake
        (ALIKE, "", None, []),
        (ALIKE, "-1", None, []),
        (UNLIKE, None, None, []),  # fastest first: not foreseeable
        (UNLIKE, "1,0", "PCI_BUS_ID", [1, 0]),
        (UNLIKE, "GPU-b1", None, [1]),
        (SLICED, None, None, []),
        (SLICED, "MIG-b", None, [1]),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    gpus: list[GpuSample], visible: str | None, order: str | None, places: list[int]
) -> None:
    assert visible_to_cuda(gpus, visible, order) == places


@pytest.mark.parametrize(
    ("visible", "hidden"),
    [
        ("", True),
        ("-1", True),
        ("none", True),
        ("7", True),
        ("GPU-x", True),
        ("0", False),
        ("GPU-a", False),
        (None, False),
    ],
)
def test_only_a_setting_that_names_no_gpu_hides_all(visible: str | None, hidden: bool) -> None:
    assert hides_all(ALIKE, visible) is hidden
    assert hides_all(UNLIKE, visible) is hidden
