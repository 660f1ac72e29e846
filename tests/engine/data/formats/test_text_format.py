"""One's own texts in files, folders and tables: read, counted, measured on the training samples, learned."""

from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import torch
from pyarrow import parquet
from small_runs import train

from engine.check import check
from engine.data.formats.catalog import guess
from engine.data.formats.opening import forget
from engine.data.formats.text import Texts, Words
from engine.data.load import load
from engine.data.opened import opened
from engine.data.samples import Loaded, Samples
from engine.errors import DataError, RecipeError, StudioError
from engine.recipe import Data, Recipe, TaskName

ROWS = [("a fine day", "good"), ("a grim day", "bad"), ("fine, fine!", "good")]
POSITIVE, NEGATIVE = ("splendid", "lovely", "delightful"), ("dreadful", "awful", "tedious")
NEUTRAL = ["the", "a", "film", "plot", "it", "was", "of", "and", "with", "story", "we", "saw", "on", "that", "this"]


def read(path: Path, task: TaskName = "classification", format: str = "text", **options: Any) -> Loaded:
    forget()
    return load(Data(path=str(path), format=format, options=options), task)


def texts(loaded: Loaded, part: str = "all") -> Texts:
    found = loaded.parts[part]
    assert isinstance(found, Texts)
    return found


def pairs(loaded: Loaded, part: str = "all") -> list[tuple[str, str]]:
    found = texts(loaded, part)
    return [(text, loaded.source.classes[int(label)]) for text, label in zip(found.texts, found.targets, strict=True)]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        write(folder / f"{name}.txt", content)
    return folder


def in_files(folder: Path) -> Path:
    return lines(folder, good="a fine day\nfine, fine!\n", bad="a grim day\n")


def in_folders(folder: Path) -> Path:
    for number, (text, label) in enumerate(ROWS):
        write(folder / label / f"{number}.txt", text)
    return folder


def in_csv(folder: Path) -> Path:
    return write(folder / "x.csv", 'label,text\ngood,a fine day\nbad,a grim day\ngood,"fine, fine!"\n')


def in_semicolons(folder: Path) -> Path:
    return write(folder / "x.csv", '"label";"text"\r\ngood;a fine day\r\nbad;a grim day\r\ngood;fine, fine!\r\n')


def in_tsv(folder: Path) -> Path:
    return write(folder / "x.tsv", "text\tlabel\na fine day\tgood\na grim day\tbad\nfine, fine!\tgood\n")


def in_jsonl(folder: Path) -> Path:
    return write(folder / "x.jsonl", "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS))


def in_parquet(folder: Path) -> Path:
    table = pyarrow.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    parquet.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


@pytest.mark.parametrize(
    "make", [in_files, in_folders, in_csv, in_semicolons, in_tsv, in_jsonl, in_parquet], ids=lambda make: make.__name__
)
def test_the_same_texts_are_read_from_every_kind_of_file(make: Any, tmp_path: Path) -> None:
    loaded = read(make(tmp_path))
    assert loaded.source.classes == ("bad", "good")
    assert sorted(pairs(loaded)) == sorted(ROWS)
    assert loaded.bad == []
    assert loaded.source.sizes == {"all": 3}


def test_folders_and_text_files_are_known_without_a_format(tmp_path: Path) -> None:
    assert len(texts(read(in_folders(tmp_path / "a"), format="auto"))) == 3
    assert len(texts(read(in_jsonl(tmp_path), format="auto"))) == 3


def test_parts_are_told_by_the_names_of_folders_and_files(tmp_path: Path) -> None:
    in_folders(tmp_path / "a" / "train")
    in_files(tmp_path / "a" / "test")
    write(tmp_path / "a" / "README.txt", "what this is")
    loaded = read(tmp_path / "a")
    assert loaded.source.sizes == {"train": 3, "test": 3}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation", "test"):
        write(tmp_path / "b" / f"{name}.csv", f"text,label\n{name} of it,x\n{name},y\n")
    loaded = read(tmp_path / "b")
    assert loaded.source.sizes == {"train": 4, "val": 2, "test": 2}
    assert pairs(loaded, "val") == [("validation of it", "x"), ("validation", "y")]


def test_labels_that_are_numbers_come_in_their_order_and_can_be_predicted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "review,stars\ngood,10\nfine,9\nbad,2\nso so,2\nwhat,many\nhuh,nan\n")
    forget()
    assert read(path, "regression").source.outputs == 1
    loaded = read(path, "regression")
    assert texts(loaded).targets.tolist() == [[10.0], [9.0], [2.0], [2.0]]
    assert [str(bad) for bad in loaded.bad] == [
        "x.csv row 6: has the label 'many', which is no number",
        "x.csv row 7: has the label 'nan', which is no number",
    ]
    whole = write(tmp_path / "y.csv", "review,stars\ngood,10\nfine,9\nbad,2\nso so,2\n")
    assert read(whole).source.classes == ("2", "9", "10")


def test_other_columns_can_group_and_order_the_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "user,year,text,label\nann,2001,hi,a\nbob,1999,ho,b\nann,1998,hu,a\n")
    columns = texts(read(path)).columns
    assert columns["user"].tolist() == ["ann", "bob", "ann"]
    assert columns["year"].tolist() == [2001.0, 1999.0, 1998.0]
    folders = texts(read(in_folders(tmp_path / "f"))).columns
    assert folders["folder"].tolist() == ["bad", "good", "good"]


def test_columns_are_found_by_name_or_named_or_asked_for(tmp_path: Path) -> None:
    two = write(tmp_path / "two.csv", "what,verdict\nlong words about it,no\nand more of them,yes\nok then,no\n")
    assert pairs(read(two))[0] == ("long words about it", "no")
    three = write(tmp_path / "three.csv", "a,b,c\nx,this text,1\ny,that text,2\nx,those texts,2\n")
    with pytest.raises(DataError, match=r"which column has the texts: there are a, b, c\. Set text in data\.options"):
        read(three)
    assert pairs(read(three, text="b", label="a"))[1] == ("that text", "y")
    with pytest.raises(DataError, match=r"data\.options\.text: three\.csv has no column 'B1'"):
        read(three, text="B1", label="a")


def test_bad_texts_are_left_out_and_told_with_their_places(tmp_path: Path) -> None:
    lines(tmp_path, pos="fine\n\n   \ngood\0\ngreat\n", neg="bad\r\nworse\r\n" + "x" * 1_000_001)
    loaded = read(tmp_path)
    assert sorted(text for text, _ in pairs(loaded)) == ["bad", "fine", "great", "worse"]
    assert [str(bad) for bad in loaded.bad] == [
        "neg.txt line 3: has 1,000,001 characters, more than 1,000,000",
        "pos.txt line 2: is empty",
        "pos.txt line 3: is empty",
        "pos.txt line 4: has NUL bytes: it is no text",
    ]


def test_ragged_rows_and_missing_cells_are_left_out_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'text,label\n"two\nlines",a\nragged\n\nNA,b\nno label,\n,a\nx,y,z\nlast,b\n')
    loaded = read(path)
    assert pairs(loaded) == [("two\nlines", "a"), ("NA", "b"), ("last", "b")]
    assert {bad.place: bad.what for bad in loaded.bad} == {
        "x.csv row 3": "has 1 cells, 2 were expected",
        "x.csv row 4": "is empty",
        "x.csv row 6": "has no label",
        "x.csv row 7": "is empty",
        "x.csv row 8": "has 3 cells, 2 were expected",
    }


def test_broken_lines_of_json_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [
        '{"text": "a", "label": 1}',
        '{"text": "b", "label": 2',
        "[1, 2]",
        '{"text": "c"}',
        '{"text": ["d"], "label": 1}',
        '{"text": "\\ud83d half", "label": 1}',
        "",
        "[" * 100_000,
        '{"text": "e", "label": 2}',
        '{"text": "f", "label": 2}',
    ]
    loaded = read(write(tmp_path / "x.jsonl", "\n".join(rows)))
    assert pairs(loaded) == [("a", "1"), ("e", "2"), ("f", "2")]
    assert [bad.place.removeprefix("x.jsonl line ") for bad in loaded.bad] == ["2", "3", "8", "4", "5", "6"]


@pytest.mark.parametrize(
    ("encoding", "content", "said"),
    [
        ("utf-8", "fine\nna\xefve\n".encode("cp1252"), 'line 2: is not in utf-8 (byte 0xef). Set encoding = "cp1252"'),
        ("utf-8", "fine\nnaïve\n".encode("utf-16"), 'is not in utf-8 (byte 0xff). Set encoding = "utf-16"'),
        ("utf-8", "fine text\n".encode("utf-16-le"), 'every other byte is 0). Set encoding = "utf-16-le"'),
        ("ascii", "fine\nnaïve\n".encode(), 'line 2: is not in ascii (byte 0xc3). Set encoding = "utf-8"'),
        ("utf-8", b"\xff\x81", 'Set encoding = "latin-1"'),
        ("utf-9", b"fine", "data.options.encoding: there is no text encoding 'utf-9'"),
        ("rot13", b"fine", "data.options.encoding: there is no text encoding 'rot13'"),
    ],
)
@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_a_wrong_encoding_is_told_with_one_to_try(
    encoding: str, content: bytes, said: str, suffix: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"x.{suffix}", content)
    with pytest.raises(StudioError) as caught:
        read(path, encoding=encoding)
    assert said in str(caught.value)


def test_the_right_encoding_and_marks_of_byte_order_are_read(tmp_path: Path) -> None:
    lines(tmp_path / "a")
    write(tmp_path / "a" / "p.txt", "naïve\n".encode("cp1252"))
    write(tmp_path / "a" / "q.txt", "plain\n")
    assert pairs(read(tmp_path / "a", encoding="cp1252")) == [("naïve", "p"), ("plain", "q")]
    marked = write(tmp_path / "b.csv", "\ufefftext,label\nnaïve,p\nplain,q\nx,p\n")
    assert pairs(read(marked))[0] == ("naïve", "p")


def test_a_folder_of_files_survives_one_in_another_encoding(tmp_path: Path) -> None:
    in_folders(tmp_path)
    write(tmp_path / "bad" / "old.txt", "na\xefve".encode("cp1252"))
    loaded = read(tmp_path)
    assert len(texts(loaded)) == 3
    expected = 'bad/old.txt: is not in utf-8 (byte 0xef) in line 1. Set encoding = "cp1252" in data.options.'
    assert [str(bad) for bad in loaded.bad] == [expected]


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "secret" / "s.txt", "secret")
    in_folders(tmp_path / "data")
    (tmp_path / "data" / "good" / "link.txt").symlink_to(tmp_path / "secret" / "s.txt")
    (tmp_path / "data" / "stolen").symlink_to(tmp_path / "secret")
    (tmp_path / "data" / "good" / "same.txt").symlink_to("0.txt")
    loaded = read(tmp_path / "data")
    assert sorted(bad.place for bad in loaded.bad) == ["good/link.txt", "stolen"]
    assert len(texts(loaded)) == 4
    lines(tmp_path / "lines", good="a\nb", bad="c\nd\ne")
    (tmp_path / "lines" / "stolen.txt").symlink_to(tmp_path / "secret" / "s.txt")
    assert [bad.place for bad in read(tmp_path / "lines").bad] == ["stolen.txt"]


def test_a_file_that_can_not_be_read_is_left_out(tmp_path: Path) -> None:
    in_folders(tmp_path)
    (tmp_path / "bad" / "gone.txt").symlink_to("nowhere.txt")
    assert [str(bad) for bad in read(tmp_path).bad] == ["bad/gone.txt: can't be read: No such file or directory"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pos.txt": "one\ntwo\n"}, "has one class only, 'pos'"),
        (
            {"x.csv": "text,label\na,1\nb,2\nc,3\n"},
            'has another class for each of its 3 samples. Set task = "regression"',
        ),
        (
            {"x.csv": "text,label\n,1\n,2\n"},
            "has no sample that can be used; left out: x.csv row 2: is empty (and 1 more)",
        ),
        ({"x.csv": ""}, "can't be read"),
        ({"x.csv": "text,text\na,b\n"}, "'text' is the name of columns 1 and 2"),
        ({"x.parquet": "no parquet"}, "Is it Parquet?"),
        ({"x.jsonl": "no json"}, "has no line that is a JSON object"),
        ({"picture.png": "x"}, "has no texts: neither folders with .txt files"),
        ({"train/a.txt": "x", "train/b.txt": "y", "test/c.txt": "z"}, "is of class 'c', which no training sample has"),
        ({"train/a.txt": "x", "train/b.txt": "y", "test/a.txt": ""}, "has no sample that can be used in its test part"),
    ],
)
def test_what_can_not_be_learned_from_is_refused_in_words(files: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocabulary": 1}, "vocabulary: 1 tokens are too few for a word tokenizer. Give it 2 or more"),
        ({"tokenizer": "byte-pair", "vocabulary": 257}, "Give it 258 or more (256 bytes, padding, unknown)"),
        ({"tokenizer": "words"}, "data.options.tokenizer: 'words' is not 'word' or 'character' or 'byte-pair'"),
        ({"max_length": -1}, "data.options.max_length: -1 is less than nothing"),
        ({"min_count": 0}, "data.options.min_count: 0 is less than one"),
        ({"vocab": 100}, "data.options.vocab: is not a parameter of text"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(in_files(tmp_path), **options)
    assert said in str(caught.value)


def test_tokens_are_measured_on_the_training_texts_alone(tmp_path: Path) -> None:
    lines(tmp_path / "train", a="one two\ntwo three four", b="one")
    lines(tmp_path / "test", a="five two", b="one two three four five six")
    data = Data(path=str(tmp_path), split={"train": 1.0, "val": 0.0, "test": 0.0}, options={"max_length": 0})
    source, parts = opened(data, "classification", [])
    assert source.tokens == ("<padding>", "<unknown>", "one", "two", "four", "three")
    assert (source.vocabulary, source.shape) == (6, (8,))
    test = parts["test"][0]
    assert isinstance(test, Samples)
    assert test.inputs.dtype == torch.int64
    assert test.inputs.tolist() == [[1, 3, 0, 0, 0, 0, 0, 0], [2, 3, 5, 4, 1, 1, 0, 0]]
    assert test.raw == ["five two", "one two three four five six"]
    short, _ = opened(data.model_copy(update={"options": {"max_length": 2}}), "classification", [])
    assert short.shape == (2,)


def test_more_tokens_than_memory_holds_are_refused(tmp_path: Path) -> None:
    found = texts(read(in_files(tmp_path)))
    tokenizer = found.fit(torch.arange(3)).tokenizer
    with pytest.raises(DataError, match=r"data\.options\.max_length: 3 texts of 1,000,000,000,000 tokens take 24000"):
        Words(tokenizer, 10**12).encode(found)


def recipe(folder: Path, layers: list[dict[str, Any]], **options: Any) -> Recipe:
    """600 sentences of neutral words, of which one is a verdict; its class is in it and nowhere else."""
    draw = random.Random(0)
    written: dict[str, list[str]] = {"pos": [], "neg": []}
    for number in range(600):
        words = draw.choices(NEUTRAL, k=draw.randint(4, 14))
        label = ("pos", "neg")[number % 2]
        words.insert(draw.randrange(len(words) + 1), draw.choice(POSITIVE if label == "pos" else NEGATIVE))
        written[label].append(" ".join(words).capitalize() + ".")
    lines(folder / "texts", **{label: "\n".join(found) for label, found in written.items()})
    values = {
        "title": "verdicts",
        "data": {"path": str(folder / "texts"), "batch_size": 30, "options": options},
        "model": {"layers": layers},
        "optimizer": {"name": "AdamW", "lr": 0.01},
        "training": {"epochs": 6, "device": "cpu", "threads": 1},
    }
    return Recipe.from_values(values)


EMBEDDING = {"name": "Embedding", "embedding_dim": 16, "padding_idx": 0}
HEAD = {"name": "Linear", "out_features": "classes"}
MODELS: dict[str, list[dict[str, Any]]] = {
    "bag of words": [EMBEDDING, {"name": "SequencePool"}, HEAD],
    "GRU": [EMBEDDING, {"name": "GRU", "hidden_size": 24, "returns": "last"}, HEAD],
}
TRANSFORMER = [
    EMBEDDING,
    {"name": "PositionalEncoding"},
    {"name": "TransformerEncoder", "nhead": 2, "num_layers": 1},
    {"name": "SequencePool", "keep": "max"},
    HEAD,
]


def accuracy(recipe: Recipe, folder: Path) -> float:
    assert check(recipe).problems == ()
    history = train(recipe, folder / "runs").history
    assert history.error is None
    assert history.summary is not None
    return history.summary.test["accuracy"]


def test_a_transformer_takes_the_tokens_as_they_are(tmp_path: Path) -> None:
    checked = check(recipe(tmp_path, TRANSFORMER))
    assert checked.problems == ()
    assert checked.source is not None
    assert checked.rows[0].parameters == checked.source.vocabulary * 16


@pytest.mark.parametrize("name", MODELS)
def test_the_words_that_decide_are_learned(name: str, tmp_path: Path) -> None:
    assert accuracy(recipe(tmp_path, MODELS[name]), tmp_path) > 0.95


def test_pieces_of_words_are_learned(tmp_path: Path) -> None:
    pieces = recipe(tmp_path, MODELS["bag of words"], tokenizer="byte-pair", vocabulary=500)
    assert accuracy(pieces.override({"training.epochs": 8}), tmp_path) > 0.95


def test_without_a_vocabulary_nothing_is_learned(tmp_path: Path) -> None:
    assert accuracy(recipe(tmp_path, MODELS["bag of words"], vocabulary=2), tmp_path) < 0.7


def test_the_recipe_in_the_documentation_fits_its_data(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs" / "data.md").read_text(encoding="utf-8")
    block = text.partition("## Your own text")[2].partition("```toml\n")[2].partition("```")[0]
    values = tomllib.loads(f'title = "reviews"\n{block}')
    values["data"]["path"] = str(in_folders(tmp_path))
    checked = check(Recipe.from_values(values))
    assert checked.problems == ()
    assert checked.facts is not None
    assert checked.facts.vocabulary == 8  # a, fine, day, grim, a comma, a mark, padding, unknown


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("text,label", "text"),
        ('"Review";"stars";"date"', "text"),
        ("age,pay,label", "table"),
        ("title,year,length,rating", "table"),  # a column of texts among others does not make it one of texts
    ],
)
def test_a_table_that_is_no_more_than_texts_with_labels_is_told_by_its_first_line(
    header: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "some.csv").write_text(header + "\n", encoding="utf-8")
    assert guess(tmp_path / "some.csv") == kind
