"""Classes and functions taken over into an exported file as they stand in ours, with all that they need."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

# Where a file's own classes and functions are taken from.
PLAIN = ("engine.export.taken.plain", "engine.models.sequences", "engine.models.columns")
PADDED = ("engine.export.taken.padded", "engine.models.blocks", "engine.models.sequences")
FUNCTIONS = ("engine.export.taken.plain", "engine.optim.optimizers", "engine.devices.device")
# How a name comes into a file: the module, and the name there; an empty one is the module itself.
_IMPORTS = {
    "argparse": ("argparse", ""),
    "copy": ("copy", ""),
    "math": ("math", ""),
    "os": ("os", ""),
    "random": ("random", ""),
    "sys": ("sys", ""),
    "importlib": ("importlib.util", ""),
    "Callable": ("collections.abc", "Callable"),
    "Iterable": ("collections.abc", "Iterable"),
    "Iterator": ("collections.abc", "Iterator"),
    "Sequence": ("collections.abc", "Sequence"),
    "cache": ("functools", "cache"),
    "Path": ("pathlib", "Path"),
    "Any": ("typing", "Any"),
    "Literal": ("typing", "Literal"),
    "np": ("numpy", " as np"),
    "torch": ("torch", ""),
    "F": ("torch.nn.functional", " as F"),
    "Tensor": ("torch", "Tensor"),
    "nn": ("torch", "nn"),
    "clip_grad_norm_": ("torch.nn.utils", "clip_grad_norm_"),
    "clip_grad_value_": ("torch.nn.utils", "clip_grad_value_"),
    "pack_padded_sequence": ("torch.nn.utils.rnn", "pack_padded_sequence"),
    "pad_packed_sequence": ("torch.nn.utils.rnn", "pad_packed_sequence"),
    "lr_scheduler": ("torch.optim", "lr_scheduler"),
    "datasets": ("torchvision", "datasets"),
    "models": ("torchvision", "models"),
    "interpolate_embeddings": ("torchvision.models.vision_transformer", "interpolate_embeddings"),
    "v2": ("torchvision.transforms", "v2"),
}
_THIRD = ("numpy", "torch", "torchvision")
_FOR_CHECKERS = re.compile(r"  # type: ignore\[[^]]*\].*$", re.MULTILINE)
_DOC_OF_TORCH = re.compile(r"^    __doc__ = .*\n", re.MULTILINE)


def pieces(names: Iterable[str], modules: Sequence[str]) -> list[str]:
    """The source of `names` and of what they need, which stands first; each is taken from the first module that has it.

    The modules are read, not imported. Comments for type checkers are left out.
    """
    known: dict[str, tuple[str, set[str]]] = {}
    for module in modules:
        for name, source, needs in _definitions(_source(module)):
            known.setdefault(name, (source, needs))
    found: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in known or name in found:
            return
        source, needs = known[name]
        found[name] = ""  # two that need each other: the first stays first
        for need in sorted(needs - {name}):
            add(need)
        found[name] = found.pop(name) or source

    for name in names:
        add(name)
    return list(found.values())


def imports(source: str) -> list[str]:
    """The lines that import what `source` uses, in isort's order."""
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    modules, names = set[str](), dict[str, list[str]]()
    for name in sorted(used & set(_IMPORTS)):
        module, inside = _IMPORTS[name]
        if inside and not inside.startswith(" "):
            names.setdefault(module, []).append(inside)
        else:
            modules.add(f"{module}{inside}")
    lines: list[str] = []
    for third in (False, True):
        whole = [f"import {each}" for each in sorted(modules) if _is_third(each) is third]
        parts = [f"from {each} import {', '.join(names[each])}" for each in sorted(names) if _is_third(each) is third]
        lines += ([""] if lines and (whole or parts) else []) + whole + parts
    return lines


def _is_third(module: str) -> bool:
    return module.partition(" ")[0].partition(".")[0] in _THIRD


def _source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _definitions(source: str) -> Iterator[tuple[str, str, set[str]]]:
    """(name, its source, the names that it uses) for each class, function and value of a module."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            name = node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        else:
            continue
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        text = "\n".join(lines[first - 1 : node.end_lineno])
        text = _DOC_OF_TORCH.sub("", _FOR_CHECKERS.sub("", text))
        used = {each.id for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Name)}
        yield name, text, used
