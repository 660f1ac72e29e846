"""What torchvision's classes can't tell of their datasets before a download, and why some of them are left out.

A line a dataset. Everything else (which parameter selects a part, whether it downloads, which options it takes) is
found by introspection; `tests/engine/data/test_vision_table.py` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

USUAL = 224
"""The side that pictures of many sizes are brought to: what most models of the zoo were made for."""
DIGITS = tuple("0123456789")
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_FACES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_LAND = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial",
    "Pasture", "PermanentCrop", "Residential", "River", "SeaLake",
)  # fmt: skip
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip
_BOXED = tuple(name.replace(" ", "") for name in _VOC[1:])
_TRAFFIC = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
_ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """What a person may choose: `values`, of which `default` is one, or any of its type where there are none.

    `changes` says what else a value makes of the row, by the row's fields. It is passed to torchvision under its own
    name, or as `parameter`; "" passes it not. `doc` says what it is where torchvision does not.
    """

    default: Any
    values: tuple[Any, ...] = ()
    changes: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)
    parameter: str | None = None
    doc: str = ""


@dataclass(frozen=True)
class Row:
    """What is known of one of torchvision's datasets.

    `shape` is (channels, height, width), with 0 × 0 where the pictures have many sizes. `sizes` count the samples of
    each part, `parts` say what torchvision calls a part where that is not its own name. `given` is passed to
    torchvision as it stands. `targets` names the attribute that has the targets where that is not found, and `column`
    the column in it; `first` is the number of the first class. `whole` says that all of it is kept in memory. `needs`
    is a package that reads it. `by_hand` says what a person must fetch, because torchvision can't. `own_folder`: it
    would else put bare files beside other datasets.
    """

    name: str
    about: str
    shape: tuple[int, int, int]
    outputs: int
    sizes: Mapping[str, int]
    mb: int
    task: str = "classification"
    classes: tuple[str, ...] = ()
    twin: str = ""
    parts: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    targets: str = ""
    column: int = 0
    first: int = 0
    whole: bool = False
    needs: str = ""
    by_hand: str = ""
    own_folder: bool = False


@dataclass(frozen=True)
class Reason:
    """Why a dataset is left out, after its name and a colon, and what a person may do instead."""

    why: str
    instead: str


_MANY = (3, 0, 0)


def _parts(train: int, val: int = 0, test: int = 0) -> dict[str, int]:
    return {name: count for name, count in (("train", train), ("val", val), ("test", test)) if count}


def _digits(name: str, about: str, train: int, test: int, mb: int, **more: Any) -> Row:
    """Small grey pictures that torchvision keeps in memory."""
    values = {"shape": (1, 28, 28), "classes": DIGITS, "whole": True, **more}
    outputs = values.pop("outputs", len(values["classes"]))
    return Row(name=name, about=about, outputs=outputs, sizes=_parts(train, test=test), mb=mb, **values)


def _emnist(train: int, test: int, classes: str, **more: Any) -> dict[str, Any]:
    return {"sizes": _parts(train, test=test), "outputs": len(classes), "classes": tuple(classes), **more}


_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_MERGED = "".join(DIGITS) + _UPPER + "abdefghnqrt"
_EMNIST = Option(
    "balanced",
    ("byclass", "bymerge", "balanced", "letters", "digits", "mnist"),
    {
        "byclass": _emnist(697932, 116323, "".join(DIGITS) + _UPPER + _LOWER),
        "bymerge": _emnist(697932, 116323, _MERGED),
        "letters": _emnist(124800, 20800, _LOWER, first=1),
        "digits": _emnist(240000, 40000, "".join(DIGITS)),
        "mnist": _emnist(60000, 10000, "".join(DIGITS)),
    },
)
_PETS = Option(
    "category",
    ("category", "binary-category", "segmentation"),
    {
        "binary-category": {"outputs": 2, "classes": ("Cat", "Dog"), "targets": "_bin_labels"},
        "segmentation": {
            "task": "segmentation", "outputs": 3, "classes": ("pet", "background", "border"), "targets": "", "first": 1,
        },
    },
)  # fmt: skip
_PLANES = Option(
    "variant", ("variant", "family", "manufacturer"), {"family": {"outputs": 70}, "manufacturer": {"outputs": 30}}
)
_NETTE = Option("160px", ("160px", "320px", "full"), {"320px": {"mb": 342}, "full": {"mb": 1557}}, parameter="size")
_NATURE = Option(
    "2021_train_mini",
    ("2021_train_mini", "2021_train", "2019", "2018", "2017"),
    {
        "2021_train": {"sizes": _parts(2_686_843, 100_000), "parts": {"train": "2021_train", "val": "2021_valid"},
                       "mb": 232_400},
        "2019": {"sizes": {"all": 268_243}, "parts": {"all": "2019"}, "outputs": 1010, "mb": 82_000},
        "2018": {"sizes": {"all": 461_939}, "parts": {"all": "2018"}, "outputs": 8142, "mb": 120_000},
        "2017": {"sizes": {"all": 675_170}, "parts": {"all": "2017"}, "outputs": 5089, "mb": 186_000},
    },
    parameter="",
)  # fmt: skip
_SMALL = Option(True, (True, False), {False: {"shape": _MANY, "mb": 107_000}})
_CELEBRITY = Option(
    "Smiling",
    _ATTRIBUTES,
    {name: {"column": n} for n, name in enumerate(_ATTRIBUTES)},
    parameter="",
    doc="what is told of a face, in two classes: with it and without",
)
_OMNIGLOT = Option(True, (True, False), {False: {"sizes": {"all": 13180}, "outputs": 659, "mb": 6}})


def _years(*counts: tuple[str, int, int, int, int]) -> Option:
    """Years of VOC before the last: how many pictures for training, validation and test, and how many megabytes."""
    changes = {year: {"sizes": _parts(*sizes), "mb": mb} for year, *sizes, mb in counts}
    return Option("2012", ("2012", *changes), changes)


# Of the test sets only that of 2007 was published with what is to be found in them.
_YEAR = _years(
    ("2011", 1112, 1111, 0, 1700), ("2010", 964, 964, 0, 1300), ("2009", 749, 750, 0, 900), ("2008", 511, 512, 0, 553),
    ("2007", 209, 213, 210, 911),
)  # fmt: skip
_BOXED_YEAR = _years(
    ("2011", 5717, 5823, 0, 1700), ("2010", 4998, 5105, 0, 1300), ("2009", 3473, 3581, 0, 900),
    ("2008", 2111, 2221, 0, 553), ("2007", 2501, 2510, 4952, 911),
)  # fmt: skip
_DIFFICULT = Option(
    False, parameter="", doc="keep boxes around what is hard to recognise, which VOC's own evaluation leaves out"
)
_DONT_CARE = Option(
    False,
    (False, True),
    {True: {"outputs": 9, "classes": (*_TRAFFIC, "DontCare")}},
    parameter="",
    doc="keep DontCare, regions whose things are too far away to be marked one by one, as a class of its own",
)
_INVALID = Option(False, parameter="", doc="keep faces that are marked as invalid: too small or unclear to be told")

ROWS = (
    # Kept whole in memory, and served as one tensor.
    _digits("MNIST", "70,000 handwritten digits.", 60000, 10000, 12, twin="mnist5k"),
    _digits("FashionMNIST", "70,000 pictures of clothes.", 60000, 10000, 31, classes=_FASHION),
    _digits("KMNIST", "70,000 cursive Japanese letters.", 60000, 10000, 21, classes=_KMNIST),
    _digits("EMNIST", "Handwritten letters and digits, lying on their side.", 112800, 18800, 562,
            classes=tuple(_MERGED), options={"split": _EMNIST}),
    _digits("QMNIST", "MNIST with a test set of 60,000.", 60000, 60000, 20, twin="mnist5k"),
    _digits("USPS", "9,298 digits from envelopes.", 7291, 2007, 8, shape=(1, 16, 16), twin="mnist5k"),
    Row("SEMEION", "1,593 handwritten digits, drawn twice by 80 people.", (1, 16, 16), 10, {"all": 1593}, 3,
        classes=DIGITS, whole=True, twin="mnist5k"),
    _digits("CIFAR10", "60,000 colour pictures of animals and vehicles.", 50000, 10000, 170, shape=(3, 32, 32),
            classes=_CIFAR),
    _digits("CIFAR100", "60,000 colour pictures of a hundred things.", 50000, 10000, 169, shape=(3, 32, 32), classes=(),
            outputs=100),
    _digits("SVHN", "99,289 house numbers from the street.", 73257, 26032, 246, shape=(3, 32, 32)),
    _digits("STL10", "13,000 larger pictures of ten things.", 5000, 8000, 2640, shape=(3, 96, 96), classes=_STL),
    _digits("FER2013", "35,887 faces and what they feel; fetched by hand.", 28709, 7178, 97, shape=(1, 48, 48),
            classes=_FACES, by_hand="fer2013.csv of Kaggle's fer2013 into the folder fer2013"),
    # Pictures of one size, read one by one.
    Row("EuroSAT", "27,000 satellite pictures of ten kinds of land.", (3, 64, 64), 10, {"all": 27000}, 94,
        classes=_LAND),
    Row("Omniglot", "20 drawings of each letter of fifty alphabets.", (1, 105, 105), 964, {"all": 19280}, 10,
        options={"background": _OMNIGLOT}),
    Row("PCAM", "327,680 pieces of lymph nodes, with metastases or without.", (3, 96, 96), 2,
        _parts(262144, 32768, 32768), 7700, classes=("normal", "tumour"), needs="h5py"),
    Row("CelebA", "202,599 faces of celebrities, one of 40 attributes.", (3, 218, 178), 2,
        _parts(162770, 19867, 19962), 1443, classes=("no", "yes"), parts={"val": "valid"}, targets="attr",
        options={"attribute": _CELEBRITY}),
    Row("LFWPeople", "13,233 faces of 5,749 people; fetched by hand.", (3, 250, 250), 5749, {"all": 13233}, 243,
        parts={"all": "10fold"}, by_hand="LFW's archives of faces and lists into the folder lfw-py",
        options={"image_set": Option("funneled", ("original", "funneled", "deepfunneled"))}),
    Row("CLEVRClassification", "85,000 rendered scenes; how many things stand in each.", (3, 320, 480), 8,
        _parts(70000, 15000), 18_021, classes=(*"3456789", "10"), first=3),
    Row("RenderedSST2", "9,613 sentences on films, drawn as pictures; praise or not.", (3, 448, 448), 2,
        _parts(6920, 872, 1821), 131, classes=("negative", "positive")),
    Row("Places365", "1.8 million pictures of places, 365 kinds.", (3, 256, 256), 365, _parts(1803460, 36500), 25_600,
        parts={"train": "train-standard"}, options={"small": _SMALL}, own_folder=True),
    # Pictures of many sizes.
    Row("Caltech101", "8,677 pictures of 101 things.", _MANY, 101, {"all": 8677}, 137),
    Row("Caltech256", "30,607 pictures of 256 things, and clutter.", _MANY, 257, {"all": 30607}, 1184),
    Row("Country211", "63,300 photos of 211 countries.", _MANY, 211, _parts(31650, 10550, 21100), 11_500,
        parts={"val": "valid"}),
    Row("DTD", "5,640 textures in words.", _MANY, 47, _parts(1880, 1880, 1880), 625,
        options={"partition": Option(1, tuple(range(1, 11)))}),
    Row("FGVCAircraft", "10,000 pictures of aeroplanes.", _MANY, 100, _parts(3334, 3333, 3333), 2754,
        options={"annotation_level": _PLANES}),
    Row("Flowers102", "8,189 pictures of flowers.", _MANY, 102, _parts(1020, 1020, 6149), 345),
    Row("Food101", "101,000 pictures of dishes.", _MANY, 101, _parts(75750, test=25250), 4996),
    Row("GTSRB", "39,270 German traffic signs.", _MANY, 43, _parts(26640, test=12630), 276),
    Row("Imagenette", "13,394 pictures of ten easy classes of ImageNet.", _MANY, 10, _parts(9469, 3925), 99,
        options={"resolution": _NETTE}),
    Row("ImageNet", "1.3 million pictures of 1,000 things; fetched by hand.", _MANY, 1000, _parts(1281167, 50000),
        147_000, by_hand="ILSVRC2012's devkit, train and val archives", own_folder=True),
    Row("INaturalist", "Pictures of 10,000 kinds of living things.", _MANY, 10000, _parts(500_000, 100_000), 50_400,
        parts={"train": "2021_train_mini", "val": "2021_valid"}, options={"version": _NATURE}, own_folder=True),
    Row("OxfordIIITPet", "7,349 cats and dogs of 37 breeds.", _MANY, 37, _parts(3680, test=3669), 811,
        parts={"train": "trainval"}, options={"target_types": _PETS}, targets="_labels"),
    Row("StanfordCars", "16,185 cars of 196 models; fetched by hand.", _MANY, 196, _parts(8144, test=8041), 1960,
        by_hand="the pictures and the devkit of Kaggle's stanford-cars into the folder stanford_cars"),
    Row("SUN397", "108,754 pictures of 397 scenes.", _MANY, 397, {"all": 108_754}, 39_000),
    # A class for each pixel.
    Row("VOCSegmentation", "2,913 photos, a class of 21 for each pixel.", _MANY, 21, _parts(1464, 1449), 2000,
        task="segmentation", classes=_VOC, options={"year": _YEAR}),
    Row("SBDataset", "11,355 photos of PASCAL VOC, a class of 21 for each pixel.", _MANY, 21, _parts(8498, 2857), 1420,
        task="segmentation", classes=_VOC, given={"mode": "segmentation"}, own_folder=True),
    Row("Cityscapes", "3,475 street scenes, a class of 34 for each pixel; fetched by hand.", (3, 1024, 2048), 34,
        _parts(2975, 500), 11_800, task="segmentation", given={"target_type": "semantic"}, own_folder=True,
        by_hand="leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com"),
    # Boxes around things: opened, checked and looked at.
    Row("VOCDetection", "11,540 photos, boxes around things of 20 kinds.", _MANY, 20, _parts(5717, 5823), 2000,
        task="detection", classes=_BOXED, options={"year": _BOXED_YEAR, "keep_difficult": _DIFFICULT}),
    Row("Kitti", "7,481 pictures from a car, boxes around cars, people and others.", _MANY, 8, {"all": 7481}, 12_576,
        task="detection", classes=_TRAFFIC, options={"keep_dont_care": _DONT_CARE}),
    Row("WIDERFace", "16,106 photos of crowds and occasions, boxes around faces.", _MANY, 1, _parts(12880, 3226), 3676,
        task="detection", classes=("face",), options={"keep_invalid": _INVALID}),
)  # fmt: skip


_VIDEO = Reason(
    "it is video, which no task takes",
    "Take pictures out of the clips, into a folder for each class, and name that as path.",
)
_CAPTIONS = Reason(
    "its pictures have sentences, and no task finds words for pictures",
    "Name its pictures as path, in a folder for each class, or its sentences alone, with labels.",
)
_PAIRS = Reason("its samples are two pictures each, and no task compares them", "Choose LFWPeople for single faces.")
_PATCHES = Reason(_PAIRS.why, "Choose a dataset with classes, such as DTD.")
_SCENES = Reason(
    "torchvision can't fetch its databases of LMDB, and leaves a pickle in the working directory when it reads them",
    "Export its pictures with lsun's data.py into a folder for each class, and name that as path.",
)
_FLOW = Reason(
    "its samples are two pictures and the movement of each pixel, which no task learns",
    "Choose VOCSegmentation or Cityscapes for a class of each pixel.",
)
_STEREO = Reason("its samples are two pictures and the depth of each pixel, which no task learns", _FLOW.instead)
_FOLDER = Reason("it reads files of your own", 'Name their folder instead: path = "…", format = "images".')

EXCLUDED = {
    "HMDB51": _VIDEO,
    "Kinetics": _VIDEO,
    "UCF101": _VIDEO,
    "MovingMNIST": Reason(
        "it is video to be continued, and no task makes pictures of pictures", "For its digits choose MNIST."
    ),
    "CocoCaptions": _CAPTIONS,
    "Flickr30k": _CAPTIONS,
    "Flickr8k": _CAPTIONS,
    "SBU": _CAPTIONS,
    "CocoDetection": Reason(
        "torchvision has nothing to download for it, only a reader",
        'Fetch pictures and instances_*.json of cocodataset.org, and name the folder: path = "…", format = "coco".',
    ),
    "LFWPairs": _PAIRS,
    "PhotoTour": _PATCHES,
    "LSUN": _SCENES,
    "LSUNClass": _SCENES,
    "FakeData": Reason("it is noise: there is nothing to learn", "Choose mnist5k, which ships, to try a model."),
    "ImageFolder": _FOLDER,
    "DatasetFolder": _FOLDER,
    "VisionDataset": Reason("it holds no samples: the others are made of it", "Choose one of the others."),
}
EXCLUDED_MODULES = {"_optical_flow": _FLOW, "_stereo_matching": _STEREO}
EXCLUDED_PARAMETERS = {"frames_per_clip": _VIDEO}
"""Of a class that takes one of these."""
