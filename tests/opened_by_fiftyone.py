"""Open an export of ``exchange_data`` with FiftyOne itself: `make test-fiftyone` runs it in an environment of its own.

python tests/opened_by_fiftyone.py FOLDER
"""

from __future__ import annotations

import sys

import fiftyone
import numpy as np


def main() -> None:
    dataset = fiftyone.Dataset.from_dir(sys.argv[1], dataset_type=fiftyone.types.FiftyOneDataset)
    assert dataset.count_values("tags") == {"train": 6, "val": 2, "test": 1}
    expected = {"nevus": 3, "melanoma": 1, "seborrheic keratosis": 3, "angioma": 1, None: 1}
    assert dataset.count_values("diagnosis.label") == expected
    assert dataset.default_mask_targets == {0: "background", 255: "lesion"}
    assert [sample.seed for sample in dataset if sample.seed is not None] == [2**62 + row for row in range(3)]
    assert dataset.match(fiftyone.ViewField("age_approx") > 50).values("isic_id") == ["ISIC_0000001"]
    for sample in dataset:
        assert set(np.unique(sample.mask.get_mask())) <= {0, 255}
    print(f"{len(dataset)} samples opened by FiftyOne {fiftyone.__version__}")


if __name__ == "__main__":
    main()
