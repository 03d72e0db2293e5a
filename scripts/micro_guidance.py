"""What a trained base draws for the captions of the val photographs: numbers and a contact sheet, for ways of guidance.

    python scripts/micro_guidance.py --base RUN/labelled/out --guides RUN/labelled/out-guide --out RUN/report

Writes OUT/measures.json and OUT/sheet.jpg, anew after each way: for every ten captions a row of the photographs, then a
row of each way in the order of measures.json. A guide is a weaker base, such as the same one early in its training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from micro_data import ROOT, load_part
from micro_device import add_device_options, on_gpu, prepare_device
from micro_latents import token_ids
from micro_samples import BATCH, SHEET_COLUMNS, Measure, denoise, save_sheet, to_pictures
from skindualgen.files import atomic_write_json
from skindualgen.model.bases import Base, load_base

SCALES = (1.5, 2.0)
SHEET_BLOCKS = 4
GPU_BATCH = 256


class Artist:
    """Draws one picture for each caption, always from the same noise.

    Args:
        base: that draws.
        ids: token ids of the captions [n, 77].
        device: cpu or cuda.
    """

    def __init__(self, base: Base, ids: Tensor, device: str) -> None:
        self.base, self.ids, self.device = base, ids, device
        self.nothing = token_ids(base.tokenizer, [""])
        for part in (base.unet, base.text_encoder, base.vae):
            part.to(device)

    @torch.no_grad()
    def __call__(self, guidance: float = 1.0, guide: Base | None = None) -> np.ndarray:
        """Pictures [n, s, s, 3] uint8; guided away from the empty prompt, or from a guide with the same prompt."""
        noise, pictures, unet = torch.Generator().manual_seed(0), [], self.base.unet
        for ids in self.ids.split(GPU_BATCH if on_gpu(self.device) else BATCH):
            side = unet.config.sample_size
            z = torch.randn(len(ids), unet.config.in_channels, side, side, generator=noise).to(self.device)
            weak = (guide or self.base).text_encoder
            weak_ids = ids if guide else self.nothing.expand(len(ids), -1)
            text, weak_text = (
                encoder(each.to(self.device)).last_hidden_state
                for encoder, each in ((self.base.text_encoder, ids), (weak, weak_ids))
            )
            led = {"guidance": guidance, "guide": guide.unet if guide else unet, "guide_text": weak_text}
            latents = denoise(unet, self.base.scheduler.config, z, text, **led)
            pictures.append(to_pictures(self.base.vae.decode(latents).sample))
        return np.concatenate(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--guides", type=Path, nargs="*", default=[], help="weaker bases")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--deadline", type=float, help="begin no further way of guidance after it, in seconds since 1970"
    )
    add_device_options(parser)
    args = parser.parse_args()
    device = prepare_device(args)
    args.out.mkdir(parents=True, exist_ok=True)
    images, records = load_part(args.data, "val")
    base = load_base(args.base)
    measure = Measure(images, records, base.tokenizer, labelled=True, device=device)
    artist = Artist(base, measure.ids, device)

    def ways() -> Iterator[tuple[str, np.ndarray]]:
        yield "unguided", artist()
        for folder in args.guides:
            guide = load_base(folder)
            for part in (guide.unet, guide.text_encoder):
                part.to(device)
            for scale in SCALES:
                yield f"{folder.parent.name}/{folder.name} {scale}", artist(scale, guide)
        for scale in SCALES:
            yield f"empty prompt {scale}", artist(scale)

    rows, scores = [measure.pictures], {}
    for name, pictures in ways():
        rows.append(pictures)
        blocks = [
            row[block * SHEET_COLUMNS : (block + 1) * SHEET_COLUMNS]
            for block in range(max(1, min(SHEET_BLOCKS, len(pictures) // SHEET_COLUMNS)))
            for row in rows
        ]
        save_sheet(np.concatenate(blocks), args.out / "sheet.jpg", min(SHEET_COLUMNS, len(pictures)))
        scores[name] = measure.scores(pictures)
        atomic_write_json(args.out / "measures.json", scores)
        print(name, {key: round(value, 4) for key, value in scores[name].items()}, flush=True)
        if args.deadline and time.time() > args.deadline:
            break


if __name__ == "__main__":
    main()
