"""Ask a running studio (`skindualgen ui`) for one pair, and keep its image and mask. Needs: pip install gradio_client.

python examples/studio_client.py --url http://127.0.0.1:7860 --out pair
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from gradio_client import Client


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one pair with a running studio.")
    parser.add_argument("--url", default="http://127.0.0.1:7860/")
    parser.add_argument("--prompt", default="a dermoscopic image of a melanoma")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="the adapter's own if not given")
    parser.add_argument("--user", help="user:password, where the studio asks for it")
    parser.add_argument("--out", type=Path, default=Path("pair"))
    options = parser.parse_args()

    with TemporaryDirectory() as downloads:
        auth = None if options.user is None else tuple(options.user.split(":", 1))
        client = Client(options.url, auth=auth, download_files=downloads, verbose=False)
        record, archive = client.predict(
            prompt=options.prompt, count=1, seed=options.seed, steps=options.steps, api_name="/generate"
        )
        (pair,) = record["pairs"]
        options.out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as files:
            for name, target in ((pair["file_name"], "image.png"), (pair["mask_file_name"], "mask.png")):
                (options.out / target).write_bytes(files.read(f"pairs/{name}"))
    area = 100 * pair["scores"]["mask_area_fraction"]
    print(f"{options.out / 'image.png'} and mask.png: lesion of {area:.0f} %, agreement {pair['agreement']:.2f}")
    print(f"the same without the studio: {record['command']}")


if __name__ == "__main__":
    main()
