#!/bin/bash
# A plan drawn by a Slurm job array: each task draws its part into a folder of its own; the last line of this file
# says how they become one data set. Submit it with:  sbatch examples/production_slurm.sh plan.csv out
#
# A task that is killed, preempted or out of time is run again with the same line, and goes on where it was.
#SBATCH --job-name=skindualgen
#SBATCH --array=1-16
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=24G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%A-%a.log

set -euo pipefail

plan=${1:?give a plan}
out=${2:?give a folder}
adapter=${ADAPTER:-builtin}

# All parts see the same model files, so nothing may be looked up on the way.
export HF_HUB_OFFLINE=1

srun skindualgen generate \
    --plan "$plan" \
    --adapter "$adapter" \
    --precision fp16 \
    --part "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT}" \
    --out "$out/part-${SLURM_ARRAY_TASK_ID}"

# When all are done:  skindualgen merge out/part-* --out out/all
