"""NumPy arrays of one's own: which are inputs and targets, what they are, and what is wrong with them."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import train

from engine.data.formats import arrays
from engine.data.formats.arrays import open_arrays
from engine.data.formats.catalog import format_entry, guess
from engine.data.samples import BadSample, Listed, Loaded, Samples
from engine.errors import DataError, RecipeError
from engine.recipe import Recipe

DRAW = np.random.default_rng(0)
LABELS = np.arange(20) % 2
ROWS = np.zeros((20, 3))


def read(path: Path, task: Any = "classification", **options: Any) -> Loaded:
    return open_arrays(path, task, lambda what, done, total: None, **options)


def held(loaded: Loaded, part: str = "all") -> Samples:
    found = loaded.parts[part]
    assert isinstance(found, Samples)
    return found


def saved(folder: Path, **named: Any) -> Path:
    file = folder / "made.npz"
    np.savez(file, **named)
    return file


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW"])
def test_pictures_of_any_layout_are_learned(layout: str, tmp_path: Path) -> None:
    """A bright spot in the left half or in the right one; the columns of pixels must not become channels."""
    labels = DRAW.integers(0, 2, 300)
    pictures = DRAW.integers(0, 120, (300, 3, 8, 12), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[:, DRAW.integers(8), DRAW.integers(6) + 6 * label] = 255
    stored = {"NHW": pictures[:, 0], "NHWC": pictures.transpose(0, 2, 3, 1), "NCHW": pictures}[layout]
    loaded = read(saved(tmp_path, images=stored, labels=labels))
    channels = 1 if layout == "NHW" else 3
    assert loaded.source.shape == (channels, 8, 12)
    assert torch.equal(held(loaded).inputs, torch.from_numpy(pictures[:, :channels]))
    values = {
        "title": "spots",
        "data": {"path": str(tmp_path / "made.npz"), "batch_size": 30},
        "model": {
            "layers": [
                {"name": "AdaptiveMaxPool2d", "output_size": [1, 2]},
                {"name": "Flatten"},
                {"name": "BatchNorm1d"},
                {"name": "Linear", "out_features": "classes"},
            ]
        },
        "optimizer": {"name": "AdamW", "lr": 0.05},
        "training": {"epochs": 8, "device": "cpu", "threads": 1},
    }
    job = train(Recipe.from_values(values), tmp_path / "runs")
    assert job.history.error is None
    assert job.history.summary is not None
    assert job.history.summary.test["accuracy"] > 0.9


@pytest.mark.parametrize(
    "names",
    [
        ("x", "y"), ("X", "labels"), ("inputs", "targets"), ("images", "label"), ("data", "target"),
        ("features", "y"), ("arr_0", "arr_1"),
    ],
)  # fmt: skip
def test_inputs_and_targets_are_known_by_their_names(names: tuple[str, str], tmp_path: Path) -> None:
    inputs = DRAW.normal(size=(20, 3))
    loaded = read(saved(tmp_path, **dict(zip(names, (inputs, LABELS), strict=True))))
    assert torch.equal(held(loaded).inputs, torch.from_numpy(inputs).float())
    assert held(loaded).targets.tolist() == LABELS.tolist()


def test_parts_are_known_by_their_names(tmp_path: Path) -> None:
    x = DRAW.normal(size=(20, 3))
    keras = {"x_train": x, "y_train": LABELS, "x_test": x[:4], "y_test": LABELS[:4]}
    assert read(saved(tmp_path, **keras)).source.sizes == {"train": 20, "test": 4}
    medical = {"train_images": x, "train_labels": LABELS[:, None], "val_images": x[:5], "val_labels": LABELS[:5]}
    loaded = read(saved(tmp_path, **medical))
    assert loaded.source.sizes == {"train": 20, "val": 5}
    assert held(loaded, "train").targets.shape == (20,)
    with pytest.raises(DataError, match="has no targets of test beside it"):
        read(saved(tmp_path, x_train=x, y_train=LABELS, x_test=x))


def test_names_of_ones_own_are_given_and_unknown_ones_refused(tmp_path: Path) -> None:
    x = DRAW.normal(size=(20, 3))
    file = saved(tmp_path, spectra=x, kind=LABELS, other=x)
    assert held(read(file, inputs="spectra", targets="kind")).inputs.shape == (20, 3)
    with pytest.raises(RecipeError, match=r"there is no array 'spectre'. Did you mean 'spectra'"):
        read(file, inputs="spectre", targets="kind")
    with pytest.raises(RecipeError, match=r"data.options.targets: there is no array 'king'"):
        read(file, inputs="spectra", targets="king")
    with pytest.raises(DataError, match="no array of inputs among spectra, kind, other"):
        read(file)
    parts = saved(tmp_path, spectra_train=x, kind_train=LABELS, spectra_test=x, kind_test=LABELS)
    assert set(read(parts, inputs="spectra", targets="kind").parts) == {"train", "test"}


def test_npy_files_have_targets_beside_them_or_in_their_last_column(tmp_path: Path) -> None:
    x = DRAW.normal(size=(20, 3))
    np.save(tmp_path / "table.npy", np.column_stack([x, LABELS]))
    loaded = read(tmp_path / "table.npy")
    assert held(loaded).inputs.shape == (20, 3)
    assert held(loaded).targets.tolist() == LABELS.tolist()
    np.save(tmp_path / "X_train.npy", x)
    np.save(tmp_path / "y_train.npy", LABELS)
    assert held(read(tmp_path / "X_train.npy")).inputs.shape == (20, 3)
    np.save(tmp_path / "spectra.npy", x)
    assert held(read(tmp_path / "spectra.npy", targets="y_train.npy")).targets.tolist() == LABELS.tolist()
    assert set(read(tmp_path).parts) == {"train"}  # the folder
    np.save(tmp_path / "cube.npy", DRAW.normal(size=(20, 3, 4)))
    with pytest.raises(DataError, match="cube: is 20×3×4 and has no targets beside it"):
        read(tmp_path / "cube.npy")


@pytest.mark.parametrize(
    ("inputs", "options", "shape", "dtype"),
    [
        (np.zeros((20, 5)), {}, (5,), torch.float32),
        (np.zeros(20), {}, (1,), torch.float32),
        (np.zeros((20, 5), np.int16), {}, (5,), torch.float32),
        (np.zeros((20, 5), bool), {}, (5,), torch.float32),
        (np.zeros((20, 5), np.int32), {"vocabulary": 9}, (5,), torch.int64),
        (np.zeros((20, 28, 28)), {}, (1, 28, 28), torch.float32),
        (np.zeros((20, 28, 28)), {"layout": "plain"}, (28, 28), torch.float32),
        (np.zeros((20, 100, 6)), {}, (100, 6), torch.float32),
        (np.zeros((20, 9, 12), np.uint8), {}, (1, 9, 12), torch.uint8),
        (np.zeros((20, 9, 12, 1), np.uint8), {}, (1, 9, 12), torch.uint8),
        (np.zeros((20, 9, 12, 8)), {"layout": "NHWC"}, (8, 9, 12), torch.float32),
        (np.zeros((20, 2, 3, 4, 5), np.float16), {}, (2, 3, 4, 5), torch.float32),
    ],
)
def test_what_arrays_become(
    inputs: np.ndarray, options: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    loaded = read(saved(tmp_path, x=inputs, y=LABELS), **options)
    assert loaded.source.shape == shape == tuple(held(loaded).inputs.shape[1:])
    assert held(loaded).inputs.dtype == dtype
    assert loaded.source.vocabulary == options.get("vocabulary", 0)


def test_samples_that_are_no_numbers_are_bad_with_their_index_and_count(tmp_path: Path) -> None:
    x = DRAW.normal(size=(20, 3))
    x[4, :2], x[9, 0], x[12, 1] = np.nan, np.inf, 1e300
    loaded = read(saved(tmp_path, x=x, y=LABELS))
    assert [str(each) for each in loaded.bad] == [
        "index 4: 2 of 3 values are NaN or infinite",
        "index 9: 1 of 3 values are NaN or infinite",
        "index 12: 1 of 3 values are NaN or infinite",
    ]
    assert loaded.source.sizes == {"all": 17}
    assert held(loaded).inputs.isfinite().all()
    assert (held(loaded).places[4], held(loaded).places[8]) == ("index 5", "index 10")
    assert not read(saved(tmp_path, x=np.nan_to_num(x[:9]), y=LABELS[:9])).bad


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ([0, 1, 1.5, 0], {}, "index 2: label 1.5 is no whole number"),
        ([0, 1, np.nan, 0], {}, "index 2: label nan is no whole number"),
        ([0, 1, -3, 0], {}, "index 2: label -3 is out of range: classes are numbered from 0"),
        ([0, 1, 3, 0], {"classes": ("a", "b", "c")}, "index 2: label 3 is out of range: classes are numbered 0 to 2"),
        (["a", "b", "x", "a"], {"classes": ("a", "b")}, "index 2: label 'x' is none of the classes a, b"),
    ],
)
def test_labels_out_of_range_are_bad_samples(
    labels: list[Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    loaded = read(saved(tmp_path, x=np.zeros((4, 2)), y=np.array(labels)), **options)
    assert [str(each) for each in loaded.bad] == [said]
    assert held(loaded).targets.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([10, 2, 2, 10]), ("2", "10")),
        (np.array([1.0, 0.0, 0.0, 1.0]), ("0", "1")),
        (np.array([1, -1, -1, 1]), ("-1", "1")),
        (np.array([True, False, False, True]), ("0", "1")),
        (np.array(["no", "cat", "cat", "no"]), ("cat", "no")),
        (np.array([[0, 1], [1, 0], [1, 0], [0, 1]]), ("0", "1")),
    ],
)
def test_labels_of_any_kind_become_classes(labels: np.ndarray, classes: tuple[str, ...], tmp_path: Path) -> None:
    loaded = read(saved(tmp_path, x=np.zeros((4, 2)), y=labels))
    assert loaded.source.classes == classes
    assert held(loaded).targets.tolist() == [1, 0, 0, 1]


def test_numbers_to_predict_may_be_several(tmp_path: Path) -> None:
    y = DRAW.normal(size=(20, 2))
    y[3, 1] = np.nan
    loaded = read(saved(tmp_path, x=np.zeros((20, 4)), y=y), "regression")
    assert loaded.source.outputs == 2
    assert held(loaded).targets.shape == (19, 2)
    assert str(loaded.bad[0]) == "index 3: its target is NaN or infinite"


@pytest.mark.parametrize(
    ("named", "options", "said"),
    [
        ({"x": ROWS, "y": LABELS[:18]}, {}, "has 20 samples, y has 18 targets"),
        ({"x": np.zeros((0, 3)), "y": LABELS[:0]}, {}, "is empty (0×3)"),
        ({"x": np.full((20, 3), "a"), "y": LABELS}, {}, "is <U1, no numbers"),
        ({"x": np.zeros((20, 3), complex), "y": LABELS}, {}, "is complex128, no numbers"),
        ({"x": np.zeros(()), "y": LABELS}, {}, "is one number"),
        ({"x": ROWS, "y": np.ones(20)}, {}, "all samples are of one class: '1'"),
        ({"x": ROWS, "y": LABELS + 0.5}, {}, "20 of 20 labels are no whole numbers, the first"),
        ({"x": np.zeros((50, 3)), "y": np.arange(50)}, {}, "these are no classes"),
        ({"x": ROWS, "y": np.zeros((20, 2))}, {}, "are 20×2, not one label a sample"),
        ({"x": ROWS, "y": np.full(20, "a")}, {"task": "regression"}, "no numbers to predict"),
        ({"x": np.full((20, 3), np.nan), "y": LABELS}, {}, "all 20 samples are wrong, the first: index 0"),
        ({"x": ROWS, "y": LABELS}, {"vocabulary": 5}, "is 20×3 float64, not rows of tokens"),
        ({"x": np.zeros((20, 3, 4)), "y": LABELS}, {"layout": "NHWC"}, "is 20×3×4, which is not NHWC"),
        ({"x": np.zeros((20, 3, 8, 3)), "y": LABELS}, {}, "which of them are the channels does not show"),
        ({"x_train": ROWS, "y_train": LABELS, "x_test": np.zeros((20, 4)), "y_test": LABELS},
         {}, "x_test: is 20×4 float64"),
    ],
)  # fmt: skip
def test_arrays_that_nothing_can_be_learned_from_are_refused(
    named: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"made\.npz") as caught:
        read(saved(tmp_path, **named), **options)
    assert said in str(caught.value)


def test_tokens_out_of_the_vocabulary_are_bad(tmp_path: Path) -> None:
    x = np.arange(60).reshape(20, 3) % 7
    loaded = read(saved(tmp_path, x=x, y=LABELS), vocabulary=6)
    assert str(loaded.bad[0]) == "index 2: 1 of 3 values are no tokens from 0 to 5"
    assert not read(saved(tmp_path, x=x, y=LABELS), vocabulary=7).bad


class _Trap:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('a pickle was run')",)


@pytest.mark.parametrize("kind", ["npy", "npz", "pickle"])
def test_what_a_pickle_says_is_never_run(kind: str, tmp_path: Path) -> None:
    trap = np.array([_Trap(), 1], dtype=object)
    file = tmp_path / f"x.{'npz' if kind == 'npz' else 'npy'}"
    if kind == "npz":
        np.savez(file, x=trap, y=LABELS, allow_pickle=True)
    elif kind == "npy":
        np.save(file, trap, allow_pickle=True)
    else:
        file.write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(DataError, match="has Python objects in it"):
        read(file)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_files_that_are_cut_short_are_refused(name: str, tmp_path: Path) -> None:
    x = DRAW.normal(size=(200, 30))
    file = tmp_path / name
    (np.save if name.endswith("npy") else np.savez)(file, x)  # type: ignore[operator]
    file.write_bytes(file.read_bytes()[:-4000])
    with pytest.raises(DataError, match="can't be read"):
        read(file)


def test_an_archive_that_unpacks_to_more_than_there_is_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bomb.npz"
    np.savez_compressed(file, x=np.zeros((1000, 1000)), y=np.arange(1000) % 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    with pytest.raises(DataError, match=r"bomb\.npz: x: unpacks to 0\.0 GB, 0\.0 GB of memory are free"):
        read(file)


def test_an_array_too_large_to_hold_is_read_sample_by_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = DRAW.integers(0, 255, (20, 6, 7, 3)).astype(np.float64)
    x[4, 0, 0, 0] = np.nan
    labels = LABELS.astype(float)
    labels[2] = 0.5
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    assert isinstance(read(tmp_path / "x.npy").parts["all"], Samples)
    monkeypatch.setattr(arrays, "_HELD", 0.0)
    loaded = read(tmp_path / "x.npy")
    large = loaded.parts["all"]
    assert isinstance(large, Listed)
    assert loaded.source.shape == (3, 6, 7)
    assert (len(large), large.sample_bytes, large.places[2]) == (19, 3 * 6 * 7 * 4, "index 3")
    again = pickle.loads(pickle.dumps(large))  # as workers get it
    for dataset in (large, again):
        sample, target = dataset[2]
        assert torch.equal(sample, torch.from_numpy(x[3].transpose(2, 0, 1)).float())
        assert target == 1
    with pytest.raises(BadSample, match="index 4: 1 of 126 values are NaN or infinite"):
        large[3]


def test_reading_arrays_tells_how_far_it_is_and_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_CHUNK", 160)
    file = saved(tmp_path, x=np.zeros((20, 4)), y=LABELS)
    told: list[tuple[str, int, int]] = []
    open_arrays(file, "classification", lambda *each: told.append(each))
    assert [done for _, done, _ in told] == [5, 10, 15, 20]

    def cancel(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_arrays(file, "classification", cancel)


def test_the_format_is_known_by_its_name_and_its_options_are_explained(tmp_path: Path) -> None:
    assert guess(saved(tmp_path, x=np.zeros(3))) == "arrays"
    assert all(parameter.doc for parameter in format_entry("arrays").parameters)
