"""Real photographs for the micro model: the parts listed in docs/results/micro2_split.csv, and random views of them.

`python scripts/micro_data.py split --data ../shared/data` writes that list; `... pack --out FILE` writes train and val
(never test) as one file of small JPEGs, masks and their metadata, for a machine that has no data folder.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from skindualgen.contracts import PairRecord
from skindualgen.data.terms import known

ROOT = Path(__file__).resolve().parent.parent
SPLIT_FILE = ROOT / "docs" / "results" / "micro2_split.csv"
FIRST_SPLIT_FILE = ROOT / "docs" / "results" / "micro_split.csv"
"""train and val of the first data folder, as the first micro model had them"""
FIRST_FOLDER, SECOND_FOLDER = "dermoscopy", "dermoscopy_more"
FOLDER_PX = 256
"""side of the photographs in the data folders"""
PACK_PX, PACK_QUALITY = 160, 90
MIN_ZOOM = 0.7
"""smallest side of a random crop, as a share of the picture"""
CROP_SIDES = 8
"""different sides of crops in a batch that is made at once"""
TEXT_FIELDS = ("diagnosis", "benign_malignant", "age", "sex", "site")


def split_rows(data: Path) -> list[dict[str, str]]:
    """The list of parts: old train and val as they were, new train added to train, new test as test."""
    with FIRST_SPLIT_FILE.open(newline="") as file:
        first = {row["isic_id"]: row["split"] for row in csv.DictReader(file)}
    rows = [{"isic_id": i, "folder": FIRST_FOLDER, "split": part, "mask": "1"} for i, part in first.items()]
    for row in table(data / SECOND_FOLDER).values():
        part = {"isic_id": row["image_id"], "folder": SECOND_FOLDER, "split": row["split"], "mask": row["has_mask"]}
        rows.append(part)
    return rows


def table(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of a folder's ``metadata.csv`` by image id."""
    with (folder / "metadata.csv").open(newline="") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def read_split(split: str) -> list[dict[str, str]]:
    """Rows of one part of :data:`SPLIT_FILE`, in file order."""
    with SPLIT_FILE.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def record_of(isic_id: str, row: dict[str, str]) -> PairRecord:
    """What prompts are made of."""
    return PairRecord(
        file_name=f"images/{isic_id}.jpg",
        isic_id=isic_id,
        diagnosis=row["diagnosis"] or None,
        benign_malignant=known(row["benign_malignant"] or None),
        age_approx=int(float(row["age"])) if row["age"] else None,
        sex=row["sex"] or None,
        anatom_site_general=row["site"] or None,
    )


def load_part(data: Path, split: str) -> tuple[Tensor, list[PairRecord]]:
    """Photographs of one part as [n, h, w, 3] uint8, and their records.

    Args:
        data: the folder that holds both data folders, or a file written by ``pack``.
        split: "train" or "val".
    """
    if data.is_file():
        return _load_pack(data, split)
    rows = read_split(split)
    tables = {name: table(data / name) for name in {row["folder"] for row in rows}}
    files = [data / row["folder"] / "images" / f"{row['isic_id']}.jpg" for row in rows]
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    return torch.from_numpy(images), [record_of(r["isic_id"], tables[r["folder"]][r["isic_id"]]) for r in rows]


def _load_pack(pack: Path, split: str) -> tuple[Tensor, list[PairRecord]]:
    items = [item for item in read_pack(pack) if item["split"] == split]
    images = [np.asarray(Image.open(io.BytesIO(item["image"]))) for item in items]
    return torch.from_numpy(np.stack(images)), [record_of(item["isic_id"], item) for item in items]


def read_pack(pack: Path) -> Iterator[dict[str, Any]]:
    """Yield what :func:`write_pack` wrote: a row's fields, ``image`` (JPEG bytes) and ``mask_file`` (PNG, or empty)."""
    content = np.load(pack)
    parts = [part.tobytes() for part in np.split(content["bytes"], content["ends"][:-1])]
    for index, item in enumerate(json.loads(content["items"].item())):
        yield item | {"image": parts[2 * index], "mask_file": parts[2 * index + 1]}


def write_pack(data: Path, out: Path) -> None:
    """Write train and val as one ``.npz``: JPEG and PNG bytes end to end, where each ends, and what captions need."""
    parts, items = [], []
    tables = {name: table(data / name) for name in (FIRST_FOLDER, SECOND_FOLDER)}
    for row in (*read_split("train"), *read_split("val")):
        folder, about = data / row["folder"], tables[row["folder"]][row["isic_id"]]
        items.append(row | {name: about[name] for name in TEXT_FIELDS})
        image = Image.open(folder / "images" / f"{row['isic_id']}.jpg")
        parts.append(_encoded(image.resize((PACK_PX, PACK_PX), Image.Resampling.LANCZOS), "JPEG"))
        if row["mask"] == "1":
            mask = Image.open(folder / "masks" / f"{row['isic_id']}.png").convert("L")
            small = mask.resize((PACK_PX, PACK_PX), Image.Resampling.BOX).point(lambda value: 255 * (value > 127))
            parts.append(_encoded(small.convert("1"), "PNG"))
        else:
            parts.append(np.zeros(0, np.uint8))
    ends = np.cumsum([len(part) for part in parts])
    with out.open("wb") as file:
        np.savez(file, bytes=np.concatenate(parts), ends=ends, items=np.array(json.dumps(items)))


def _encoded(image: Image.Image, kind: str) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": PACK_QUALITY} if kind == "JPEG" else {"optimize": True}))
    return np.frombuffer(buffer.getvalue(), np.uint8)


def write_source(data: Path, out: Path) -> None:
    """Lay train and val out as ``skindualgen prepare`` reads them: images/, masks/, metadata.csv and split.csv."""
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True, exist_ok=True)
    if data.is_file():
        items = list(read_pack(data))
        for item in items:
            (out / "images" / f"{item['isic_id']}.jpg").write_bytes(item.pop("image"))
            mask = item.pop("mask_file")
            if mask:
                (out / "masks" / f"{item['isic_id']}.png").write_bytes(mask)
    else:
        tables = {name: table(data / name) for name in (FIRST_FOLDER, SECOND_FOLDER)}
        items = [
            row | tables[row["folder"]][row["isic_id"]] | {"split": row["split"]}
            for row in (*read_split("train"), *read_split("val"))
        ]
        for item in items:
            folder = data / item["folder"]
            for kind, ending in (("images", "jpg"), ("masks", "png")):
                if kind == "images" or item["mask"] == "1":
                    shutil.copy2(folder / kind / f"{item['isic_id']}.{ending}", out / kind)
    with (out / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image_id", *TEXT_FIELDS], lineterminator="\n")
        writer.writeheader()
        for item in items:
            writer.writerow({"image_id": item["isic_id"]} | {name: item[name] for name in TEXT_FIELDS})
    with (out / "split.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["isic_id", "split"], lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(items)


def random_view(
    image: Tensor, size_px: int, generator: np.random.Generator, min_zoom: float, *, turn: int | None = None
) -> Tensor:
    """One random crop, flip and quarter turn of [h, w, 3] uint8, as [3, size, size] uint8.

    Args:
        turn: which of the eight flips and turns; None draws one.
    """
    side = image.shape[0]
    crop = int(generator.integers(int(min_zoom * side), side + 1))
    top, left = generator.integers(side - crop + 1, size=2)
    view = image[top : top + crop, left : left + crop].permute(2, 0, 1)[None]
    view = F.interpolate(view, size_px, mode="bilinear", antialias=True, align_corners=False)[0]
    turn = int(generator.integers(8)) if turn is None else turn
    view = view.flip(-1) if turn >= 4 else view
    return view.rot90(turn % 4, (1, 2))


def random_views(
    images: Tensor, count: int, size_px: int, generator: np.random.Generator, min_zoom: float = MIN_ZOOM
) -> Tensor:
    """Draw random crops, flips and quarter turns: [n, h, w, 3] uint8 -> [count, 3, size, size] in [-1, 1]."""
    chosen = generator.integers(len(images), size=count)
    views = torch.stack([random_view(images[i], size_px, generator, min_zoom) for i in chosen])
    return views.float() / 127.5 - 1


def device_views(
    images: Tensor,
    count: int,
    size_px: int,
    generator: np.random.Generator,
    zoom: tuple[float, float] = (MIN_ZOOM, 1.0),
    chosen: Tensor | None = None,
) -> Tensor:
    """What :func:`random_views` draws, in few large operations on the device of the photographs.

    The side of a crop is drawn for an eighth of the batch, not for each view; places, flips and turns are each view's
    own, and come from torch's generator of that device.

    Args:
        images: [n, h, w, 3] uint8, square.
        zoom: least and most side of a crop, as a share of the picture.
        chosen: which photographs [count]; random ones if not given.

    Returns:
        [count, 3, size, size] float32 in [-1, 1].
    """
    device, side = images.device, images.shape[1]
    chosen = torch.randint(len(images), (count,), device=device) if chosen is None else chosen
    views = []
    for part in chosen.chunk(CROP_SIDES):
        crop = int(generator.integers(int(zoom[0] * side), int(zoom[1] * side) + 1))
        top, left = torch.randint(side - crop + 1, (2, len(part), 1), device=device)
        flipped_rows, flipped_columns, turned = torch.randint(2, (3, len(part), 1), device=device).bool()
        line = torch.arange(crop, device=device)
        rows = top + torch.where(flipped_rows, crop - 1 - line, line)  # [b, crop]
        columns = left + torch.where(flipped_columns, crop - 1 - line, line)
        view = images[part[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        view = torch.where(turned[:, :, None, None], view.transpose(2, 3), view).float()  # [b, 3, crop, crop]
        views.append(F.interpolate(view, size_px, mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(views) / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["split", "pack"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, help="of pack")
    args = parser.parse_args()
    if args.what == "pack":
        write_pack(args.data, args.out or ROOT / "runs" / "micro2_pack.npz")
        return
    with SPLIT_FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["isic_id", "folder", "split", "mask"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(split_rows(args.data))


if __name__ == "__main__":
    main()
