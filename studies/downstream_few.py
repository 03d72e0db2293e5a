"""Few masks: what the pairs of an adapter trained on them are worth, and what its reading of masks is.

The commands of downstream.py that study the situation of users: 25, 50 or 100 masks, and photographs without any.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from downstream_options import (
    RESULTS,
    CoresOption,
    CountsOption,
    DataOption,
    OutOption,
    SeedOption,
    StepsOption,
    WorkOption,
)
from downstream_runs import (
    DRAWN,
    PAIR_STEPS,
    SIZES_PX,
    Reading,
    class_sizes,
    compare,
    draw_pairs,
    hybrids,
    keep_results,
    lesion_of,
    pairs_needed,
    reader_gain,
    train_records,
)
from downstream_sets import (
    best_of_class,
    captions,
    link_pairs,
    read_masks,
    reading_outcomes,
    reading_scores,
)
from micro_quality import run_command

from skindualgen.benchmarking.subsets import nested_subset
from skindualgen.data.manifest import read_metadata
from skindualgen.data.training_items import TRAINING_ITEMS_FILE

FEW_COUNTS = "25,50,100"
FEW_RATIOS = "1,5"
FEW_STEPS = 200
READ_RATIOS = "5,12"
"""Up to 1,200 of the 1,225 photographs that 100 masks leave without one."""
LONG_RATIOS = "12"
"""Of trainings with more steps than the others of few masks, as they cost more."""
MASKS_GUIDANCE = 1.5
"""As ``sweep`` found it best for segmentation, on the train split and before ``few`` and ``low`` were run."""
ADAPTER_STEPS, ADAPTER_BATCH = 1600, 8
"""Half an hour of a core; at 400 steps of 16 the outlines that an adapter of 100 masks draws are still ragged."""


def few_folder(data: Path, work: Path, count: int, seed: int) -> Path:
    """Make the data set folder of a user with ``count`` masks: these pairs for training, the val part for testing."""
    records = train_records(data)
    groups = [lesion_of(record) for record in records]
    diagnoses = [record.diagnosis for record in records]
    places = nested_subset(diagnoses, [r.isic_id for r in records], count=count, seed=seed, groups=groups)
    test = [record.model_copy(update={"split": "test"}) for record in read_metadata(data, "val")]
    kept = [records[i] for i in places] + test
    return link_pairs(data, kept, work / f"few_{count}_real", made_by={"study": "downstream few", "seed": seed})


def few(
    data: DataOption,
    work: WorkOption,
    out: OutOption = RESULTS,
    seed: SeedOption = 0,
    counts: CountsOption = FEW_COUNTS,
    steps: StepsOption = FEW_STEPS,
    cores: CoresOption = 1,
) -> None:
    """Few masks: an adapter trained on 25, 50 and 100 pairs, on a base that saw the other photographs without masks.

    With other steps than usual, only some of the arms; decided on after ``read``.
    """
    for count in map(int, counts.split(",")):
        real, run, pairs = few_folder(data, work, count, seed), work / f"few_{count}_run", work / f"few_{count}_pairs"
        options = ["--config", "scripts/micro_adapter.toml", "--data", str(real), "--out", str(run)]
        settings = {
            "max_train_steps": ADAPTER_STEPS,
            "train_batch_size": ADAPTER_BATCH,
            "seed": seed,
            "threads": cores,
            "mixed_precision": "fp32",
        }
        options += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        run_command("train", *options)
        records = read_metadata(real, "train")
        needed = pairs_needed(class_sizes(records), {"segment": FEW_RATIOS})
        draw_pairs(pairs, captions(records, needed, seed=seed), str(run), seed, *for_masks(cores))
        compared = arms(FEW_RATIOS) if steps == FEW_STEPS else f"augment,replay,{hybrids(FEW_RATIOS)}"
        trials = compare_few(real, pairs, work, count, FEW_RATIOS, steps, compared, cores)
        title = f"{count} masks: what the pairs of an adapter trained on them are worth"
        name, title, told = few_names("few", title, count, steps)
        keep_results(trials, out, name, title, told, pairs=f"{DRAWN} at guidance {MASKS_GUIDANCE:g}")


def read(
    data: DataOption,
    work: WorkOption,
    out: OutOption = RESULTS,
    seed: SeedOption = 0,
    counts: CountsOption = FEW_COUNTS,
    steps: StepsOption = FEW_STEPS,
    cores: CoresOption = 1,
) -> None:
    """Few masks, the other direction: the adapters of ``few`` read masks from the photographs that have none.

    Run after ``few``, whose adapters and trainings without generated pairs it uses; decided on after it.
    """
    ratios = READ_RATIOS if steps == FEW_STEPS else LONG_RATIOS
    for count in map(int, counts.split(",")):
        real = few_folder(data, work, count, seed)
        known = {lesion_of(record) for record in read_metadata(real, "train")}
        others = [record for record in train_records(data) if lesion_of(record) not in known]
        test = read_metadata(real, "test")
        photographs, adapter = work / f"few_{count}_photographs", work / f"few_{count}_run"
        paired = read_masks(data, others + test, photographs, adapter=adapter, seed=seed)
        outcomes = reading_outcomes(data, others + test, photographs, paired, SIZES_PX["segment"])
        made_by = {"study": "downstream read", "adapter": adapter.name}
        kept = [record for record in paired if record.split != "test"]
        pairs = link_pairs(photographs, kept, work / f"few_{count}_read", made_by=made_by)
        shutil.copyfile(adapter / "adapter" / TRAINING_ITEMS_FILE, pairs / TRAINING_ITEMS_FILE)
        compared = f"augment,replay,{hybrids(ratios)},synthetic"
        trials = compare_few(real, pairs, work, count, ratios, steps, compared, cores)
        gain = reader_gain(trials, outcomes["test"], [lesion_of(record) for record in test])
        title = f"{count} masks: what further photographs are worth whose masks the adapter trained on them has read"
        name, title, told = few_names("read", title, count, steps)
        drawn, reading = "real photographs with masks read by the adapter", Reading(reading_scores(outcomes), gain)
        keep_results(trials, out, name, title, told, pairs=drawn, reading=reading)


def chosen(
    data: DataOption,
    work: WorkOption,
    out: OutOption = RESULTS,
    seed: SeedOption = 0,
    counts: CountsOption = FEW_COUNTS,
    steps: StepsOption = FEW_STEPS,
    cores: CoresOption = 1,
) -> None:
    """Few masks, the drawn pairs whose masks the adapter itself reads most alike: the best fifth of each class.

    Run after ``few``, whose pairs and trainings without generated pairs it uses; decided on after it.
    """
    for count in map(int, counts.split(",")):
        real = few_folder(data, work, count, seed)
        drawn, adapter = work / f"few_{count}_pairs", work / f"few_{count}_run"
        records = read_metadata(drawn)
        read = work / f"few_{count}_drawn_read"
        paired = read_masks(drawn, records, read, adapter=adapter, seed=seed)
        (outcome,) = reading_outcomes(drawn, records, read, paired, SIZES_PX["segment"]).values()  # all are of train
        agreement = outcome.dice
        sizes = class_sizes(read_metadata(real, "train"))
        wanted = pairs_needed(sizes, {"segment": "1"})
        best = best_of_class([str(record.diagnosis) for record in records], agreement, wanted)
        made_by = {"study": "downstream chosen", "adapter": adapter.name}
        pairs = link_pairs(drawn, [records[i] for i in best], work / f"few_{count}_chosen", made_by=made_by)
        shutil.copyfile(drawn / TRAINING_ITEMS_FILE, pairs / TRAINING_ITEMS_FILE)
        trials = compare_few(real, pairs, work, count, "1", steps, "augment,replay,hybrid-1", cores)
        title = f"{count} masks: what those drawn pairs are worth whose masks their adapter reads most alike"
        name, title, told = few_names("chosen", title, count, steps)
        kept = f"{len(best)} of {len(records)}, agreement {agreement[best].mean():.3f} against {agreement.mean():.3f}"
        keep_results(trials, out, name, title, told, pairs=f"{DRAWN} at guidance {MASKS_GUIDANCE:g}: {kept}")


def compare_few(
    real: Path, pairs: Path, work: Path, count: int, ratios: str, steps: int, compared: str, cores: int
) -> Path:
    """Train and test the arms; return where the trainings are kept: one place for all arms of as many steps."""
    trials = work / (f"few_{count}_trials" if steps == FEW_STEPS else f"few_{count}_trials_{steps}")
    compare(real, pairs, trials, "segment", ratios, steps, "--arms", compared, cores=cores)
    return trials


def few_names(study: str, title: str, count: int, steps: int) -> tuple[str, str, str]:
    """Return name and title of a result of few masks, and the command that gives it."""
    told = f"{study} --counts {count} --steps {steps}"
    if steps == FEW_STEPS:
        return f"downstream_{study}_{count}", title, told
    return f"downstream_{study}_{steps}_steps_{count}", f"{title}, {steps} steps", told


def for_masks(cores: int) -> list[str]:
    """Options of ``skindualgen generate`` for pairs that shall teach outlines."""
    return ["--steps", str(PAIR_STEPS), "--guidance", f"{MASKS_GUIDANCE:g}", "--workers", str(cores)]


def arms(ratios: str) -> str:
    """The arms that say what pairs for outlines are worth."""
    return f"augment,replay,{hybrids(ratios)},pretrain,synthetic"
