"""Count the bundled adapter's training photographs, which do not come with it, for the studio's hints.

python scripts/micro_coverage.py PAIRS      # the data set folder that it was trained on
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from skindualgen.data.labels import TONES
from skindualgen.data.manifest import manifest_sha256
from skindualgen.data.review import read_used
from skindualgen.files import atomic_write_text
from skindualgen.metrics.skin_tone import tone_of
from skindualgen.planning.tones import measure_tones
from skindualgen.studio.training_coverage import COLUMNS, RECORDED_FILE, coverage_of


def in_order(row: list[Any]) -> list[str]:
    """What rows are sorted by: numbers by size, None among words."""
    return [f"{value:05d}" if isinstance(value, int) else str(value) for value in row]


def write_counts(pairs: Path, target: Path = RECORDED_FILE) -> None:
    """Write the counts of the train part of a data set folder, a row a line."""
    records = [record for record in read_used(pairs) if record.split == "train"]
    tones = Counter(record.skin_tone for record in measure_tones(pairs, records, tone_of))
    head = {
        "train_manifest_sha256": manifest_sha256(records),
        "measured_tones": {tone: tones[tone] for tone in TONES},
        "columns": list(COLUMNS),
    }
    rows = sorted(([*row, count] for row, count in coverage_of(records).rows.items()), key=in_order)
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    atomic_write_text(target, f'{json.dumps(head, indent=1)[:-2]},\n "rows": [\n{lines}\n ]\n}}\n')


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    write_counts(parser.parse_args().pairs)
