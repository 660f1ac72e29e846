"""A dataset is loaded as what it says it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.data.load import load
from engine.data.samples import Loaded, Samples
from engine.data.sources import find
from engine.errors import RecipeError, StudioError
from engine.recipe import Data


def mine(folder: Path, code: str, task: str = "classification", **options: Any) -> Loaded:
    file = folder / "things.py"
    file.write_text(f"import numpy as np\nimport torch\n\n{code}\n", encoding="utf-8")
    return load(Data(python=f"{file}:make", options=options), task)


def refusal(folder: Path, code: str, task: str = "classification") -> str:
    with pytest.raises(StudioError) as caught:
        mine(folder, code, task)
    return str(caught.value)


THINGS = """
class Things:
    \"\"\"Twelve things.\"\"\"
    classes = ["even", "odd"]
    def __len__(self): return 12
    def __getitem__(self, index): return {sample}

def make(**options): return {made}
"""


def things(sample: str = "torch.full((3,), float(index)), index % 2", made: str = "Things()") -> str:
    return THINGS.format(sample=sample, made=made)


@pytest.mark.parametrize("name", ["mnist5k", "breast_cancer", "diabetes", "line"])
def test_a_dataset_is_what_the_catalog_says(name: str) -> None:
    source = find(name)
    loaded = load(Data(name=name), source.task)
    samples = loaded.parts["all"]
    assert isinstance(samples, Samples)
    assert len(samples) == source.sizes["all"]
    assert tuple(samples.inputs.shape[1:]) == source.shape == loaded.source.shape
    if source.task == "classification":
        assert samples.targets.dtype == torch.int64
        assert set(samples.targets.tolist()) == set(range(source.outputs))
    else:
        assert (samples.targets.dtype, samples.targets.shape[1]) == (torch.float32, source.outputs)
    assert samples.nbytes == samples.inputs.nbytes + samples.targets.nbytes


def test_tables_know_their_columns() -> None:
    assert load(Data(name="diabetes"), "regression").source.columns[:3] == ("age", "sex", "bmi")


def test_a_line_is_the_same_for_the_same_seed_only() -> None:
    def line(**options: Any) -> Samples:
        samples = load(Data(name="line", options=options), "regression").parts["all"]
        assert isinstance(samples, Samples)
        return samples

    assert torch.equal(line().targets, line().targets)
    assert not torch.equal(line().targets, line(seed=1).targets)
    exact = line(points=50, noise=0, slope=-3)
    assert len(exact) == 50
    assert torch.equal(exact.targets, -3 * exact.inputs)
    spread = (line(points=5000, noise=0.5, slope=0).targets).std()
    assert spread == pytest.approx(0.5, rel=0.05)


def test_loading_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    load(Data(name="line"), "regression")
    assert torch.equal(before, torch.get_rng_state())


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.options\.point: is not an option of line"):
        load(Data(name="line", options={"point": 3}), "regression")


def test_ones_own_dataset_is_described_by_its_first_sample(tmp_path: Path) -> None:
    source = mine(tmp_path, things()).source
    assert (source.name, source.about, source.origin) == ("make", "Twelve things.", "yours")
    assert (source.shape, source.outputs, source.classes) == ((3,), 2, ("even", "odd"))
    assert source.sizes == {"all": 12}


def test_a_picture_is_described_as_it_will_be_served(tmp_path: Path) -> None:
    sample = "__import__('PIL.Image').Image.new({mode!r}, (6, 4)), 0"
    assert mine(tmp_path, things(sample.format(mode="RGB"))).source.shape == (3, 4, 6)
    assert mine(tmp_path, things(sample.format(mode="L"))).source.shape == (1, 4, 6)


def test_ones_own_dataset_may_bring_a_test_set(tmp_path: Path) -> None:
    loaded = mine(tmp_path, things(made="{'train': Things(), 'test': Things()}"))
    assert loaded.source.sizes == {"train": 12, "test": 12}


def test_numbers_to_predict_are_counted(tmp_path: Path) -> None:
    assert mine(tmp_path, things("[1.0, 2.0], [1.0, 2.0, 3.0]"), "regression").source.outputs == 3
    assert mine(tmp_path, things("[1.0, 2.0], 5"), "regression").source.outputs == 1


def test_a_target_to_predict_that_is_no_number_is_named(tmp_path: Path) -> None:
    assert "sample 0 has the target '3', which is no number." in refusal(tmp_path, things("[1.0], '3'"), "regression")
    assert "sample 0 has the target 1j, which is no number." in refusal(tmp_path, things("[1.0], 1j"), "regression")
    long = refusal(tmp_path, things("[1.0], {'boxes': ['odd'] * 99}"), "regression")
    assert "sample 0 has the target {'boxes': ['odd', 'odd', 'odd', 'odd', 'odd', 'odd', ...]}, which is no" in long


def test_masks_of_ones_own_are_whole_numbers_of_any_type(tmp_path: Path) -> None:
    def masked(kind: str) -> str:
        return things(f"torch.zeros(1, 4, 4), np.ones((4, 4), {kind!r})")

    for kind in ("bool", "uint8", "int8", "int32", "uint16", "int64"):
        assert mine(tmp_path, masked(kind), "segmentation").source.outputs == 2
    said = refusal(tmp_path, masked("float32"), "segmentation")
    assert "sample 0 has a mask of float32, and the class of a pixel is a whole number. Return mask.long()," in said


def test_a_target_that_torch_does_not_take_is_refused_where_it_is_read(tmp_path: Path) -> None:
    for target in ("np.ones((4, 4), int)[::-1]", "np.ones((4, 4), '>i4')", "np.ones((4, 4), np.longdouble)"):
        said = refusal(tmp_path, things(f"torch.zeros(1, 4, 4), {target}"), "segmentation")
        assert "sample 0 can't be read" in said


def test_shares_of_the_classes_may_have_any_shape(tmp_path: Path) -> None:
    for target in ("[0.5, 0.5]", "torch.ones(1, 2)", "np.ones((2, 1), 'float16')"):
        assert mine(tmp_path, things(f"[1.0], {target}")).source.outputs == 2
    assert "sample 0 has 3 numbers of float64 for a target" in refusal(tmp_path, things("[1.0], [0.2, 0.3, 0.5]"))


def test_options_reach_ones_own_function(tmp_path: Path) -> None:
    code = things("options, 0").replace(
        "def make(**options): return Things()", "def make(count): return [([1.0], 0.5)] * count"
    )
    assert mine(tmp_path, code, "regression", count=7).source.sizes == {"all": 7}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (things(made="7"), "returned an int for all. Return an object with [i] and len()."),
        (things(made="None"), "returned a NoneType for all"),
        (things(made="iter([1])"), "for all. Return an object with [i] and len()."),
        (things(made="[]"), "the dataset 'all' is empty. Give it samples."),
        (
            things(made="{'train': Things(), 'valid': Things()}"),
            "returned parts ['train', 'valid']. Return one dataset",
        ),
        (things(made="{}"), "returned parts []"),
        (things("torch.zeros(3)"), "sample 0 can't be read"),
        (things("1 / 0"), "ZeroDivisionError: division by zero. A sample is (input, target)"),
        (things("'text', 0"), "sample 0 can't be read"),
        (things("[1.0], 'odd'"), "sample 0 has the target 'odd', and a class is a number. Return classes.index(name)."),
        (things("[1.0], ['a', 'b']"), "sample 0 has the target ['a', 'b'], and a class is a number."),
        (things("[1.0], [0, 1]"), "sample 0 has 2 numbers of int64 for a target, and a class is one whole number."),
        (things("[1.0], 1.0"), "sample 0 has 1 number of float64 for a target, and a class is one whole number."),
        (things().replace('classes = ["even", "odd"]', ""), "does not say its classes. Give the dataset an attribute"),
        ("def other(): pass", "has no function 'make'"),
        ("make = [", "things.py:4: SyntaxError"),
    ],
)
def test_what_is_no_dataset_is_said_to_be_none(tmp_path: Path, code: str, said: str) -> None:
    assert said in refusal(tmp_path, code)
