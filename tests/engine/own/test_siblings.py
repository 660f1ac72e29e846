"""A project of a person's own: its modules find one another first, whatever they are called, and nobody else does."""

from __future__ import annotations

import inspect
import pickle
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import run_python

import engine
import engine.recipe
from engine.errors import RecipeError
from engine.python_file import load_function, loaded_anew, reload


def project(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def run(folder: Path, text: str, **siblings: str) -> Any:
    """What the function `make` of a `net.py` with `text` returns; `siblings` are files, `name=text`."""
    project(folder, {"net.py": text, **{f"{name}.py": content for name, content in siblings.items()}})
    return load_function(f"{folder}/net.py:make", "model.python")()


@pytest.mark.parametrize(
    "statement",
    [
        "import engine\ndef make(): return engine.NAME",
        "from engine import NAME\ndef make(): return NAME",
        "from engine import *\ndef make(): return NAME",
        "def make():\n    import engine as mine\n    return mine.NAME",
        "import importlib\ndef make(): return importlib.import_module('engine').NAME",
        "from importlib import import_module\ndef make(): return import_module('engine').NAME",
        "def make(): return __import__('engine').NAME",
        "def make():\n    exec('import engine', globals())\n    return engine.NAME",
    ],
)
def test_an_engine_py_of_ones_own_is_found_before_ours(tmp_path: Path, statement: str) -> None:
    before = list(sys.path)

    assert run(tmp_path, statement, engine="NAME = 'theirs'") == "theirs"

    assert sys.modules["engine"] is engine
    assert sys.path == before
    assert str(tmp_path) not in sys.path


def test_without_a_file_of_that_name_it_is_ours(tmp_path: Path) -> None:
    text = "from engine.recipe import Recipe\nimport engine.recipe\ndef make(): return Recipe, engine.recipe"

    assert run(tmp_path, text) == (engine.recipe.Recipe, engine.recipe)


def test_packages_find_their_own_modules_and_those_beside_them(tmp_path: Path) -> None:
    text = """
        import nets.blocks as blocks
        import nets.blocks
        from nets import NAME, deep
        from tui import x
        def make(): return nets.blocks is blocks, NAME, deep.up.NAME, deep.beside.NAME, x.NAME
    """
    files = {
        "nets/__init__.py": "from .blocks import NAME",
        "nets/blocks.py": "NAME = 'block'",
        "nets/deep/__init__.py": "from .. import blocks as up\nimport beside",
        "beside.py": "NAME = 'beside'",
        "tui/x.py": "NAME = 'in a folder without __init__.py'",
    }

    assert run(project(tmp_path, files), text) == (True, "block", "block", "beside", "in a folder without __init__.py")


def test_a_file_inside_a_package_imports_relatively(tmp_path: Path) -> None:
    assert run(tmp_path, "from .blocks import NAME\ndef make(): return NAME", blocks="NAME = 3") == 3


def test_siblings_that_import_each_other_both_load(tmp_path: Path) -> None:
    text = "import a\ndef make(): return a.name()"

    assert run(tmp_path, text, a="import b\ndef name(): return b.NAME", b="import a\nNAME = 'b'") == "b"


def test_the_file_itself_and_a_sibling_that_imports_it_have_one_module(tmp_path: Path) -> None:
    text = "class Block: pass\ndef make():\n    import other\n    return other.Block is Block"

    assert run(tmp_path, text, other="from net import Block") is True


def test_what_is_for_the_script_alone_is_not_run(tmp_path: Path) -> None:
    assert run(tmp_path, "NAME = 1\nif __name__ == '__main__':\n    NAME = 2\ndef make(): return NAME") == 1


class TestShadowing:
    """As when Python runs the file: its folder comes before the libraries, after what is built in."""

    def test_a_sibling_comes_before_a_library_and_only_the_project_sees_it(self, tmp_path: Path) -> None:
        text = "import colorsys, torchvision\ndef make(): return colorsys.NAME, torchvision.NAME"
        files = {"colorsys": "NAME = 'theirs'", "torchvision": "NAME = 'theirs too'"}

        assert run(tmp_path, text, **files) == ("theirs", "theirs too")

        import colorsys

        assert hasattr(colorsys, "rgb_to_hsv")

    @pytest.mark.parametrize("name", ["sys", "time", "os"])
    def test_what_python_finds_before_any_folder_stays(self, tmp_path: Path, name: str) -> None:
        text = f"import {name}\ndef make(): return {name}"

        assert run(tmp_path, text, **{name: "raise RuntimeError"}) is sys.modules[name]

    def test_a_folder_of_data_does_not_hide_a_library(self, tmp_path: Path) -> None:
        project(tmp_path, {"torch/weights.txt": "", "data/more.py": "NAME = 'theirs'"})
        text = "import torch, data.more\ndef make(): return torch, data.more.NAME"

        assert run(tmp_path, text) == (torch, "theirs")


def test_two_projects_have_files_of_one_name(tmp_path: Path) -> None:
    text = "from blocks import NAME\ndef make(): return NAME"

    assert [run(project(tmp_path / name, {}), text, blocks=f"NAME = '{name}'") for name in ("one", "two")] == [
        "one",
        "two",
    ]


@pytest.mark.parametrize("name", ["net.v2.py", "my-net.py"])
def test_a_file_whose_name_is_no_modules_loads(tmp_path: Path, name: str) -> None:
    project(tmp_path, {name: "from b import NAME\ndef make(): return NAME", "b.py": "NAME = 4"})

    assert load_function(f"{tmp_path}/{name}:make", "model.python")() == 4


def test_a_file_beside_a_package_of_its_name_is_the_file(tmp_path: Path) -> None:
    files = {"net/__init__.py": "NAME = 5", "net.py": "import net\ndef make(): return net.NAME"}

    assert load_function(f"{project(tmp_path, files)}/net.py:make", "model.python")() == 5


def test_what_looks_a_module_up_by_its_name_finds_it(tmp_path: Path) -> None:
    text = """
        from __future__ import annotations
        import dataclasses, inspect, typing
        from blocks import Width

        @dataclasses.dataclass
        class Net:
            width: Width
            deep: typing.ClassVar[int] = 2

        def make():
            return typing.get_type_hints(Net)["width"] is Width, inspect.getsource(Net), Net(Width(3))
    """
    resolved, source, net = run(tmp_path, text, blocks="class Width(int): pass")

    assert resolved
    assert source.startswith("@dataclasses.dataclass\nclass Net:")
    assert inspect.getsourcefile(type(net)) == str(tmp_path / "net.py")
    assert pickle.loads(pickle.dumps(net)) == net


def test_a_model_of_siblings_compiles(tmp_path: Path) -> None:
    text = """
        import torch
        import blocks
        from blocks import half
        class make(torch.nn.Module):
            def forward(self, x):
                return half(x) + blocks.ONE
    """
    model = run(tmp_path, text, blocks="ONE = 1\ndef half(x): return x / 2")

    assert torch.compile(model, backend="eager", fullgraph=True)(torch.ones(2)).tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("text", "blocks", "said"),
    [
        ("import blocks.no", "", "net.py:1: ModuleNotFoundError: No module named 'blocks.no'"),
        ("from blocks import no", "", "net.py:1: ImportError: cannot import name 'no' from 'blocks' ("),
        ("import blocks", "x = 1\nx / 0", "blocks.py:2: ZeroDivisionError: division by zero."),
        ("import blocks", "x = 1\nx = =", "blocks.py:2: SyntaxError: invalid syntax"),
        ("import blocks", "def f():\n    raise SystemExit(3)\nf()", "blocks.py:2: SystemExit: 3."),
        ("import blocks", "import json\njson.loads('?')", "blocks.py:2: JSONDecodeError: Expecting value"),
    ],
)
def test_a_sibling_that_fails_is_named_with_its_line(
    tmp_path: Path, text: str, blocks: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(RecipeError) as caught:
        run(tmp_path, text, blocks=blocks)

    assert str(caught.value).startswith(f"model.python: {said}")
    assert "\n" not in str(caught.value)


class TestReload:
    TEXT = "from blocks import NAME\ndef make(): return NAME"

    def test_an_edited_sibling_is_run_anew(self, tmp_path: Path) -> None:
        # Of one size and within one tick of the file system's clock.
        assert [run(tmp_path, self.TEXT, blocks=f"NAME = {number}") for number in range(5)] == [0, 1, 2, 3, 4]

    def test_a_file_that_was_missing_is_found_once_it_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="No module named 'blocks'"):
            run(tmp_path, self.TEXT)

        assert run(tmp_path, self.TEXT, blocks="NAME = 1") == 1

    def test_what_did_not_change_is_not_run_again(self, tmp_path: Path) -> None:
        text = "import blocks\ndef make(): return blocks"

        assert run(tmp_path, text, blocks="") is run(tmp_path, text, blocks="")
        assert run(tmp_path, text, blocks="") is not run(tmp_path, text, blocks="\n")

    def test_on_request_all_is_run_anew_and_what_changed_is_told(self, tmp_path: Path) -> None:
        reload()
        text = "import blocks\ndef make(): return blocks"
        before = run(tmp_path, text, blocks="")

        assert reload() == []
        assert run(tmp_path, text, blocks="") is not before
        (tmp_path / "blocks.py").write_text("x = 1", encoding="utf-8")
        assert reload() == [tmp_path / "blocks.py"]

    def test_a_training_runs_all_anew_and_keeps_it_importable_to_its_end(self, tmp_path: Path) -> None:
        text = (
            "class Net: pass\ndef late():\n    from blocks import NAME\n    return NAME\ndef make(): return Net, late"
        )
        before, _ = run(tmp_path, text, blocks="NAME = 1")
        with loaded_anew():
            net, late = run(tmp_path, text, blocks="NAME = 1")
            assert net is not before
            again, _ = run(tmp_path, text + "\n\n", blocks="NAME = 2")  # edited while it trains
            assert again is not net
            assert pickle.loads(pickle.dumps(net)) is net
            (tmp_path / "blocks.py").write_text("NAME = 1", encoding="utf-8")
            assert late() == 1
        with pytest.raises(pickle.PicklingError):
            pickle.dumps(net)


def test_a_worker_unpacks_what_was_run_here_whatever_stands_in_the_files_by_now(tmp_path: Path) -> None:
    text = "from net_base import Base\nclass Data(Base): pass\ndef make(): return Data()"
    packed = tmp_path / "packed"
    code = """
        import pickle, sys
        from pathlib import Path
        from engine.python_file import Packed, load_function
        Path(sys.argv[1]).write_bytes(pickle.dumps(Packed(load_function(sys.argv[2] + "/net.py:make", "here")())))
    """
    files = {"net.py": text, "net_base.py": "class Base:\n    def name(self): return 'as it was'"}
    folder = project(tmp_path / "mine", files)
    assert run_python(textwrap.dedent(code), str(packed), str(folder)).returncode == 0
    (folder / "net_base.py").write_text("1 / 0", encoding="utf-8")

    read = "import pickle, sys\nprint(pickle.loads(open(sys.argv[1], 'rb').read()).value.name())"
    assert run_python(read, str(packed)).stdout == "as it was\n"
