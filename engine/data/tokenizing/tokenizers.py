"""Text ⇄ numbers of tokens: characters, words, or byte pairs, measured on the texts that are trained on.

0 is padding and 1 is unknown. The same texts give the same tokens: the most frequent first, ties in the order of text.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from engine.data.fetching.telling import untold
from engine.data.tokenizing.byte_pairs import learned
from engine.data.tokenizing.ranking import ranked

if TYPE_CHECKING:
    from engine.data.samples import Progress  # which loads torch

Kind = Literal["word", "character", "byte-pair"]
PADDING, UNKNOWN = 0, 1
NAMES = ("<padding>", "<unknown>")
FEWEST: Mapping[Kind, int] = {"word": 2, "character": 2, "byte-pair": 258}
"""The smallest vocabularies: padding and unknown, and for byte pairs the 256 bytes that all text is made of."""
_TOGETHER = 128  # texts: what the library makes of one takes many times its memory
_LEAST = 20  # characters that the shortest text counts as
_NUMBERING = "texts as tokens"
_BLOCK = 100_000  # characters between two looks at the progress: some 30 ms


class Tokenizer(Protocol):
    """Makes numbers of a text, and a text of numbers."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The name of each number, to be shown to a person."""

    def encode(self, text: str, limit: int = 0) -> list[int]:
        """The numbers of a text's tokens, at most the first `limit`; 0 is all."""

    def encode_all(self, texts: Sequence[str], limit: int = 0, progress: Progress = untold) -> Iterator[list[int]]:
        """The numbers of each text, one after the other. Raises what `progress` raises."""

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of these numbers. Padding is nothing."""


class _Pieces(ABC):
    """What words and characters have in common: a text is cut into pieces, and the known ones have numbers."""

    joint = ""

    def __init__(self, known: Sequence[str], lowercase: bool) -> None:
        self.lowercase = lowercase
        self.tokens = (*NAMES, *known)
        self._numbers = {piece: number for number, piece in enumerate(known, len(NAMES))}

    @classmethod
    def measured(
        cls, texts: Sequence[str], vocabulary: int, min_count: int, lowercase: bool, progress: Progress
    ) -> Self:
        """The most frequent pieces of `texts` that come at least `min_count` times, `vocabulary` with 0 and 1."""
        counted: Counter[str] = Counter()
        for text in _told(texts, "counting tokens", progress):
            counted.update(cls.pieces(text.lower() if lowercase else text))
        return cls(ranked(counted, vocabulary - len(NAMES), min_count, progress), lowercase)

    @staticmethod
    @abstractmethod
    def pieces(text: str) -> Iterator[str]:
        """What a text is made of, in its order."""

    def encode(self, text: str, limit: int = 0) -> list[int]:
        pieces = self.pieces(text.lower() if self.lowercase else text)
        return [self._numbers.get(piece, UNKNOWN) for piece in islice(pieces, limit or None)]

    def encode_all(self, texts: Sequence[str], limit: int = 0, progress: Progress = untold) -> Iterator[list[int]]:
        return (self.encode(text, limit) for text in _told(texts, _NUMBERING, progress))

    def decode(self, numbers: Iterable[int]) -> str:
        return self.joint.join(self.tokens[number] for number in numbers if number != PADDING)


class Characters(_Pieces):
    """Each character is a token. Decoding gives the text back, but for characters that are not known."""

    @staticmethod
    def pieces(text: str) -> Iterator[str]:
        return iter(text)


class Words(_Pieces):
    """Words, numbers and marks. Decoding gives the text back up to its spaces, but for words that are not known.

    A word is a run of letters and digits of any script with their combining marks, and with apostrophes between them
    (don't). A number may have points and commas between its digits (3.14). Chinese and Japanese characters, which no
    spaces part, are tokens of their own, and so is every other mark (punctuation, symbols, emoji). Composed and
    decomposed letters are the same (NFC). Scripts such as Thai, whose words nothing parts, want another tokenizer.
    """

    joint = " "

    @staticmethod
    def pieces(text: str) -> Iterator[str]:
        return (found[0] for found in _word().finditer(unicodedata.normalize("NFC", text)))


class BytePairs:
    """Pairs of bytes that were merged into tokens (Sennrich et al. 2016, on bytes as GPT-2 does, Radford et al. 2019).

    Every text is made of bytes: none is unknown, and decoding gives back what went in. But half a character (a
    surrogate without its other half) has no bytes: it is taken for U+FFFD.
    """

    # Tokens are counted from 2 here. No special tokens: a text with "<padding>" in it is a text like any other.
    def __init__(self, trained: Any, lowercase: bool) -> None:
        self._trained, self.lowercase = trained, lowercase
        self.tokens = (*NAMES, *(self._name(number) for number in range(trained.get_vocab_size())))

    @classmethod
    def measured(
        cls, texts: Sequence[str], vocabulary: int, min_count: int, lowercase: bool, progress: Progress
    ) -> BytePairs:
        """The pairs most often met in `texts` are merged until there are `vocabulary` tokens with 0 and 1."""
        told = _told(texts, "counting byte pairs", progress)
        given = (_of_whole_characters(text.lower() if lowercase else text) for text in told)
        return cls(learned(given, sum(map(len, texts)), vocabulary - len(NAMES), min_count, progress), lowercase)

    def encode(self, text: str, limit: int = 0) -> list[int]:
        return next(self.encode_all([text], limit))

    def encode_all(self, texts: Sequence[str], limit: int = 0, progress: Progress = untold) -> Iterator[list[int]]:
        for some in _together(_told(texts, _NUMBERING, progress)):
            given = [_of_whole_characters(text.lower() if self.lowercase else text) for text in some]
            for encoded in self._trained.encode_batch_fast(given):  # on all cores
                yield [number + len(NAMES) for number in encoded.ids[: limit or None]]

    def decode(self, numbers: Iterable[int]) -> str:
        text: str = self._trained.decode([number - len(NAMES) for number in numbers if number >= len(NAMES)])
        return text

    def _name(self, number: int) -> str:
        """The token as text; a piece of a character, which is none, by the letters that stand for its bytes."""
        text: str = self._trained.decode([number])
        return text if "\ufffd" not in text else str(self._trained.id_to_token(number))


def _of_whole_characters(text: str) -> str:
    """The same with U+FFFD in the place of lone surrogates, which the library refuses."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_MEASURED: Mapping[Kind, Callable[[Sequence[str], int, int, bool, Progress], Tokenizer]] = {
    "word": Words.measured,
    "character": Characters.measured,
    "byte-pair": BytePairs.measured,
}


def measure(
    kind: Kind,
    texts: Sequence[str],
    *,
    vocabulary: int = 10_000,
    min_count: int = 1,
    lowercase: bool = True,
    progress: Progress = untold,
) -> Tokenizer:
    """The tokenizer of a kind that knows the tokens of `texts`, at most `vocabulary` of them with padding and unknown.

    Raises ValueError for a vocabulary that is smaller than FEWEST, and what `progress` raises.
    """
    if vocabulary < FEWEST[kind]:
        raise ValueError(f"a vocabulary of {kind} tokens has at least {FEWEST[kind]}")
    return _MEASURED[kind](texts, vocabulary, min_count, lowercase, progress)


def _told(texts: Sequence[str], what: str, progress: Progress) -> Iterator[str]:
    """The same texts; `progress` is told how many have been taken, each time that some length of them has."""
    since = _BLOCK
    for number, text in enumerate(texts):
        if since >= _BLOCK:
            progress(what, number, len(texts))
            since = 0
        since += len(text) + _LEAST
        yield text


def _together(texts: Iterable[str]) -> Iterator[list[str]]:
    """As many texts at a time as the library should make tokens of at once."""
    some, size = list[str](), 0
    for text in texts:
        some.append(text)
        size += len(text)
        if len(some) >= _TOGETHER or size >= _BLOCK:
            yield some
            some, size = [], 0
    if some:
        yield some


# Scripts without spaces: radicals, kana, and the planes and blocks of ideographs with their compatibility forms.
_ALONE = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_MARKED = (0x20000, 0xE0100, 0xE01F0)  # combining marks lie below the first, and between the others


@cache
def _word() -> re.Pattern[str]:
    """A number, a word, or any other character with the marks upon it."""
    marks = _marks()  # Python's \w leaves them out, which would cut the words of Hindi in pieces
    letter = rf"[^\W_{_ALONE}]"
    word = rf"{letter}+(?:(?:[{marks}]+|['’](?={letter})){letter}*)*"
    return re.compile(rf"[0-9]+(?:[.,][0-9]+)+|{word}|\S[{marks}]*")


def _marks() -> str:
    """All combining marks of Unicode, as ranges of a character class."""
    end, selectors, last = _MARKED
    found = [code for code in (*range(end), *range(selectors, last)) if unicodedata.category(chr(code))[0] == "M"]
    ranges: list[list[int]] = []
    for code in found:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(final)}" for first, final in ranges)
