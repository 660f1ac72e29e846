"""One's own sounds: read one by one at one rate and length, with what is bad told before and while they are read."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.data.formats.audio import Sounds
from engine.data.formats.opening import forget
from engine.data.load import load
from engine.data.samples import BadSample, Listed, Loaded
from engine.errors import DataError, RecipeError
from engine.recipe import Data, TaskName


def tone(pitch: float, rate: int = 8000, seconds: float = 0.1, channels: int = 1) -> np.ndarray:
    """(frames, channels); each channel is half as loud as the one before."""
    time = np.arange(round(rate * seconds)) / rate
    return np.stack([0.5**channel * 0.5 * np.sin(2 * np.pi * pitch * time) for channel in range(channels)], 1)


def write(path: Path, sound: np.ndarray, rate: int = 8000, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **more)
    return path


def two_classes(folder: Path, rate: int = 8000, suffix: str = "wav") -> Path:
    for number in range(2):
        write(folder / "high" / f"{number}.{suffix}", tone(800, rate), rate)
        write(folder / "low" / f"{number}.{suffix}", tone(200, rate), rate)
    return folder


def read(path: Path, task: TaskName = "classification", **options: Any) -> Loaded:
    forget()
    return load(Data(path=str(path), format="audio", options=options), task)


def sounds(loaded: Loaded, part: str = "all") -> Sounds:
    found = loaded.parts[part]
    assert isinstance(found, Sounds)
    return found


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_folder_a_class_is_read_from_every_kind_of_file(suffix: str, tmp_path: Path) -> None:
    loaded = read(two_classes(tmp_path, 16000, suffix))
    assert loaded.source.classes == ("high", "low")
    assert loaded.source.rate == 16000
    found = sounds(loaded)
    assert isinstance(found, Listed)
    assert found.places == [f"{name}/{number}.{suffix}" for name in ("high", "low") for number in (0, 1)]
    assert found.targets.tolist() == [0, 0, 1, 1]
    inputs, target = found[2]
    assert (inputs.shape, inputs.dtype, int(target)) == (loaded.source.shape, torch.float32, 1)
    spectrum = torch.fft.rfft(inputs[0, :1600]).abs()
    assert abs(int(spectrum.argmax()) - 20) <= 1  # 200 Hz in steps of 10


def test_what_a_wav_file_holds_is_what_comes_out(tmp_path: Path) -> None:
    found = sounds(read(two_classes(tmp_path)))
    assert torch.allclose(found[0][0][0], torch.from_numpy(tone(800)[:, 0]).float(), atol=1e-4)
    assert found.sample_bytes == found[0][0].nbytes


def test_length_and_rate_follow_from_the_files_or_the_options(tmp_path: Path) -> None:
    two_classes(tmp_path)
    write(tmp_path / "low" / "long.wav", tone(200, seconds=0.5))
    write(tmp_path / "low" / "fast.wav", tone(200, 16000, seconds=0.05), 16000)
    loaded = read(tmp_path)
    assert (loaded.source.rate, loaded.source.shape) == (8000, (1, 800))
    by_place = dict(zip(sounds(loaded).places, (sound for sound, _ in sounds(loaded)), strict=True))  # type: ignore[misc]
    assert torch.equal(by_place["low/long.wav"], by_place["low/0.wav"])  # cut
    assert by_place["low/fast.wav"][0, 450:].abs().max() == 0  # padded
    assert torch.allclose(by_place["low/fast.wav"][0, 20:380], by_place["low/0.wav"][0, 20:380], atol=1e-3)
    assert read(tmp_path, rate=4000, seconds=0.25).source.shape == (1, 1000)


def test_the_end_of_a_cut_sound_is_as_exact_as_its_middle(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "x.wav", tone(200, 16000, seconds=0.5), 16000)
    sound = sounds(read(tmp_path, rate=8000, seconds=0.2))[0][0][0]
    wanted = torch.from_numpy(tone(200, 8000, seconds=0.2)[:, 0]).float()
    assert torch.allclose(sound[40:], wanted[40:], atol=1e-3)


def test_channels_are_mixed_or_doubled_or_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.wav", tone(200))
    write(tmp_path / "b" / "two.wav", tone(200, channels=2))
    write(tmp_path / "b" / "six.wav", tone(200, channels=6))
    mono = sounds(read(tmp_path))
    one, six, two = (mono[number][0][0] for number in range(3))
    assert torch.allclose(two, one * 0.75, atol=1e-4)
    assert torch.allclose(six, one * (2 - 0.5**5) / 6, atol=1e-4)
    loaded = read(tmp_path, channels="stereo")
    assert loaded.source.shape == (2, 800)
    assert [str(bad) for bad in loaded.bad] == [
        'b/six.wav: has 6 channels, not two; channels = "mono" takes their mean'
    ]
    doubled, kept = (sounds(loaded)[number][0] for number in range(2))
    assert torch.equal(doubled[0], doubled[1])
    assert torch.allclose(kept[1], kept[0] / 2, atol=1e-4)


def in_table(folder: Path, table: str, name: str = "labels.csv") -> Path:
    for number in range(4):
        write(folder / "clips" / f"{number}.wav", tone(200 + 100 * number))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(table, encoding="utf-8")
    return folder


@pytest.mark.parametrize("how", ["clips/{}.wav", "{}.wav", "{}", "clips\\{}.wav", "./clips/{}.wav"])
def test_labels_are_read_from_a_table_beside_the_sounds(how: str, tmp_path: Path) -> None:
    rows = "".join(f"{how.format(number)},{'ab'[number % 2]},{number // 2}\n" for number in range(4))
    found = sounds(read(in_table(tmp_path, f"filename,label,speaker\n{rows}")))
    assert found.places == [f"clips/{number}.wav" for number in range(4)]
    assert found.targets.tolist() == [0, 1, 0, 1]
    assert found.columns["speaker"].tolist() == [0, 0, 1, 1]


def test_numbers_are_predicted_from_sounds(tmp_path: Path) -> None:
    in_table(tmp_path, "file,pitch\n0.wav,200\n1.wav,300\n2.wav,high\n3.wav,500\n")
    loaded = read(tmp_path, "regression")
    assert sounds(loaded).targets.tolist() == [[200.0], [300.0], [500.0]]
    assert [str(bad) for bad in loaded.bad] == ["clips/2.wav: has the label 'high', which is no number"]


def test_parts_are_told_by_folders_or_by_tables(tmp_path: Path) -> None:
    two_classes(tmp_path / "a" / "train")
    two_classes(tmp_path / "a" / "test")
    assert read(tmp_path / "a").source.sizes == {"train": 4, "test": 4}
    in_table(tmp_path / "b", "file,label\n0,x\n1,y\n2,x\n", "train.csv")
    in_table(tmp_path / "b", "file,label\n3,x\n", "val.csv")
    assert read(tmp_path / "b").source.sizes == {"train": 3, "val": 1}
    in_table(tmp_path / "c", "clip;kind;by\n0;x;a\n1;y;a\n2;x;b\n", "meta/about.csv")
    loaded = read(tmp_path / "c", labels="meta/about.csv", label="kind")
    assert sounds(loaded).targets.tolist() == [0, 1, 0]


def test_rows_that_name_no_sound_of_the_folder_are_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path / "secret.wav", tone(100))
    in_table(tmp_path / "data", "file,label\n0,x\n9.wav,x\n../secret.wav,x\n../../etc/0.wav,x\n1,y\n2,\n,y\n")
    loaded = read(tmp_path / "data")
    assert len(sounds(loaded)) == 2
    assert [str(bad) for bad in loaded.bad] == [
        "labels.csv row 3: names 9.wav, which is not there once",
        "labels.csv row 4: names ../secret.wav, which is not there once",
        "labels.csv row 5: names ../../etc/0.wav, which is not there once",
        "clips/2.wav: has no label",
        "labels.csv row 8: names no file, which is not there once",
    ]


def test_a_class_with_one_sound_is_a_class(tmp_path: Path) -> None:
    two_classes(tmp_path)
    write(tmp_path / "rare" / "only.wav", tone(50))
    assert read(tmp_path).source.classes == ("high", "low", "rare")


def test_files_that_are_no_sound_are_left_out_and_told(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "low" / "text.wav").write_text("no sound")
    (tmp_path / "low" / "notes.txt").write_text("not looked at")
    write(tmp_path / "low" / "silent.wav", np.zeros((0, 1)))
    broken = write(tmp_path / "low" / "broken.wav", tone(100))
    header = broken.read_bytes()
    broken.write_bytes(header[:24] + (2**30).to_bytes(4, "little") + header[28:])
    write(tmp_path.parent / f"{tmp_path.name}-out.wav", tone(100))
    (tmp_path / "low" / "link.wav").symlink_to(tmp_path.parent / f"{tmp_path.name}-out.wav")
    loaded = read(tmp_path)
    assert len(sounds(loaded)) == 4
    assert [str(bad) for bad in loaded.bad] == [
        "low/link.wav: is a link that leads out of the folder",
        "low/broken.wav: says it has 1,073,741,824 samples a second",
        "low/silent.wav: has no sound in it",
        "low/text.wav: can't be read: Format not recognised",
    ]


def test_what_only_reading_shows_is_a_bad_sample_with_its_place(tmp_path: Path) -> None:
    two_classes(tmp_path)
    write(tmp_path / "low" / "nan.wav", np.full((800, 1), np.nan), subtype="FLOAT")
    whole = write(tmp_path / "low" / "torn.flac", np.random.default_rng(0).normal(size=(8000, 1)) * 0.1).read_bytes()
    (tmp_path / "low" / "torn.flac").write_bytes(whole[:100])
    found = sounds(read(tmp_path))
    (tmp_path / "low" / "0.wav").unlink()
    said = {}
    for number, place in enumerate(found.places):
        try:
            found[number]
        except BadSample as bad:
            said[place] = bad.what
    assert said.keys() == {"low/0.wav", "low/nan.wav", "low/torn.flac"}
    assert said["low/nan.wav"] == "has values that are no numbers (NaN or infinite)"
    assert said["low/torn.flac"].startswith("can't be read: ")


def test_a_torn_wav_is_as_long_as_the_others(tmp_path: Path) -> None:
    two_classes(tmp_path)
    torn = tmp_path / "low" / "0.wav"
    torn.write_bytes(torn.read_bytes()[:400])
    sound = sounds(read(tmp_path))[2][0]
    assert sound.shape == (1, 800)
    assert sound[0, 200:].abs().max() == 0


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (lambda folder: write(folder / "a" / "x.wav", tone(100)), {}, "has one class only, 'a'"),
        (lambda folder: write(folder / "x.wav", tone(100)), {}, "has no sounds in folders, one a class"),
        (two_classes, {"labels": "x.csv"}, "data.options.labels: there is no CSV file x.csv"),
        (two_classes, {"labels": "/etc/x.csv"}, "data.options.labels: there is no CSV file /etc/x.csv"),
        (lambda folder: in_table(folder, "file,label\n", "../up.csv") and folder, {"labels": "../up.csv"}, "up.csv in"),
        (lambda folder: in_table(folder, "what,who,when\n"), {}, "does not tell which column has the files"),
        (lambda folder: in_table(folder, "file,who,when\n0,a,b\n"), {}, "has the labels: there are file, who, when"),
        (
            lambda folder: in_table(folder, "file,label\n"),
            {"label": "lable"},
            "no column 'lable'. Did you mean 'label'",
        ),
        (two_classes, {"seconds": 1e6}, "Set seconds to fewer in data.options"),
    ],
)
def test_what_can_not_be_used_is_refused_in_words(make: Any, options: Any, said: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        read(tmp_path, **options)
    assert said in str(caught.value)


@pytest.mark.parametrize("options", [{"rate": -1}, {"seconds": -0.5}, {"seconds": math.inf}, {"channels": "surround"}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"data\.options\.{next(iter(options))}"):
        read(two_classes(tmp_path), **options)


def test_samples_go_to_the_processes_that_read_them(tmp_path: Path) -> None:
    found = sounds(read(two_classes(tmp_path)))
    assert torch.equal(pickle.loads(pickle.dumps(found))[0][0], found[0][0])


def test_a_sound_that_a_table_names_twice_is_there_once(tmp_path: Path) -> None:
    two_classes(tmp_path / "sounds")
    lines = ["file,label", "high/0.wav,a", "low/0.wav,b", "high/1.wav,a", "high/0.wav,b"]
    (tmp_path / "sounds" / "labels.csv").write_text("\n".join(lines))
    loaded = load(Data(path=str(tmp_path / "sounds"), options={"labels": "labels.csv"}), "classification")
    assert loaded.source.sizes == {"all": 3}
    assert [str(bad) for bad in loaded.bad] == ["labels.csv row 5: names high/0.wav again, as labels.csv row 2 does"]
