"""The catalog knows what torch knows, by asking torch."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine import catalog
from engine.catalog import REQUIRED, Entry
from engine.errors import RecipeError
from engine.recipe import parse_value

ALL: Mapping[str, Mapping[str, Entry]] = {
    "layer": catalog.layers(),
    "loss": catalog.losses(),
    "optimizer": catalog.optimizers(),
    "scheduler": catalog.schedulers(),
}
ENTRIES = [entry for entries in ALL.values() for entry in entries.values()]


def refusal(entry: Entry, **values: object) -> str:
    with pytest.raises(RecipeError) as caught:
        entry.check(values, "here")
    return str(caught.value)


def _subclasses(names: Mapping[str, Any], base: type) -> set[str]:
    return {name for name, value in names.items() if inspect.isclass(value) and issubclass(value, base)}


def test_what_torch_says_of_anything_is_read_without_its_markup() -> None:
    markup = re.compile(r"\.\. [\w-]+::|:\w+:`|::\s*$|\\|\{cases\}| & ", re.MULTILINE)
    for entry in ENTRIES:
        for text in (entry.doc, *(parameter.doc for parameter in entry.parameters)):
            assert not (found := markup.search(text)), f"{entry.name}: {text[found.start() - 40 : found.end() + 40]!r}"
    assert "⌊ (L_{in} + 2 × padding" in catalog.layers()["MaxPool1d"].doc
    assert "0.5 (x_n - y_n)^2 / beta, if  |x_n - y_n| < beta" in catalog.losses()["SmoothL1Loss"].doc


def test_every_optimizer_of_torch_is_found() -> None:
    assert set(catalog.optimizers()) == _subclasses(vars(torch.optim), torch.optim.Optimizer) - {"Optimizer"}


def test_every_scheduler_of_torch_is_found() -> None:
    module = torch.optim.lr_scheduler
    public = {n for n in _subclasses(vars(module), module.LRScheduler) if not n.startswith("_")} - {"LRScheduler"}
    assert set(catalog.schedulers()) == public


def test_schedulers_made_of_schedulers_are_known_by_their_signature() -> None:
    composed = {name for name, entry in catalog.schedulers().items() if entry.composed}
    assert composed == {"SequentialLR", "ChainedScheduler"}
    assert catalog.schedulers()["ChainedScheduler"].parameters == ()


def test_a_function_is_written_as_a_file_and_a_name(tmp_path: Path) -> None:
    scheduler = catalog.schedulers()["LambdaLR"]
    file = tmp_path / "mine.py"
    file.write_text("import numpy\ndef half(epoch): return numpy.float64(0.5**epoch)\n", encoding="utf-8")
    scheduler.check({"lr_lambda": f"{file}:half"}, "here")
    made = scheduler.make({"lr_lambda": f"{file}:half"}, "here", torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5))
    made.step()
    assert made.get_last_lr() == [0.25]
    assert type(made.get_last_lr()[0]) is float
    for wrong in ("half", "mine.txt:half", 3, ["mine.py:half"]):
        assert 'is not a function, "path/to/file.py:function"' in refusal(scheduler, lr_lambda=wrong)
    with pytest.raises(RecipeError, match=r"here\.lr_lambda: there is no file missing\.py"):
        scheduler.make({"lr_lambda": "missing.py:half"}, "here")


def test_a_name_that_torch_takes_in_place_of_a_function_stays_a_name() -> None:
    encoder = catalog.layers()["TransformerEncoderLayer"]
    encoder.check({"d_model": 8, "nhead": 2, "activation": "gelu"}, "here")


def test_every_layer_of_torch_is_found_but_those_that_take_no_single_tensor() -> None:
    missing = _subclasses(vars(nn), nn.Module) - set(catalog.layers()) - set(catalog.losses())
    lazy = {name for name in missing if name.startswith("Lazy")}
    containers = {"Module", "Container", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}
    containers |= {"DataParallel"}
    several = {
        *("Bilinear", "Transformer", "TransformerDecoder", "TransformerDecoderLayer"),
        *("MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d", "CosineSimilarity", "PairwiseDistance"),
    }
    losses = {name for name in missing if name.endswith(("Loss", "LossWithLoss"))}
    bases = {"RNNBase", "RNNCellBase"}
    assert missing - lazy - containers - several - losses - bases == set()


@pytest.mark.parametrize(
    "name", ["Linear", "Conv2d", "ConvTranspose3d", "BatchNorm2d", "GRU", "GELU", "Flatten", "RMSNorm"]
)
def test_a_layer_everyone_knows_is_there(name: str) -> None:
    assert issubclass(catalog.layers()[name].target, getattr(nn, name))


def test_losses_of_an_output_and_a_target_are_found() -> None:
    assert {"CrossEntropyLoss", "MSELoss", "L1Loss", "HuberLoss", "NLLLoss", "BCEWithLogitsLoss"} <= set(
        catalog.losses()
    )
    assert {"TripletMarginLoss", "CTCLoss", "CosineEmbeddingLoss"}.isdisjoint(catalog.losses())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_parameters_are_those_of_torchs_signature(entry: Entry) -> None:
    signature = inspect.signature(entry.target).parameters
    if any(each.kind is each.VAR_POSITIONAL and each.name == "args" for each in signature.values()):
        pytest.skip("declared by overloads; see test_recurrent_layers_have_the_parameters_of_their_overload")
    known = {parameter.name for parameter in entry.parameters}
    hidden = {"params", "optimizer", "device", "dtype", "inplace", "size_average", "reduce", "verbose", "last_epoch"}
    hidden |= {"schedulers"}
    named = {name for name, each in signature.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    assert known == {name for name in named - hidden if not name.startswith("_")}
    for parameter in entry.parameters:
        assert (
            parameter.default is signature[parameter.name].default
            or parameter.default == signature[parameter.name].default
        )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_part_accepts_its_own_defaults(entry: Entry) -> None:
    for parameter in entry.parameters:
        if parameter.default is not REQUIRED:
            parameter.check(parameter.default, "here")


def test_recurrent_layers_have_the_parameters_of_their_overload() -> None:
    names = [parameter.name for parameter in catalog.layers()["GRU"].parameters]
    assert names[:7] == ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"]
    gru = catalog.layers()["GRU"].make({"input_size": 3, "hidden_size": 4, "bidirectional": True}, "here")
    assert gru.hidden_size == 4
    assert names[-1] == "returns"
    assert "int" in refusal(catalog.layers()["LSTM"], hidden_size="wide")


def test_documentation_of_a_parameter_is_torchs_own() -> None:
    conv = catalog.layers()["Conv2d"]
    documented = {parameter.name: parameter.doc for parameter in conv.parameters}
    assert documented["kernel_size"].startswith("Size of the convolving kernel")
    assert documented["out_channels"].startswith("Number of channels produced by the convolution")
    assert not any("``" in text or ":math:" in text for text in documented.values())
    assert conv.summary.startswith("Applies a 2D convolution over an input signal")


def test_most_parameters_have_documentation() -> None:
    documented = [bool(parameter.doc) for entry in ENTRIES for parameter in entry.parameters]
    assert sum(documented) > 0.85 * len(documented)


def test_inferred_parameters_need_not_be_given() -> None:
    conv = catalog.layers()["Conv2d"]
    conv.check({"out_channels": 3, "kernel_size": 3}, "here")
    catalog.schedulers()["CosineAnnealingLR"].check({}, "here")
    assert "here.out_channels: Conv2d needs it (Number of channels produced" in refusal(conv, kernel_size=3)


@pytest.mark.parametrize(
    ("kind", "name", "values", "said"),
    [
        ("layer", "Linear", {"out_features": "many"}, "here.out_features: 'many' is not int."),
        ("layer", "Linear", {"out_features": True}, "here.out_features: True is not int."),
        ("layer", "Linear", {"out_features": 3, "bias": "no"}, "here.bias: 'no' is not bool. Try true."),
        ("layer", "Dropout", {"p": "half"}, "here.p: 'half' is not float. Try 0.5."),
        ("layer", "Conv2d", {"out_channels": 3, "kernel_size": [3, 3, 3]}, "here.kernel_size: [3, 3, 3] is not int or"),
        ("layer", "Linear", {"out_feature": 3}, "here.out_feature: is not a parameter of Linear. Did you mean"),
        ("layer", "ReLU", {"slope": 3}, "here.slope: is not a parameter of ReLU. It takes none."),
        ("optimizer", "SGD", {"momentun": 0.9}, "here.momentun: is not a parameter of SGD. Did you mean 'momentum'?"),
        ("optimizer", "AdamW", {"betas": 0.9}, "here.betas: 0.9 is not tuple"),
        ("loss", "CrossEntropyLoss", {"label_smoothing": float("nan")}, "here.label_smoothing: is NaN, which is no"),
        ("optimizer", "SGD", {"nesterov": 1}, "here.nesterov: 1 is not bool. Try false."),
        ("scheduler", "StepLR", {}, "here.step_size: StepLR needs it"),
        ("loss", "CrossEntropyLoss", {"label_smoothing": "x"}, "here.label_smoothing: 'x' is not float. Try 0."),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named_with_a_remedy(kind: str, name: str, values: dict[str, Any], said: str) -> None:
    assert refusal(ALL[kind][name], **values).startswith(said)


@pytest.mark.parametrize("kind", ALL)
def test_a_summary_announces_nothing_that_does_not_follow(kind: str) -> None:
    assert not [entry.name for entry in ALL[kind].values() if entry.summary.endswith(":")]


@pytest.mark.parametrize("kind", ALL)
def test_the_value_that_is_proposed_for_a_wrong_one_is_taken_when_it_is_typed(kind: str) -> None:
    proposed = []
    for parameter in (parameter for entry in ALL[kind].values() for parameter in entry.parameters):
        try:
            parameter.check(object(), "here")
        except RecipeError as error:
            if error.remedy.startswith("Try "):
                proposed.append((parameter, error.remedy.removeprefix("Try ").removesuffix(".")))
    assert len(proposed) > 10
    for parameter, text in proposed:
        parameter.check(parse_value(text), "here")


def test_a_dataset_word_stands_for_a_size_only() -> None:
    catalog.layers()["Linear"].check({"out_features": "classes"}, "here")
    assert "is not bool" in refusal(catalog.layers()["Linear"], out_features=3, bias="classes")


def test_lists_become_tuples() -> None:
    conv = catalog.layers()["Conv2d"].make({"in_channels": 1, "out_channels": 2, "kernel_size": [3, 5]}, "here")
    assert conv.kernel_size == (3, 5)
    weight = nn.Parameter(torch.zeros(1))
    adam = catalog.optimizers()["AdamW"].make({"lr": 0.1, "betas": [0.8, 0.9]}, "here", [weight])
    assert type(adam.defaults["betas"]) is tuple
    assert adam.defaults["betas"] == (0.8, 0.9)


def test_lists_become_tensors_where_torch_wants_them() -> None:
    loss = catalog.losses()["CrossEntropyLoss"]
    loss.check({"weight": [1, 2.5]}, "loss")
    made = loss.make({"weight": [1, 2.5]}, "loss")
    assert torch.equal(made.weight, torch.tensor([1.0, 2.5]))
    assert "is not Tensor" in refusal(loss, weight=["heavy"])
    assert "is not Tensor" in refusal(loss, weight=2.0)


def test_what_torch_refuses_is_said_in_torchs_words() -> None:
    with pytest.raises(
        RecipeError, match="here: Dropout refuses its parameters: dropout probability has to be between"
    ):
        catalog.layers()["Dropout"].make({"p": 2.0}, "here")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"model\.layers\.0\.name: torch has no layer 'Conv2D' .* 'Conv2d'"):
        catalog.find("layer", catalog.layers(), "Conv2D", "model.layers.0")
    with pytest.raises(RecipeError, match="For example"):
        catalog.find("layer", catalog.layers(), "qqqqqqqq", "here")


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


LIGHT = ["engine.recipe", "engine.data.sources", "presets", "engine.errors", "engine.paths", "engine.durations"]


def test_what_the_first_frame_needs_loads_neither_torch_nor_textual() -> None:
    imports = "\n".join(f"import {module}" for module in [*LIGHT, "sys"])
    _run(f"{imports}\nheavy = {{'torch', 'torchvision', 'textual'}} & set(sys.modules)\nassert not heavy, heavy")


def test_the_check_for_heavy_modules_can_fail() -> None:
    with pytest.raises(AssertionError, match="textual"):
        _run("import textual, sys\nheavy = {'torch', 'textual'} & set(sys.modules)\nassert not heavy, heavy")


def test_every_engine_module_imports_without_a_screen() -> None:
    _run(
        """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"textual", "rich", "plotext", "typer", "tui"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import engine
found = [module.name for module in pkgutil.walk_packages(engine.__path__, "engine.")]
assert len(found) > 30, found
for name in found:
    importlib.import_module(name)
"""
    )


def test_a_word_that_is_nearly_one_of_those_that_fit_is_told_which() -> None:
    conv = catalog.layers()["Conv2d"]
    with pytest.raises(RecipeError, match=r"Did you mean 'circular'\?"):
        conv.check({"out_channels": 1, "kernel_size": 3, "padding_mode": "circle"}, "here")
    with pytest.raises(RecipeError, match="Try 'zeros'"):
        conv.check({"out_channels": 1, "kernel_size": 3, "padding_mode": "xxxx"}, "here")
