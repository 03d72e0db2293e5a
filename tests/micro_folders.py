"""Data folders for the scripts of the micro model, with phantoms in place of photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import micro_data
from skindualgen.data.phantom import draw_phantom

PHOTOGRAPHS = 6


def phantom_folders(data: Path, patch: pytest.MonkeyPatch) -> Path:
    """Two folders of phantoms as the real ones are, and a list of parts that names them."""
    split = ["isic_id,folder,split,mask"]
    for number in range(PHOTOGRAPHS):
        folder = data / (micro_data.FIRST_FOLDER if number % 2 else micro_data.SECOND_FOLDER)
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        phantom, name = draw_phantom(number, diagnosis="nevus"), f"ISIC_{number:07d}"
        Image.fromarray(phantom.image).resize((256, 256)).save(folder / "images" / f"{name}.jpg", quality=95)
        has_mask = number != 2
        if has_mask:
            Image.fromarray(phantom.mask).resize((256, 256), Image.Resampling.NEAREST).save(
                folder / "masks" / f"{name}.png"
            )
        split.append(f"{name},{folder.name},{'val' if number == 5 else 'train'},{int(has_mask)}")
        file = folder / "metadata.csv"
        header = "" if file.exists() else "image_id,diagnosis,benign_malignant,age,sex,site\n"
        with file.open("a") as table:
            table.write(f"{header}{name},{'melanoma' if number == 1 else 'nevus'},,55.0,female,anterior torso\n")
    (data / "split.csv").write_text("\n".join(split) + "\n")
    patch.setattr(micro_data, "SPLIT_FILE", data / "split.csv")
    return data
