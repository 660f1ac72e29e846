"""What is cut into pieces, so that other threads run in between, comes out as in one go."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.reading import decoding, json_items, pieces
from engine.data.reading.decoding import WrongEncoding, decode, decoded, lines, with_plain_ends

ENCODINGS = ("utf-8", "utf-16", "utf-16-be", "utf-32", "cp1252", "shift_jis")
values: Any = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(autouse=True, scope="module")
def small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_PIECE", 3)
        patch.setattr(pieces, "_PIECE", 3)
        yield


@given(st.text(st.sampled_from("aé語😀\r\n\ufeff")), st.sampled_from(ENCODINGS))
@settings(deadline=None, max_examples=40)
def test_text_is_decoded_and_its_lines_are_told(text: str, encoding: str) -> None:
    raw = text.encode(encoding, "ignore")
    whole = raw.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    assert decode(raw, encoding) == whole
    expected = whole.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    assert lines(with_plain_ends(decoded(raw, encoding))) == expected


def test_a_line_of_many_pieces_is_put_together_once() -> None:
    began = time.thread_time()
    assert lines(["abc"] * 100_000 + ["\n"]) == ["abc" * 100_000]
    assert time.thread_time() - began < 0.5, "with each piece anew it takes 8 s"


@pytest.mark.parametrize("raw", [b"a\0b\0c\0d\0", "a語b".encode("utf-16")[2:]])
def test_utf_16_without_a_mark_is_of_this_machines_kind(raw: bytes) -> None:
    assert decode(raw, "utf-16") == raw.decode("utf-16")


def test_a_byte_that_is_no_text_is_named_with_its_line() -> None:
    with pytest.raises(WrongEncoding) as caught:
        decode(b"good\nalso good\nb\xe4d\n", "utf-8")
    assert (caught.value.line, caught.value.what) == (3, "is not in utf-8 (byte 0xe4)")
    with pytest.raises(WrongEncoding, match=r"cut off|0xe8"):
        decode("a good line\n語".encode()[:-1], "utf-8")


@settings(max_examples=30)
@given(st.lists(st.text()), st.lists(st.floats(allow_nan=False)))
def test_arrays_and_sets_are_the_same(texts: list[str], numbers: list[float]) -> None:
    assert pieces.filled(numbers, np.float64).tolist() == numbers
    assert pieces.different(texts) == set(texts)
    assert [each for piece in pieces.pieces(texts) for each in piece] == texts


@given(st.dictionaries(st.text(), values) | values, st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=40)
def test_json_is_read_as_the_library_reads_it(value: Any, indent: int | None) -> None:
    raw = json.dumps(value, indent=indent).encode()
    assert json_items.loads(raw) == json.loads(raw)


@pytest.mark.parametrize("text", ["", "{", '{"a": [1,]}', '{"a": [1 2]}', '{"a": 1} x', "{1: 2}", '{"a": [1}', "[nul]"])
def test_what_is_no_json_is_refused_in_the_librarys_words(text: str) -> None:
    with pytest.raises(ValueError) as theirs:
        json.loads(text)
    with pytest.raises(ValueError) as ours:
        json_items.loads(text.encode())
    assert str(ours.value) == str(theirs.value)
