"""The changes from one recipe to another, made in the text of the first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import RecipeError
from engine.recipe.document.differences import matches, same
from engine.recipe.document.inline import dropped, edited, key_text, rendered
from engine.recipe.document.statements import Address, Block, Statement, blocks_of, text_of
from engine.recipe.recipe import Recipe, named_paths, plain

_ORDER = {key: place for place, key in enumerate(Recipe.model_fields)}


def updated(text: str, before: Recipe, after: Recipe, folder: Path | None = None) -> str:
    """`text`, which reads as `before`, changed so that it reads as `after`: only what differs is written.

    Comments, order, blank lines and spelling of all else stay byte for byte; a layer that moves takes its comments
    along, one that goes takes them away. `folder` is where the file lies: Python files in it are written as seen from
    there.
    """
    ours, theirs, brief = _values(before, folder), _values(after, folder), _values(after, folder, exclude_defaults=True)
    if same(ours, theirs):
        return text
    document = _Document(text)
    document.table((), ours, theirs, brief)
    changed = document.text()
    if _reads_as(changed, after, folder):
        return changed
    # Written in a way that can't be changed in its place, such as dotted keys beside headers: no setting may be lost.
    return _opening(text) + fresh(after, folder)


def fresh(recipe: Recipe, folder: Path | None = None) -> str:
    """A recipe as TOML in the manner of those that ship: without what is a default anyway."""
    values, brief = _values(recipe, folder), _values(recipe, folder, exclude_defaults=True)
    document = _Document("")
    document.table((), {}, {key: values[key] for key in brief}, brief)
    return document.text()


class _Document:
    """The blocks of a file while it is changed."""

    def __init__(self, text: str) -> None:
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._blocks = blocks_of(text)

    def text(self) -> str:
        return text_of(self._blocks, self._newline)

    def table(self, at: Address, before: Mapping[str, Any], after: Mapping[str, Any], brief: Mapping[str, Any]) -> None:
        """Make the table at `at`, which holds `before`, hold `after`; `brief` is that without defaults."""
        for key in {**before, **after}:
            if key in before and key in after and same(before[key], after[key]):
                continue
            here = (*at, key)
            gone = dropped(key, after, brief)
            value = None if gone else after[key]
            shorter = brief.get(key, {} if isinstance(value, dict) else value)
            found = self._statement(here)
            if found is not None and not gone:
                found.put(edited(found.value, before.get(key), value, shorter))
            elif self._within((*here, 0)) and isinstance(value, list) and value and _all_tables(value):
                self._array(here, before[key], value, shorter)
            elif self._is_there(here) and isinstance(value, dict):
                self.table(here, before[key], value, shorter)
            else:
                self._remove(here)
                if not gone:
                    named = isinstance(value, dict) and value.get("name")
                    self._insert(at, key, {"name": named, **shorter} if named else shorter)

    def _array(self, at: Address, before: Sequence[Any], after: Sequence[Any], brief: Sequence[Any]) -> None:
        """Change, insert, remove and move the tables of an array, each with its comments."""
        found = matches(before, after)
        for place, was in enumerate(found):
            if was is not None:
                self.table((*at, was), before[was], after[place], brief[place])
        if found == list(range(len(before))):
            return
        groups = [self._within((*at, was)) for was in range(len(before))]
        heads = [group[0] for group in groups]
        first, later = heads[0].gap, heads[1].gap if len(heads) > 1 else ""
        position = self._place(heads[0])
        kept: list[Block] = []
        for place, was in enumerate(found):
            group = groups[was] if was is not None else self._made((*at, place), brief[place], heads[0].indent)
            if place == 0:
                group[0].gap = first
            elif not was:  # new, or the first no more
                group[0].gap = later
            kept += group
        old = [block for group in groups for block in group]
        apart = [block for block in old if block is old[-1] or not any(block is other for other in kept)]
        tail = "".join(block.tail for block in apart)
        for block in apart:
            block.tail = ""
        kept[-1].tail += tail
        self._take_out(old)
        self._blocks[position:position] = kept

    def _insert(self, at: Address, key: str, value: Any) -> None:
        """Write a key that is not there."""
        if key == "layers" and isinstance(value, list) and _all_tables(value) and self._may_have_headers(at):
            indent = next((block.indent for block in self._within(at)), "")
            made = [block for n, item in enumerate(value) for block in self._made((*at, key, n), item, indent)]
            self._add_blocks(at, made)
        elif not at and isinstance(value, dict):
            self._add_blocks((key,), self._made((key,), value, ""))
        else:
            self._add_line(at, key, value)

    def _add_line(self, at: Address, key: str, value: Any) -> None:
        block = next((block for block in self._blocks if block.address == at), None)
        if block is None:
            block, dotted = self._dotted(at)
            if block is not None and dotted is not None:  # `split.train = 0.8`
                path = (*dotted.path[: len(at) - len(block.address)], key)
                place = next(n for n, each in enumerate(block.body) if each is dotted) + 1
                block.body.insert(place, self._line(path, value, _indent(dotted.text)))
                return
            block = Block(at, f"[{_dotted(at)}]{self._newline}", self._newline)
            inside = self._within(at)
            if inside:
                self._blocks.insert(self._place(inside[0]), block)
            else:
                self._add_blocks(at, [block])
        keys = [n for n, each in enumerate(block.body) if each.path]
        indent = _indent(block.body[keys[-1]].text) if keys else block.indent
        place = 0 if key == "name" else keys[-1] + 1 if keys else len(block.body)
        block.body.insert(place, self._line((key,), value, indent))
        if not keys and not block.header and len(self._blocks) > 1:
            self._blocks[1].gap = self._blocks[1].gap or self._newline

    def _add_blocks(self, at: Address, made: list[Block]) -> None:
        """Put new blocks below those of the same table, else where the recipe's order has their section."""
        inside = self._within(at)
        if inside:
            place = self._place(inside[-1]) + 1
        else:
            rank = _ORDER.get(str(at[0]), len(_ORDER))
            above = [n for n, block in enumerate(self._blocks) if not block.address or _rank(block) <= rank]
            place = above[-1] + 1
        if len(at) == 1 and made[0].gap == "" and text_of(self._blocks[:place], self._newline):
            made[0].gap = self._newline
        tail, made[-1].tail = self._blocks[place - 1].tail, ""
        if inside:  # what stands apart from the table stays below it
            self._blocks[place - 1].tail, made[-1].tail = "", tail
        self._blocks[place:place] = made

    def _made(self, address: Address, values: Mapping[str, Any], indent: str) -> list[Block]:
        """The blocks of a new table, the layers inside it under headers of their own."""
        inner = values.get("layers")
        nested = inner if isinstance(inner, list) and inner and _all_tables(inner) else []
        brackets = ("[[", "]]") if isinstance(address[-1], int) else ("[", "]")
        header = f"{indent}{brackets[0]}{_dotted(address)}{brackets[1]}{self._newline}"
        lines = [self._line((k,), v, indent) for k, v in values.items() if not (nested and k == "layers")]
        made = [Block(address, header, body=lines)]
        for number, item in enumerate(nested):
            made += self._made((*address, "layers", number), item, indent)
        if not lines and nested and isinstance(address[-1], str):
            del made[0]  # `[[model.layers]]` needs no `[model]` above it
        return made

    def _line(self, path: tuple[str, ...], value: Any, indent: str) -> Statement:
        key = indent + ".".join(map(key_text, path)) + " = "
        text = rendered(value).replace("\n", self._newline)
        return Statement(f"{key}{text}{self._newline}", path, len(key), len(key) + len(text))

    def _remove(self, at: Address) -> None:
        """Take a key or table out, wherever its parts stand."""
        for block in self._blocks:
            left = [each for each in block.body if not each.path or not _begins(block.address + each.path, at)]
            if block.body and not left and self._is_superfluous(block):
                after = self._blocks[self._place(block) + 1]
                after.gap = block.gap
                self._take_out([block])
            block.body = left
        gone = self._within(at)
        for block in gone:
            self._blocks[self._place(block) - 1].tail += block.tail
            self._take_out([block])

    def _is_superfluous(self, block: Block) -> bool:
        """Whether a header says nothing once its keys are gone: `[model]` right above `[[model.layers]]`."""
        at, following = block.address, self._blocks[self._place(block) + 1 :]
        bare = bool(at) and isinstance(at[-1], str) and not block.lead and not block.tail
        return bare and bool(following) and following[0].address != at and _begins(following[0].address, at)

    def _take_out(self, gone: Sequence[Block]) -> None:
        self._blocks = [block for block in self._blocks if not any(block is each for each in gone)]

    def _place(self, wanted: Block) -> int:
        return next(place for place, block in enumerate(self._blocks) if block is wanted)

    def _within(self, at: Address) -> list[Block]:
        return [block for block in self._blocks if _begins(block.address, at)]

    def _statement(self, at: Address) -> Statement | None:
        lines = (each for block in self._blocks for each in block.body if each.path and block.address + each.path == at)
        return next(lines, None)

    def _dotted(self, at: Address) -> tuple[Block, Statement] | tuple[None, None]:
        """The last line of a table that is written with dotted keys, and the block that it stands in."""
        lines = [(b, each) for b in self._blocks for each in b.body if each.path and _begins(b.address + each.path, at)]
        return lines[-1] if lines else (None, None)

    def _is_there(self, at: Address) -> bool:
        return bool(self._within(at)) or self._dotted(at)[0] is not None

    def _may_have_headers(self, at: Address) -> bool:
        return self._dotted(at)[0] is None or any(block.address == at for block in self._blocks)


def _begins(address: Sequence[str | int], at: Address) -> bool:
    return tuple(address[: len(at)]) == at


def _rank(block: Block) -> int:
    return _ORDER.get(str(block.address[0]), len(_ORDER))


def _dotted(address: Address) -> str:
    return ".".join(key_text(key) for key in address if isinstance(key, str))


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _all_tables(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def _opening(text: str) -> str:
    """The comments at the top of a file."""
    lines = text.splitlines(keepends=True)
    end = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:end])


def _values(recipe: Recipe, folder: Path | None, *, exclude_defaults: bool = False) -> dict[str, Any]:
    """Plain values; paths inside `folder` as seen from there."""
    values: dict[str, Any] = plain(
        recipe.model_dump(mode="python", exclude_none=True, exclude_defaults=exclude_defaults)
    )
    if folder is not None:
        for section, key, path, rest in named_paths(values):
            relative = os.path.relpath(path, folder)
            if os.path.isabs(path) and not relative.startswith(os.pardir):
                section[key] = relative + rest
    return values


def _reads_as(text: str, recipe: Recipe, folder: Path | None) -> bool:
    try:
        back = Recipe.from_toml(text, folder=folder)
    except RecipeError:
        return False
    return same(_values(back, folder), _values(recipe, folder))
