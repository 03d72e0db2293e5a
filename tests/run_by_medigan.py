"""Run a package of ``export --format medigan`` with medigan itself: `make test-medigan` does, in its own environment.

python tests/run_by_medigan.py PACKAGE, in an empty folder
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from medigan.config_manager import ConfigManager
from medigan.contribute_model.model_contributor import ModelContributor
from medigan.execute_model.model_executor import ModelExecutor
from medigan.utils import Utils


def main() -> None:
    package = Path(sys.argv[1]).resolve()
    (model_id,) = json.loads((package / "metadata.json").read_text())
    contributor = ModelContributor(model_id, str(package / "__init__.py"))
    metadata = contributor.add_metadata_from_file(str(package / "metadata.json"))

    Path("config").mkdir()
    Path("config/global.json").write_text("{}")  # the list of medigan's own models, which it would download
    assert ConfigManager().is_model_metadata_valid(model_id, metadata)

    shutil.copytree(package, Path("models") / model_id / package.name)
    sys.path.insert(0, ".")
    executor = ModelExecutor(model_id, metadata[model_id]["execution"])
    executor.generate(num_samples=3, output_path="pairs", batch_size=2, num_inference_steps=2)
    names = sorted(path.name for path in Path("pairs").iterdir())
    pairs = ("batch_0_0", "batch_0_1", "batch_1_0")
    assert names == [f"{pair}_{kind}.png" for pair in pairs for kind in ("image", "mask")], names
    data = executor.generate(num_samples=2, save_images=False, num_inference_steps=2)
    samples, masks, _, _ = Utils.split_images_masks_and_labels(data, num_samples=2)
    assert len(samples) == len(masks) == 2 and set(np.unique(masks)) <= {0, 255}
    print(f"{len(names)} files and {len(samples)} pairs drawn by medigan with {model_id}")


if __name__ == "__main__":
    main()
