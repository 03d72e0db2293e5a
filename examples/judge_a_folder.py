"""Show any data set folder (real or generated) as a report: pictures with outlines, and the shape of their masks.

python examples/judge_a_folder.py demo/pairs --out folder.html
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image

from skindualgen.data.manifest import read_metadata
from skindualgen.metrics.masks import shape_statistics
from skindualgen.report.page import Column, Group, Headline, Outline, Report, Section, Table, Tile
from skindualgen.report.render import write_report


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a report of a data set folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24, help="pairs to show")
    parser.add_argument("--out", type=Path, default=Path("folder.html"))
    options = parser.parse_args()

    tiles, rows = [], []
    for record in [r for r in read_metadata(options.folder) if r.mask_file_name][: options.count]:
        image = Image.open(options.folder / record.file_name).convert("RGB")
        mask = Image.open(options.folder / str(record.mask_file_name)).convert("L")
        shape = shape_statistics(np.asarray(mask))
        tiles.append(Tile(image, record.isic_id, [Outline(mask, "mask")], record.diagnosis or ""))
        rows.append((record.isic_id, [100 * shape.area_fraction, shape.compactness]))

    columns = [Column("Lesion area", digits=1, unit="%"), Column("Compactness", "compactness", best=1.0)]
    report = Report(
        title=f"{len(tiles)} pairs of {options.folder.name}",
        subtitle="Pictures with the outlines of their masks, and the shape of each mask.",
        hero=tiles[:3],
        headlines=[Headline(f"{mean(row[1][0] for row in rows):.0f} %", "mean lesion area")],
        sections=[
            Section("pairs", "Pairs", "As they stand in the folder.", [Group("All", tiles)]),
            Section("shapes", "Shapes", "One row for each mask.", tables=[Table("Pair", columns, rows)]),
        ],
        definitions={"compactness": ("Compactness", "4π area / perimeter²: 1 for a disc, less for a ragged border.")},
        next_steps=[],
        record={"Folder": options.folder.name},
    )
    write_report(report, options.out)
    print(f"report of {len(tiles)} pairs in {options.out}")


if __name__ == "__main__":
    main()
