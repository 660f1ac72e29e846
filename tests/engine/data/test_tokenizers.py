"""Text becomes numbers and text again; the same texts always give the same tokens."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import run_python

from engine.data.tokenizing import byte_pairs, merging
from engine.data.tokenizing.tokenizers import Kind, Words, measure

# Everything but half characters, which are no text.
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
KINDS: tuple[Kind, ...] = ("word", "character", "byte-pair")


@given(st.lists(texts, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_characters_reproduce_the_texts_they_were_measured_on(known: list[str]) -> None:
    tokenizer = measure("character", known, vocabulary=1000, lowercase=False)
    assert [tokenizer.decode(tokenizer.encode(text)) for text in known] == known


@given(texts)
@settings(max_examples=100, deadline=None)
def test_byte_pairs_reproduce_texts_that_they_never_saw(text: str) -> None:
    assert BYTE_PAIRS.decode(BYTE_PAIRS.encode(text)) == text
    assert 1 not in BYTE_PAIRS.encode(text)


BYTE_PAIRS = measure("byte-pair", ["the cat sat on the mat"] * 3, vocabulary=280, lowercase=False)


@pytest.mark.parametrize("here", [byte_pairs._HERE, 0])
def test_byte_pairs_take_half_a_character_for_a_sign(here: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_pairs, "_HERE", here)  # 0: in a process of its own
    halves = ["the \ud800 cat\udcff", "\ud83d\ude00 is whole", "\ufeffso is this, \ud800"]
    tokenizer = measure("byte-pair", halves, vocabulary=280, lowercase=False)
    shown = [tokenizer.decode(tokenizer.encode(text)) for text in halves]
    assert shown == ["the \ufffd cat\ufffd", "😀 is whole", "\ufeffso is this, \ufffd"]


@given(texts)
@settings(max_examples=100, deadline=None)
def test_words_reproduce_a_text_up_to_its_spaces(text: str) -> None:
    tokenizer = measure("word", [text], lowercase=False)
    again = tokenizer.decode(tokenizer.encode(text))
    assert "".join(again.split()) == "".join(unicodedata.normalize("NFC", text).split())


@pytest.mark.parametrize("kind", KINDS)
def test_special_names_in_a_text_are_text(kind: Kind) -> None:
    text = "<padding> <unknown>"
    tokenizer = measure(kind, [text], vocabulary=300)
    assert not {0, 1} & set(tokenizer.encode(text))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Don't stop: it's 3.14!", ["Don't", "stop", ":", "it's", "3.14", "!"]),
        ("'quoted' snake_case", ["'", "quoted", "'", "snake", "_", "case"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),  # vowel signs are marks, not letters
        ("漢字とカナ", ["漢", "字", "と", "カ", "ナ"]),
        ("안녕 세계", ["안녕", "세계"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("❤️ ok\u2003then", ["❤️", "ok", "then"]),
    ],
)
def test_words_are_cut_as_their_script_asks(text: str, pieces: list[str]) -> None:
    assert list(Words.pieces(text)) == pieces


def test_what_is_rare_or_beyond_the_vocabulary_is_unknown() -> None:
    known = ["b a a c", "c b a d"]
    assert measure("word", known).tokens == ("<padding>", "<unknown>", "a", "b", "c", "d")  # ties by text
    assert measure("word", known, min_count=2).tokens[2:] == ("a", "b", "c")
    tokenizer = measure("word", known, vocabulary=4)
    assert tokenizer.encode("A b c e") == [2, 3, 1, 1]
    assert tokenizer.decode([2, 3, 1, 0, 0]) == "a b <unknown>"
    assert measure("word", known, lowercase=False).encode("A b") == [1, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_cuts_the_end(kind: Kind) -> None:
    tokenizer = measure(kind, ["one two three"], vocabulary=300)
    whole = tokenizer.encode("one two three")
    assert tokenizer.encode("one two three", 2) == whole[:2]
    assert len(whole) > 2


def test_byte_pairs_are_merged_by_how_often_they_come() -> None:
    tokenizer = measure("byte-pair", ["low lower lowest"] * 5, vocabulary=300)
    assert {"low", " low"} <= set(tokenizer.tokens)
    assert len(tokenizer.encode("low lower")) < len("low lower")


def test_a_vocabulary_too_small_for_its_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 258"):
        measure("byte-pair", ["text"], vocabulary=257)
    assert len(measure("byte-pair", ["text"], vocabulary=258).tokens) == 258


def test_the_same_texts_give_the_same_tokens_in_another_process() -> None:
    code = """
import hashlib, random
from engine.data.tokenizing.tokenizers import measure
draw = random.Random(0)
texts = ["".join(draw.choices("abcdef ", k=40)) for _ in range(200)]
for kind in ("word", "character", "byte-pair"):
    print(hashlib.sha256(repr(measure(kind, texts, vocabulary=500).tokens).encode()).hexdigest())
"""
    first, second = run_python(code), run_python(code)
    assert first.stdout.count("\n") == 3, first.stderr
    assert first.stdout == second.stdout


class Enough(Exception):  # noqa: N818 - nothing goes wrong
    """What a person's cancelling raises."""


@pytest.mark.parametrize("kind", ["word", "character", "byte-pair"])
def test_measuring_tells_how_far_it_is_and_can_be_called_off_at_once(kind: Kind) -> None:
    texts = [
        f"{number} words of which few are alike, as {number * 7919} and {number * 104729}" for number in range(9000)
    ]
    told: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        if done >= 4000:
            raise Enough

    with pytest.raises(Enough):
        measure(kind, texts, vocabulary=300, progress=progress)
    assert len(told) >= 2
    assert told[-1][1] < 6000, "the rest was not looked at"
    assert all(total == 9000 for _, _, total in told)


def test_much_text_is_merged_in_a_process_of_its_own_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ['a "quoted" line\nand another', "naïve 東京", "low lower lowest"] * 20
    here = measure("byte-pair", texts, vocabulary=300)
    monkeypatch.setattr(byte_pairs, "_HERE", 10)
    told: list[str] = []
    there = measure("byte-pair", texts, vocabulary=300, progress=lambda what, done, total: told.append(what))
    assert there.tokens == here.tokens
    assert list(there.encode_all(texts)) == list(here.encode_all(texts))
    assert "merging byte pairs" in told

    def progress(what: str, done: int, total: int) -> None:
        if what == "merging byte pairs":
            raise Enough

    before = psutil.Process().children()
    with pytest.raises(Enough):
        measure("byte-pair", texts, vocabulary=300, progress=progress)
    assert psutil.Process().children() == before, "it was ended"


def test_who_merges_ends_with_the_one_who_wants_it() -> None:
    command = [sys.executable, "-P", merging.__file__, "300", "1"]
    for fed, status in ((b'"low lower lowest"\n', 1), (b'"low lower lowest"\nnull\n', 0)):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(fed)
            process.stdin.flush()
            if status:
                process.stdin.close()  # as when it is killed
            assert bool(process.stdout.read()) == (status == 0)
            assert process.wait(20) == status
