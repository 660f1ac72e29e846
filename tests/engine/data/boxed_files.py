"""Small datasets of boxes in the real layout of torchvision's: things are white; what is wrong is so on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Corners = tuple[float, float, float, float]
SIZE = (60, 40)
THING: Corners = (10, 8, 30, 28)
"""A box whose pixels are white: left, top, right, bottom."""


def paint(path: Path, corners: Corners = THING, size: tuple[int, int] = SIZE) -> None:
    array = np.zeros((size[1], size[0]), np.uint8)
    left, top, right, bottom = map(int, corners)
    array[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).convert("RGB").save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def voc_object(kind: str, corners: Corners, difficult: int = 0) -> str:
    """As VOC has it: pixels are counted from 1, the last is in the box."""
    left, top, right, bottom = corners
    sides = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return (
        f"<object><name>{kind}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>"
        f"<bndbox>{sides}</bndbox>{part if kind == 'person' else ''}</object>"
    )


def voc_picture(base: Path, name: str, objects: Sequence[str]) -> None:
    width, height = SIZE
    write(
        base / f"Annotations/{name}.xml",
        f"<annotation>\n<folder>{base.name}</folder><filename>{name}.jpg</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size><segmented>0</segmented>\n"
        f"{''.join(objects)}</annotation>\n",
    )
    paint(base / f"JPEGImages/{name}.jpg")


def voc(root: Path, year: str = "2012", parts: Sequence[str] = ("train", "val")) -> Path:
    """A dog and a person in each picture; in those of `train` also a difficult one, and what is wrong."""
    base = root / f"VOCdevkit/VOC{year}"
    good = [voc_object("dog", THING), voc_object("person", (30.5, 20, 50, 40))]
    for part in parts:
        names = [f"{year}_{part}_{number}" for number in (2, 1)]
        voc_picture(base, names[0], good)
        voc_picture(base, names[1], [*good, voc_object("dog", (0, 0, 5, 5), 1)] if part == "train" else [])
        write(base / f"ImageSets/Main/{part}.txt", "".join(f"{name}\n" for name in names))
    if "train" in parts:
        wrong = [voc_object("cat", (70, 8, 90, 28)), voc_object("cat", (9, 8, 9, 28)), voc_object("unicorn", THING)]
        voc_picture(base, f"{year}_train_3", [*good, voc_object("cat", (40, 8, 66, 28)), *wrong])
        voc_picture(base, f"{year}_train_4", good)
        (base / f"JPEGImages/{year}_train_4.jpg").unlink()
        voc_picture(base, f"{year}_train_5", good)
        write(base / f"Annotations/{year}_train_5.xml", "<annotation><object>")
        with (base / "ImageSets/Main/train.txt").open("a") as listed:
            listed.write("".join(f"{year}_train_{number}\n" for number in (3, 4, 5)))
    return base


def kitti_line(kind: str, corners: Corners) -> str:
    return f"{kind} 0.00 0 -1.58 {' '.join(f'{each:.2f}' for each in corners)} 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"


def kitti(root: Path) -> None:
    base = root / "Kitti/raw/training"
    lines = kitti_line("Car", THING) + kitti_line("Person_sitting", (30.5, 20, 50, 39.5))
    for number in range(10):
        paint(base / f"image_2/{number:06}.png")
        write(base / f"label_2/{number:06}.txt", lines)
    write(base / "label_2/000001.txt", lines + kitti_line("DontCare", (1, 1, 5, 5)) + kitti_line("Van", (9, 9, 9, 20)))
    write(base / "label_2/000002.txt", "Car 0.00 0\n")
    (base / "label_2/000003.txt").unlink()
    (base / "image_2/000004.png").write_bytes(b"")


def wider_face(root: Path) -> None:
    """Faces lie at left, top, with width and height, and ten attributes; one without a face has noughts."""
    base = root / "widerface"
    (base / "WIDER_test").mkdir(parents=True)
    for part in ("train", "val"):
        lines: list[str] = []
        boxes = ["10 8 20 20 0 0 0 0 0 0", "30 20 20 20 2 0 0 1 0 0"]
        more = ["1 1 4 4 2 0 0 0 0 1", "5 5 0 9 0 0 0 0 0 0"] if part == "train" else []
        for name, faces in (
            ("1--Handshaking/1_b.jpg", ["0 0 0 0 0 0 0 0 0 0"]),
            ("0--Parade/0_a.jpg", [*boxes, *more]),
            ("0--Parade/0_gone.jpg", boxes),
        ):
            lines += [name, str(0 if name.startswith("1--") else len(faces)), *(f"{face} " for face in faces)]
            if "gone" not in name or part == "val":
                paint(base / f"WIDER_{part}/images/{name}")
        write(base / f"wider_face_split/wider_face_{part}_bbx_gt.txt", "".join(f"{line}\n" for line in lines))
