"""A model from layers, from the zoo or from a person's own file, with a table of what it does to a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.check import check
from engine.data.prepare import Facts
from engine.errors import ModelError, RecipeError, StudioError
from engine.models.build import build_model, model_rows
from engine.models.rows import LayerRow, count_parameters
from engine.recipe import Recipe

DIGITS = Facts((1, 28, 28), 10)
COLOURS = Facts((3, 32, 32), 7)


def recipe(**model: Any) -> Recipe:
    return Recipe.from_values({"data": {"name": "mnist5k"}, "model": model})


def mine(folder: Path, code: str, name: str = "make", **options: Any) -> Recipe:
    file = folder / "net.py"
    file.write_text(f"import torch\nfrom torch import nn\n\n{code}\n", encoding="utf-8")
    return recipe(python=f"{file}:{name}", options=options)


def fault(wanted: Recipe, facts: Facts = DIGITS) -> str:
    with pytest.raises(StudioError) as caught:
        build_model(wanted, facts)
    return str(caught.value)


def agree(wanted: Recipe, facts: Facts) -> list[LayerRow]:
    """The rows of a model, after comparing them with the module run on real numbers."""
    rows = model_rows(wanted, facts)
    model = build_model(wanted, facts).eval()
    output = model(torch.randn(2, *facts.shape))
    assert [row.error for row in rows] == [None] * len(rows)
    assert rows[-1].output == tuple(output.shape[1:])
    assert sum(row.parameters for row in rows if row.outermost) == count_parameters(model)
    return rows


def test_the_head_of_a_zoo_model_gets_the_classes() -> None:
    rows = agree(recipe(zoo="resnet18"), COLOURS)
    assert rows[-1].name == "fc: Linear"
    assert rows[-1].output == (7,)
    assert rows[0].input == (3, 32, 32)


# Beside its children squeezenet flattens, and a vision transformer holds the class token.
@pytest.mark.parametrize(
    ("name", "options"), [("squeezenet1_1", {}), ("mobilenet_v3_small", {}), ("vit_b_32", {"image_size": 32})]
)
def test_rows_of_a_zoo_model_are_the_whole_of_it(name: str, options: dict[str, Any]) -> None:
    assert agree(recipe(zoo=name, options=options), COLOURS)[-1].output == (7,)


def test_zoo_options_reach_torchvision() -> None:
    narrow = build_model(recipe(zoo="resnet18", options={"width_per_group": 64, "num_classes": 3}), COLOURS)
    assert isinstance(narrow.fc, nn.Linear)
    assert narrow.fc.out_features == 3


def test_an_unknown_zoo_model_names_the_nearest() -> None:
    assert fault(recipe(zoo="resnet81")) == (
        "model.zoo: torchvision has no classification model 'resnet81'. Did you mean 'resnet18'?"
    )


def test_options_that_a_zoo_model_refuses_are_named() -> None:
    assert fault(recipe(zoo="resnet18", options={"depth": 3})).startswith("model.options: resnet18 refuses them:")


def test_a_zoo_model_on_samples_it_cannot_take_says_so() -> None:
    row = model_rows(recipe(zoo="vgg11"), DIGITS)[-1]
    assert "vgg11 fails on samples of 1×28×28" in str(row.error)
    assert 'It takes 32×32 and more: data.transforms = [{ name = "Resize", size = [32, 32] }].' in str(row.error)


def test_a_recipe_without_a_model_says_so() -> None:
    assert fault(recipe()) == "model: has no layers. Add one, or set zoo or python."
    assert isinstance(model_rows(recipe(), DIGITS)[0].error, RecipeError)


CLASS = """
class make(nn.Sequential):
    def __init__(self, outputs):
        super().__init__(nn.Flatten(), nn.Linear(784, outputs))"""
MLP = "nn.Sequential(nn.Flatten(), nn.Linear({inputs}, {outputs}))"


@pytest.mark.parametrize(
    "code",
    [
        f"def make(): return {MLP.format(inputs=784, outputs=10)}",
        f"def make(shape, outputs): return {MLP.format(inputs='shape[0] * shape[1] * shape[2]', outputs='outputs')}",
        f"def make(classes): return {MLP.format(inputs=784, outputs='classes')}",
        f"def make(*arguments, **options): return {MLP.format(inputs=784, outputs=10)}",
        CLASS,
    ],
    ids=["nothing", "shape and outputs", "classes", "anything", "class"],
)
def test_a_persons_function_is_given_what_its_signature_names(tmp_path: Path, code: str) -> None:
    assert agree(mine(tmp_path, code), DIGITS)[-1].output == (10,)


def test_options_reach_a_persons_function_and_win(tmp_path: Path) -> None:
    wanted = mine(tmp_path, "def make(outputs, width): return nn.Linear(width, outputs)", outputs=3, width=5)
    model = build_model(wanted, DIGITS)
    assert isinstance(model, nn.Linear)
    assert model.weight.shape == (3, 5)


# What functional code does after the last child, or a child inside a ModuleList, has no row of its own.
OWN_FORWARD = {
    "mean after the last child": """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 3)
    def forward(self, x): return self.conv(x).mean((2, 3))""",
    "a recurrent child, a list and a parameter of its own": """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(28, 8, batch_first=True)
        self.heads = nn.ModuleList([nn.Linear(8, 10)])
        self.scale = nn.Parameter(torch.ones(10))
    def forward(self, x):
        states, last = self.rnn(x[:, 0])
        return self.heads[0](states[:, -1]) * self.scale""",
    "no children at all": """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(784, 10))
    def forward(self, x): return x.flatten(1) @ self.weight""",
    "numbers that the meta device lacks": """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.fc = nn.Linear(784, 10)
    def forward(self, x): return self.fc(x.flatten(1)) if float(x.sum()) < 1e9 else None""",
}


@pytest.mark.parametrize("code", OWN_FORWARD.values(), ids=OWN_FORWARD)
def test_a_model_with_its_own_forward_is_described_and_checked(tmp_path: Path, code: str) -> None:
    wanted = mine(tmp_path, code)
    agree(wanted, DIGITS)
    assert check(wanted).problems == ()


def test_looking_at_a_persons_model_leaves_the_random_state_alone(tmp_path: Path) -> None:
    wanted = mine(tmp_path, OWN_FORWARD["numbers that the meta device lacks"])
    before = torch.get_rng_state()
    model_rows(wanted, DIGITS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def make(): raise KeyError('depth')", "net.py:4: make fails: KeyError: 'depth'."),
        ("def make(): raise SystemExit(3)", "net.py:4: make fails: SystemExit: 3."),
        ("def make(shape, depth): pass", "model.options: make: missing a required argument: 'depth'. It takes depth."),
        ("def make(): return nn.Sequential(nn.LazyLinear(8))", "model.python: returned lazy layers: 0.weight has no"),
        ("def make(): return 7", "model.python: returned an int. Return a torch.nn.Module."),
        ("def make(): return nn.Linear", "model.python: returned a type. Return a torch.nn.Module."),
        ("def build(): pass", "has no function 'make'. Check the name after the colon."),
        ("make = 3", "has no function 'make'"),
    ],
)
def test_a_function_that_gives_no_model_is_named(tmp_path: Path, code: str, said: str) -> None:
    assert said in fault(mine(tmp_path, code))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def make(:\n    pass", "net.py:4: SyntaxError"),
        ("x = 1\nraise SystemExit(4)", "net.py:5: SystemExit: 4"),
        ("import nowhere_to_be_found", "net.py:4: ModuleNotFoundError"),
        ("def inner():\n    return 1 / 0\n\ninner()", "net.py:5: ZeroDivisionError"),
        ("raise SyntaxError('by hand')", "net.py:4: SyntaxError: by hand"),
    ],
)
def test_a_file_that_does_not_run_is_named_with_its_line(tmp_path: Path, code: str, said: str) -> None:
    assert said in fault(mine(tmp_path, code))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("/nowhere/net.py:make", "there is no file /nowhere/net.py. Check the path"),
        ("net.py", "'net.py' does not name a function. Write \"path/to/file.py:function\"."),
        ("net.py:", "does not name a function"),
        ("net.py:a b", "does not name a function"),
        ("\0:make", "there is no file"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(reference: str, said: str) -> None:
    assert said in fault(recipe(python=reference))


def test_a_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0\1")
    assert "is not a Python file" in fault(recipe(python=f"{tmp_path}/weights.bin:make"))


def test_a_model_that_fails_on_a_sample_is_a_row_with_an_error(tmp_path: Path) -> None:
    wanted = mine(tmp_path, "def make(): return nn.Sequential(nn.Flatten(), nn.Linear(5, 10))")
    rows = model_rows(wanted, DIGITS)
    assert [row.output for row in rows] == [(784,), None]
    assert isinstance(rows[-1].error, ModelError)
    assert "Sequential fails on samples of 1×28×28" in str(rows[-1].error)


def test_a_model_that_returns_no_tensor_is_named(tmp_path: Path) -> None:
    code = (
        "class make(nn.Linear):\n    def __init__(self): super().__init__(28, 10)\n    def forward(self, x): return {}"
    )
    assert "make returns a dict while it trains" in str(model_rows(mine(tmp_path, code), DIGITS)[-1].error)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("x[:1]", "make gives 1 row for 2 samples. Return one for each, in their order."),
        ("x.repeat(2, 1)", "make gives 4 rows for 2 samples."),
        ("x.to(torch.complex64)", "make gives numbers of complex64, and a loss takes real ones."),
        ("x.long()", "make gives numbers of int64, and a loss takes real ones."),
        ("x.detach()", "no gradient leads from what make returns to its weights. Leave out detach(), no_grad() and"),
    ],
)
def test_a_model_whose_output_no_loss_can_train_is_named(tmp_path: Path, given: str, said: str) -> None:
    code = f"""
class make(nn.Linear):
    def __init__(self): super().__init__(784, 10)
    def forward(self, x):
        x = super().forward(x.flatten(1))
        return {given}"""
    assert said in str(model_rows(mine(tmp_path, code), DIGITS)[-1].error)


@pytest.mark.parametrize(
    "forward",
    [
        "return x.sum() * torch.zeros(len(x), 10) if not x.any() else self.layer(x)",
        "return Heads(self.layer(x).detach(), self.layer(x))",
    ],
)
def test_a_model_that_only_some_samples_or_a_head_beside_it_train_is_not_refused(tmp_path: Path, forward: str) -> None:
    code = f"""
from typing import NamedTuple
class Heads(NamedTuple):
    out: torch.Tensor
    beside: torch.Tensor
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
    def forward(self, x):
        x = x.flatten(1)
        {forward}"""
    assert not [row.error for row in model_rows(mine(tmp_path, code), DIGITS) if row.error]


def test_a_changed_file_is_run_anew(tmp_path: Path) -> None:
    wanted = mine(tmp_path, "def make(): return nn.Linear(28, 3)")
    build_model(wanted, DIGITS)
    mine(tmp_path, "def make(): return nn.Linear(28, 10_000)")
    model = build_model(wanted, DIGITS)
    assert isinstance(model, nn.Linear)
    assert model.out_features == 10_000


def test_a_persons_engine_py_does_not_break_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "engine.py").write_text(
        "from torch import nn\n\ndef make(): return nn.Linear(2, 2)\n", encoding="utf-8"
    )
    assert isinstance(build_model(recipe(python="engine.py:make"), DIGITS), nn.Linear)
    import engine.recipe

    assert engine.recipe.Recipe is Recipe


def test_a_model_that_catches_what_one_of_its_modules_raises_is_shown_as_it_goes_on(tmp_path: Path) -> None:
    code = """class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.odd, self.even = nn.Linear(3, 3), nn.Linear(784, 7)
    def forward(self, x):
        x = x.flatten(1)
        try:
            return self.odd(x)
        except RuntimeError:
            return self.even(x)
"""
    rows = model_rows(mine(tmp_path, code, "Net"), DIGITS)
    assert [(row.name, row.path) for row in rows[:2]] == [("odd: Linear", (0,)), ("even: Linear", (1,))]
    assert [row.output for row in rows[:2]] == [None, (7,)]
