"""TOML as statements: where each key's value stands in the text, and which comments belong to which table.

The text has been read as TOML before: what is not TOML is not looked for here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Address = tuple[str | int, ...]
"""The way to a table, a place in an array of tables being a number: ("model", "layers", 2)."""

TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|\n"
    r"|[^\S\n]+"
    r"|[\[\]{},=]"
    r"|[^\s\[\]{},=\"'\#]+",
    re.DOTALL,
)


@dataclass
class Statement:
    """A `key = value` with its line's comment, or a comment or blank line, which has no `path`."""

    text: str
    path: tuple[str, ...] = ()
    start: int = 0
    end: int = 0

    @property
    def value(self) -> str:
        """The value's own text."""
        return self.text[self.start : self.end]

    def put(self, value: str) -> None:
        """Write another value; the key, the spaces and the comment stay."""
        self.text = self.text[: self.start] + value + self.text[self.end :]
        self.end = self.start + len(value)


@dataclass
class Block:
    """A header and all up to the next one; the first block of a file has none.

    `gap` is the blank lines above the header, `lead` the comments that stand right above it, `tail` what stands apart
    from both this block and the next.
    """

    address: Address
    header: str = ""
    gap: str = ""
    lead: str = ""
    body: list[Statement] = field(default_factory=list)
    tail: str = ""

    @property
    def indent(self) -> str:
        """The spaces before the header."""
        return self.header[: len(self.header) - len(self.header.lstrip())]


def blocks_of(text: str) -> list[Block]:
    """The blocks of a file, in its order; the first is that of the keys without a header, be there any or none."""
    found = [Block(())]
    counts: dict[Address, int] = {}
    loose: list[str] = []  # comments and blank lines since the last key
    for statement in statements(text):
        last = found[-1]
        if statement.path:
            last.body += [Statement(line) for line in loose]
            last.body.append(statement)
            loose = []
        elif statement.text.lstrip().startswith("["):
            own, last.tail, gap, lead = _shared_out(loose)
            last.body += [Statement(line) for line in own]
            found.append(Block(_address(statement, counts), statement.text, gap, lead))
            loose = []
        else:
            loose.append(statement.text)
    own, tail, gap, lead = _shared_out([*loose, "\n"])  # as if a blank line followed: nothing belongs to a next header
    found[-1].body += [Statement(line) for line in own]
    found[-1].tail = (tail + gap + lead).removesuffix("\n")
    return found


def text_of(blocks: Iterable[Block], newline: str) -> str:
    """The text of a file."""
    text = ""
    for block in blocks:
        for piece in (block.gap, block.lead, block.header, *(statement.text for statement in block.body), block.tail):
            text += newline if piece and text and not text.endswith("\n") else ""
            text += piece
    return text


def statements(text: str) -> Iterator[Statement]:
    """Every line of a file, what belongs to a value of several lines together. Headers have no path either."""
    begin = equals = start = end = depth = 0
    for token in TOKEN.finditer(text):
        kind = token.group()
        if kind == "\n" and depth == 0:
            yield _statement(text[begin : token.end()], equals - begin, start - begin, end - begin)
            begin = equals = start = end = token.end()
        elif kind[0] == "#" or kind.isspace():
            continue
        elif kind == "=" and depth == 0 and equals == begin:
            equals, start = token.start(), 0
        else:
            depth += (kind in "[{") - (kind in "]}")
            start, end = start or token.start(), token.end()
    if begin < len(text):
        yield _statement(text[begin:], equals - begin, start - begin, end - begin)


def key_path(text: str) -> tuple[str, ...]:
    """The parts of a dotted key: `a."b.c"` is ("a", "b.c")."""
    inner: object = tomllib.loads(f"{text.strip()} = 0")
    path: list[str] = []
    while isinstance(inner, dict):
        key, inner = next(iter(inner.items()))
        path.append(key)
    return tuple(path)


def _statement(text: str, equals: int, start: int, end: int) -> Statement:
    if equals <= 0:
        return Statement(text, (), 0, end)
    return Statement(text, key_path(text[:equals]), start, end)


def _address(header: Statement, counts: dict[Address, int]) -> Address:
    """The address of a header's table; `counts` has the lengths of the arrays of tables so far."""
    name = header.text[: header.end].strip()
    repeated = name.startswith("[[")
    *parents, last = key_path(name[2:-2] if repeated else name[1:-1])
    address: Address = ()
    for key in parents:
        address = (*address, key)
        if address in counts:
            address = (*address, counts[address] - 1)
    address = (*address, last)
    if not repeated:
        return address
    counts[address] = counts.get(address, 0) + 1
    return (*address, counts[address] - 1)


def _shared_out(lines: list[str]) -> tuple[list[str], str, str, str]:
    """Comments and blank lines between two blocks: those of the first, of neither, the gap, those of the second."""
    lead = len(lines)
    while lead and lines[lead - 1].strip():
        lead -= 1
    gap = lead
    while gap and not lines[gap - 1].strip():
        gap -= 1
    own = 0
    while own < gap and lines[own].strip():
        own += 1
    return lines[:own], "".join(lines[own:gap]), "".join(lines[gap:lead]), "".join(lines[lead:])
