"""Small datasets in the real layout of torchvision's; each picture has the grey of its class, which it so tells."""

from __future__ import annotations

import csv
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

Patch = pytest.MonkeyPatch
Build = Callable[[Path, Patch], None]
SIZES = ((40, 30), (33, 50), (64, 64))


def grey(number: int) -> int:
    """The grey of the pictures of a class."""
    return 25 * number + 20


def paint(path: Path, number: int, size: tuple[int, int] | None = None) -> None:
    """A picture of class `number` at `path`, of one of several sizes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size or SIZES[hash(path.name) % len(SIZES)]
    Image.new("RGB", (width, height), (grey(number),) * 3).save(path)


def mask(path: Path, number: int, size: tuple[int, int]) -> None:
    """A mask whose pixels are all of class `number`, but for a strip that is of none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0]), number, np.uint8)
    pixels[:6] = 255
    Image.fromarray(pixels).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """An array in the format of MNIST's files."""
    kind = {"uint8": 8, "int32": 12}[str(array.dtype)]
    return (
        struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def digits(count: int, classes: int, size: int = 28) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % classes
    return np.stack([np.full((size, size), grey(label), np.uint8) for label in labels]), labels


def caltech101(root: Path, patch: Patch) -> None:
    for number, name in enumerate(("ant", "bat", "cat")):
        for each in (1, 2):
            paint(root / "caltech101/101_ObjectCategories" / name / f"image_{each:04}.jpg", number)
    paint(root / "caltech101/101_ObjectCategories/BACKGROUND_Google/image_0001.jpg", 9)


def caltech256(root: Path, patch: Patch) -> None:
    for number, name in enumerate(("001.ak47", "002.flag", "003.clutter")):
        for each in (1, 2):
            paint(root / "caltech256/256_ObjectCategories" / name / f"{number + 1:03}_{each:04}.jpg", number)


def celeba(root: Path, patch: Patch) -> None:
    names = [f"{number:06}.jpg" for number in range(6)]
    for number, name in enumerate(names):
        paint(root / "celeba/img_align_celeba" / name, number % 2, (178, 218))
    marks = [["1" if at == 31 and number % 2 else "-1" for at in range(40)] for number in range(6)]  # 31 is Smiling
    rows = [" ".join([name, *each]) for name, each in zip(names, marks, strict=True)]
    lists = {
        "list_attr_celeba.txt": "6\n" + " ".join(f"a{n}" for n in range(40)) + "\n" + "\n".join(rows) + "\n",
        "identity_CelebA.txt": "".join(f"{name} 1\n" for name in names),
        "list_bbox_celeba.txt": "6\nx y\n" + "".join(f"{name} 1 2\n" for name in names),
        "list_landmarks_align_celeba.txt": "6\nx y\n" + "".join(f"{name} 1 2\n" for name in names),
        "list_eval_partition.txt": "".join(f"{name} {number // 2}\n" for number, name in enumerate(names)),
    }
    for name, text in lists.items():
        write(root / "celeba" / name, text)
    patch.setattr(datasets.CelebA, "file_list", [("", md5(root / "celeba" / name), name) for name in lists])


def clevr(root: Path, patch: Patch) -> None:
    for split in ("train", "val", "test"):
        scenes = []
        for number in range(4):
            name = f"CLEVR_{split}_{number:06}.png"
            paint(root / "clevr/CLEVR_v1.0/images" / split / name, number, (480, 320))
            scenes.append({"image_filename": name, "objects": [{}] * (number + 3)})
        write(root / f"clevr/CLEVR_v1.0/scenes/CLEVR_{split}_scenes.json", json.dumps({"scenes": scenes}))


def country211(root: Path, patch: Patch) -> None:
    for split in ("train", "valid", "test"):
        for number, name in enumerate(("AD", "AE", "AF")):
            paint(root / "country211" / split / name / f"{split}.jpg", number)


def cityscapes(root: Path, patch: Patch) -> None:
    for split in ("train", "val"):
        for number, city in enumerate(("aachen", "bonn")):
            name = f"{city}_000000_000019"
            paint(root / f"Cityscapes/leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", number, (64, 32))
            mask(root / f"Cityscapes/gtFine/{split}/{city}/{name}_gtFine_labelIds.png", number, (64, 32))


def dtd(root: Path, patch: Patch) -> None:
    for split in ("train", "val", "test"):
        names = [(number, f"{name}/{name}_{split}.jpg") for number, name in enumerate(("banded", "dotted", "woven"))]
        for number, name in names:
            paint(root / "dtd/dtd/images" / name, number)
        write(root / f"dtd/dtd/labels/{split}3.txt", "".join(f"{name}\n" for _, name in names))


def emnist(root: Path, patch: Patch) -> None:
    for split, count in (("train", 8), ("test", 4)):
        images, labels = digits(count, 4)
        for kind, array in (("images-idx3", images), ("labels-idx1", (labels + 1).astype(np.uint8))):
            path = root / f"EMNIST/raw/emnist-letters-{split}-{kind}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(idx(array))


def eurosat(root: Path, patch: Patch) -> None:
    for number, name in enumerate(("AnnualCrop", "Forest", "River")):
        paint(root / "eurosat/2750" / name / f"{name}_1.jpg", number, (64, 64))


def fer2013(root: Path, patch: Patch) -> None:
    images, labels = digits(6, 3, 48)
    path = root / "fer2013/fer2013.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            usage = ("Training", "PublicTest", "PrivateTest")[max(0, number - 3)]
            writer.writerow([label, " ".join(map(str, image.flatten())), usage])
    patch.setitem(datasets.FER2013._RESOURCES, "fer", ("fer2013.csv", md5(path)))


def fgvc(root: Path, patch: Patch) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    write(data / "variants.txt", "707-320\n727-200\nA300B4\n")
    for split in ("train", "val", "test"):
        names = [(number, f"{split}{number}", name) for number, name in enumerate(("707-320", "727-200", "A300B4"))]
        for number, file, _ in names:
            paint(data / f"images/{file}.jpg", number)
        write(data / f"images_variant_{split}.txt", "".join(f"{file} {name}\n" for _, file, name in names))


def flowers(root: Path, patch: Patch) -> None:
    from scipy.io import savemat

    for number in range(1, 7):
        paint(root / f"flowers-102/jpg/image_{number:05}.jpg", number % 3)
    savemat(root / "flowers-102/setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6]})
    savemat(root / "flowers-102/imagelabels.mat", {"labels": [number % 3 + 1 for number in range(1, 7)]})
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        patch.setitem(datasets.Flowers102._file_dict, key, (name, md5(root / "flowers-102" / name)))


def food(root: Path, patch: Patch) -> None:
    for split in ("train", "test"):
        names = {name: [f"{name}/{split}{each}" for each in range(8)] for name in ("apple_pie", "sushi", "tacos")}
        for number, files in enumerate(names.values()):
            for file in files:
                paint(root / f"food-101/images/{file}.jpg", number)
        write(root / f"food-101/meta/{split}.json", json.dumps(names))


def gtsrb(root: Path, patch: Patch) -> None:
    rows = []
    for number in range(3):
        paint(root / f"gtsrb/GTSRB/Training/{number:05}/00000_00000.ppm", number)
        paint(root / f"gtsrb/GTSRB/Final_Test/Images/{number:05}.ppm", 2 - number)
        rows.append(f"{number:05}.ppm;{2 - number}\n")
    write(root / "gtsrb/GT-final_test.csv", "Filename;ClassId\n" + "".join(rows))


def imagenet(root: Path, patch: Patch) -> None:
    names = {f"n{number:08}": (f"thing {number}", f"object {number}") for number in range(3)}
    for split in ("train", "val"):
        for number, wnid in enumerate(names):
            paint(root / f"ImageNet/{split}/{wnid}/{split}_1.JPEG", number)
    torch.save((names, list(names)), root / "ImageNet/meta.bin")


def imagenette(root: Path, patch: Patch) -> None:
    for split in ("train", "val"):
        for number, wnid in enumerate(sorted(datasets.Imagenette._WNID_TO_CLASS)):
            paint(root / f"imagenette2-160/{split}/{wnid}/{split}.JPEG", number % 9)


def inaturalist(root: Path, patch: Patch) -> None:
    for version in ("2021_train_mini", "2021_valid"):
        for number in range(3):
            folder = f"{number:05}_Animalia_Chordata_Aves_Order_Family_Genus_species{number}"
            for each in ("b", "a"):
                paint(root / f"INaturalist/{version}/{folder}/{each}{number}.jpg", number)


def lfw(root: Path, patch: Patch) -> None:
    base = root / "lfw-py"
    people = ("Abba_Eban", "Bill_Gates", "Carla_Bruni")
    for number, name in enumerate(people):
        paint(base / f"lfw_funneled/{name}/{name}_0001.jpg", number, (250, 250))
    write(base / "lfw-names.txt", "".join(f"{name}\t1\n" for name in people))
    write(base / "people.txt", "1\n3\n" + "".join(f"{name}\t1\n" for name in people))
    write(base / "lfw-funneled.tgz", "packed")
    folder, archive, _ = datasets.LFWPeople.file_dict["funneled"]
    patch.setitem(datasets.LFWPeople.file_dict, "funneled", (folder, archive, md5(base / archive)))
    for name in ("lfw-names.txt", "people.txt"):
        patch.setitem(datasets.LFWPeople.checksums, name, md5(base / name))


def omniglot(root: Path, patch: Patch) -> None:
    base = root / "omniglot-py"
    for number, name in enumerate(("Greek/character01", "Greek/character02", "Latin/character01")):
        for each in (1, 2):
            paint(base / f"images_background/{name}/{number:04}_{each:02}.png", number, (105, 105))
    write(base / "images_background.zip", "packed")
    patch.setitem(datasets.Omniglot.zips_md5, "images_background", md5(base / "images_background.zip"))


def pcam(root: Path, patch: Patch) -> None:
    import h5py

    for split in ("train", "test", "val"):
        names = [datasets.PCAM._FILES[split][kind][0] for kind in ("images", "targets")]
        images, labels = digits(4, 2, 96)
        (root / "pcam").mkdir(exist_ok=True)
        with h5py.File(root / "pcam" / names[0], "w") as file:
            file["x"] = np.repeat(images[..., None], 3, axis=3)
        with h5py.File(root / "pcam" / names[1], "w") as file:
            file["y"] = labels.astype(np.uint8).reshape(-1, 1, 1, 1)


def pets(root: Path, patch: Patch) -> None:
    base = root / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        rows = []
        for number, name in enumerate(("Abyssinian", "american_bulldog", "Bengal")):
            file = f"{name}_{split}"
            paint(base / f"images/{file}.jpg", number, (40, 30))
            mask(base / f"annotations/trimaps/{file}.png", number % 3 + 1, (40, 30))
            rows.append(f"{file} {number + 1} {1 + (number == 1)} 1\n")
        write(base / f"annotations/{split}.txt", "".join(rows))


def places(root: Path, patch: Patch) -> None:
    base, kind = root / "Places365", datasets.Places365
    write(base / "categories_places365.txt", "/a/airfield 0\n/b/bar 1\n/c/cave 2\n")
    patch.setattr(kind, "_CATEGORIES_META", ("categories_places365.txt", md5(base / "categories_places365.txt")))
    for split, folder in (("train-standard", "data_256_standard"), ("val", "val_256")):
        for number in range(3):
            paint(base / folder / f"{number}.jpg", number, (256, 256))
        write(base / f"{split}.txt", "".join(f"/{number}.jpg {number}\n" for number in range(3)))
        patch.setitem(kind._FILE_LIST_META, split, (f"{split}.txt", md5(base / f"{split}.txt")))


def qmnist(root: Path, patch: Patch) -> None:
    for split in ("train", "test"):
        images, labels = digits(6, 3)
        wide = np.repeat(labels[:, None], 8, axis=1).astype(np.int32)
        wide[:, 1:] = 7
        for name, array in ((f"qmnist-{split}-images-idx3-ubyte", images), (f"qmnist-{split}-labels-idx2-int", wide)):
            (root / "QMNIST/raw").mkdir(parents=True, exist_ok=True)
            (root / "QMNIST/raw" / name).write_bytes(idx(array))


def rendered(root: Path, patch: Patch) -> None:
    for split in ("train", "valid", "test"):
        for number, name in enumerate(("negative", "positive")):
            paint(root / f"rendered-sst2/{split}/{name}/1.png", number, (448, 448))


def sbd(root: Path, patch: Patch) -> None:
    from scipy.io import savemat

    for number, split in enumerate(("train", "val")):
        paint(root / f"SBDataset/img/{split}.jpg", number, (40, 30))
        (root / "SBDataset/cls").mkdir(exist_ok=True)
        content = {"GTcls": {"Segmentation": np.full((30, 40), number, np.uint8)}}
        savemat(root / f"SBDataset/cls/{split}.mat", content)
        write(root / f"SBDataset/{split}.txt", f"{split}\n")


def semeion(root: Path, patch: Patch) -> None:
    rows = []
    for number in range(10):
        pixels = np.zeros(256)
        pixels[: 20 * number] = 1
        rows.append(np.concatenate([pixels, np.eye(10)[number]]))
    np.savetxt(root / "semeion.data", np.stack(rows), fmt="%.1f")
    patch.setattr(datasets.SEMEION, "md5_checksum", md5(root / "semeion.data"))


def stanford_cars(root: Path, patch: Patch) -> None:
    from scipy.io import savemat

    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    names = np.array(["AM General", "Acura", "BMW"], dtype=object)
    savemat(base / "devkit/cars_meta.mat", {"class_names": names})
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        kind = [("fname", object), ("class", np.uint8)]
        rows = np.array([(f"{number}.jpg", number + 1) for number in range(3)], dtype=kind)
        savemat(base / path, {"annotations": rows})
        for number in range(3):
            paint(base / f"cars_{split}/{number}.jpg", number)


def sun397(root: Path, patch: Patch) -> None:
    write(root / "SUN397/ClassName.txt", "/a/abbey\n/b/bar/indoor\n/b/bar/outdoor\n")
    for number, name in enumerate(("a/abbey", "b/bar/indoor", "b/bar/outdoor")):
        for each in ("b", "a"):
            paint(root / f"SUN397/{name}/sun_{each}{number}.jpg", number)


def usps(root: Path, patch: Patch) -> None:
    import bz2

    for key in ("train", "test"):
        url, name, _ = datasets.USPS.split_list[key]
        values = [2 * grey(number) / 255 - 1 for number in range(3)]
        rows = [f"{number + 1} " + " ".join(f"{at + 1}:{v}" for at in range(256)) for number, v in enumerate(values)]
        (root / name).write_bytes(bz2.compress("\n".join(rows).encode()))
        patch.setitem(datasets.USPS.split_list, key, [url, name, md5(root / name)])


def voc(root: Path, patch: Patch) -> None:
    base = root / "VOCdevkit/VOC2012"
    for number, split in enumerate(("train", "val")):
        paint(base / f"JPEGImages/2007_{split}.jpg", number, (40, 30))
        mask(base / f"SegmentationClass/2007_{split}.png", number, (40, 30))
        write(base / f"ImageSets/Segmentation/{split}.txt", f"2007_{split}\n")


BUILDS: dict[str, Build] = {
    "Caltech101": caltech101,
    "Caltech256": caltech256,
    "CelebA": celeba,
    "CLEVRClassification": clevr,
    "Country211": country211,
    "DTD": dtd,
    "EMNIST": emnist,
    "EuroSAT": eurosat,
    "FER2013": fer2013,
    "FGVCAircraft": fgvc,
    "Flowers102": flowers,
    "Food101": food,
    "GTSRB": gtsrb,
    "ImageNet": imagenet,
    "Imagenette": imagenette,
    "INaturalist": inaturalist,
    "LFWPeople": lfw,
    "Omniglot": omniglot,
    "OxfordIIITPet": pets,
    "PCAM": pcam,
    "Places365": places,
    "QMNIST": qmnist,
    "RenderedSST2": rendered,
    "SEMEION": semeion,
    "StanfordCars": stanford_cars,
    "SUN397": sun397,
    "USPS": usps,
    "VOCSegmentation": voc,
    "SBDataset": sbd,
    "Cityscapes": cityscapes,
}
