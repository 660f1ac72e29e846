"""The catalog of datasets says what can be known before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.data.sources import Source, check_options, described, find, sources
from engine.errors import RecipeError
from engine.recipe import Data

ALL = tuple(sources().values())


def data(name: str = "line", **options: Any) -> Data:
    return Data(name=name, options=options)


def test_what_needs_no_network_comes_first() -> None:
    origins = [source.origin == "download" for source in ALL]
    assert origins == sorted(origins)
    assert not origins[0]


@pytest.mark.parametrize("source", ALL, ids=lambda source: source.name)
def test_a_source_is_described_in_full(source: Source) -> None:
    assert source.about.endswith(".")
    assert set(source.sizes) in ({"all"}, {"train", "test"}, {"train", "val"}, {"train", "val", "test"})
    assert source.outputs >= 1
    assert len(source.classes) in (0, source.outputs)
    assert bool(source.download_mb) == (source.origin == "download")


@pytest.mark.parametrize("source", [s for s in ALL if s.origin == "download"], ids=lambda source: source.name)
def test_a_download_is_a_dataset_of_torchvision(source: Source) -> None:
    torchvision = pytest.importorskip("torchvision")
    assert hasattr(torchvision.datasets, source.name)


@pytest.mark.parametrize("source", [s for s in ALL if s.twin], ids=lambda source: source.name)
def test_a_twin_is_there_without_a_network_and_does_the_same_task(source: Source) -> None:
    twin = find(source.twin)
    assert twin.ready
    assert (twin.task, twin.outputs) == (source.task, source.outputs)


def test_a_download_is_ready_once_it_was_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_TUI_DATA", str(tmp_path))
    assert not find("MNIST").ready
    find("MNIST").marker.touch()
    assert find("MNIST").ready
    assert not find("CIFAR10").ready


def test_an_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"data\.name: there is no dataset 'mnist'\. Did you mean 'MNIST'\?"):
        find("mnist")
    with pytest.raises(RecipeError, match="There are mnist5k, breast_cancer"):
        find("qqqqqq")


def test_options_have_defaults() -> None:
    assert check_options(find("line"), data(slope=3)) == {"points": 1000, "slope": 3, "noise": 0.1, "seed": 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"point": 3}, "data.options.point: is not an option of line. Did you mean 'points'?"),
        ({"colour": 3}, "data.options.colour: is not an option of line. It takes points, slope, noise, seed."),
        ({"points": "many"}, "data.options.points: 'many' does not fit. Try 1000."),
        ({"points": 10.5}, "data.options.points: 10.5 does not fit"),
        ({"points": True}, "data.options.points: True does not fit"),
        ({"points": 2}, "data.options.points: 2 are too few. Try 1000."),
        ({"seed": -1}, "data.options.seed: -1 does not fit. Try 0."),
    ],
)
def test_a_wrong_option_is_named_with_a_remedy(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        described(data(**options))
    assert str(caught.value).startswith(said)


def test_a_dataset_without_options_takes_none() -> None:
    with pytest.raises(RecipeError, match=r"is not an option of mnist5k\. It takes none: remove it"):
        described(data("mnist5k", points=3))


def test_options_change_the_description() -> None:
    assert described(data(points=50)).sizes == {"all": 50}
    assert find("line").sizes == {"all": 1000}
