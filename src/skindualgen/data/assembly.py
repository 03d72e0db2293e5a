"""From processed items to records: repeats out, splits without leaks, prompts, and what there is to say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.data.images import Adjustment, ItemError
from skindualgen.data.journal import IS_MASK, Result
from skindualgen.data.labels import ATTRIBUTES, contradiction
from skindualgen.data.prepare_options import PrepareOptions, parse_ratios
from skindualgen.data.prompts import MAX_CLIP_TOKENS, clip_token_bound, prompt_for
from skindualgen.data.sources import Candidate, Listing, Rejection
from skindualgen.data.sources.base import key
from skindualgen.data.sources.rows import row_name
from skindualgen.data.sources.tables import read_table
from skindualgen.data.sources.values import split_name
from skindualgen.data.splits import (
    Link,
    assign_splits,
    carve_validation,
    connected_components,
    crossing_components,
    link_value,
)

SHOWN_COMPONENTS = 3
SHOWN_IDS = 4


@dataclass
class Assembled:
    """Records by id, rejections by file, adjustments by id, notes, and the ids whose prompt a template made."""

    records: list[PairRecord] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    adjustments: list[tuple[str, Adjustment]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    from_template: set[str] = field(default_factory=set)


def read_split_file(path: Path) -> dict[str, Split]:
    """Return key of the id -> split of a table with the columns ``isic_id`` (or ``image_id``, ...) and ``split``.

    Raises:
        InputError: no such file, no such columns, an unknown split, or an id with two splits.
    """
    if not path.is_file():
        raise InputError(f"split file {path}, which is not there", "a table with isic_id and split", "check the path")
    splits: dict[str, Split] = {}
    for row in read_table(path).renamed({}, needed=("isic_id", "split")):
        try:
            name, split = row_name(row.values["isic_id"]), split_name(row.values["split"])
        except ItemError as error:
            raise InputError(f"{path.name}, line {row.line}: {error.detail}", "an id and a split", "fix it") from None
        if split is None:
            raise InputError(f"{path.name}, line {row.line} without a split", "train, val or test", "fill it in")
        if splits.setdefault(name, split) != split:
            got = f"{row.values['isic_id']} in two splits of {path.name}"
            raise InputError(got, "one split per id", "fix the file")
    return splits


def assemble(
    listing: Listing,
    candidates: Sequence[Candidate],
    results: Mapping[str, Result],
    options: PrepareOptions,
    given: Mapping[str, Split] | None,
) -> Assembled:
    """Make records of the candidates whose pictures could be used.

    All of the listing's candidates tie components together, rejected ones too. ``results`` says by id what became of
    those that were processed; ``given`` has the split file's splits by `key` of the id.

    Raises:
        InputError: no item is left, a folder holds masks alone where photographs are expected, an own template does not
            fit, or a given split parts what belongs together.
    """
    assembled = Assembled(rejections=list(listing.rejections), notes=list(listing.notes))
    items: list[Candidate] = []
    for candidate in candidates:
        result = results[candidate.isic_id]
        if result.reason is not None:
            file = candidate.image if result.of_mask is None else candidate.masks[result.of_mask]
            _reject(assembled, candidate, result.reason, result.detail or "", file)
        elif given is not None and key(candidate.isic_id) not in given:
            _reject(assembled, candidate, "not_in_split_file", "the split file names each item of the data set")
        else:
            items.append(candidate)
    _refuse_folders_of_masks(candidates, results)
    components = _components(listing, results)
    items = _without_repeats(assembled, items, results)
    _refuse_nothing(assembled, items)
    splits = _splits(assembled, items, components, options, given)
    for item, split in zip(items, splits, strict=True):
        _add_record(assembled, item, results[item.isic_id], split, options)
    _refuse_nothing(assembled, assembled.records)
    _add_notes(assembled, given)
    assembled.records.sort(key=lambda record: record.isic_id)
    assembled.rejections.sort(key=lambda rejection: (rejection.file, rejection.isic_id, rejection.reason))
    return assembled


def _refuse_folders_of_masks(candidates: Sequence[Candidate], results: Mapping[str, Result]) -> None:
    """Refuse a source with a whole folder of masks that was taken for photographs: its names were not understood."""
    folders: dict[str, set[bool]] = defaultdict(set)
    for candidate in candidates:
        folders[candidate.image.rpartition("/")[0]].add(results[candidate.isic_id].reason == IS_MASK)
    only_masks = sorted(folder for folder, is_mask in folders.items() if is_mask == {True})
    if only_masks and len(only_masks) < len(folders):
        raise InputError(
            f"the folder {only_masks[0]!r}, whose pictures are black and one colour, as masks, and no photographs",
            "photographs and masks in folders whose names say what they hold",
            "call them images and masks, or name a mask as its photograph: a_mask.png for a.jpg",
        )


def _reject(assembled: Assembled, candidate: Candidate, reason: str, detail: str, file: str | None = None) -> None:
    assembled.rejections.append(Rejection(candidate.isic_id, file or candidate.image, reason, detail))


def _components(listing: Listing, results: Mapping[str, Result]) -> list[list[str]]:
    """Ids that share a patient, a lesion, a group or the same pixels, directly or through others."""
    links: list[list[Link]] = []
    for candidate in listing.candidates:
        stated = [(name, candidate.fields.get(name)) for name in ("patient_id", "lesion_id")]
        own: list[Link] = [
            (name, link)
            for name, value in (*stated, *candidate.links)
            if value is not None and (link := link_value(value))
        ]
        result = results.get(candidate.isic_id)
        if result is not None and result.content_sha256 is not None:
            own.append(("content", result.content_sha256))
        links.append(own)
    return [[listing.candidates[i].isic_id for i in component] for component in connected_components(links)]


def _without_repeats(
    assembled: Assembled, items: Sequence[Candidate], results: Mapping[str, Result]
) -> list[Candidate]:
    """Keep one of the items that are the same picture: with a mask, with a diagnosis, of the first id.

    Where their diagnoses differ, none can be trusted and none is kept.
    """
    groups: dict[str | None, list[Candidate]] = defaultdict(list)
    for item in items:
        groups[results[item.isic_id].content_sha256].append(item)
    dropped: set[str] = set()
    for group in groups.values():
        ranked = sorted(group, key=lambda item: (item.mask is None, item.diagnosis is None, item.isic_id))
        diagnoses = sorted({item.diagnosis for item in group if item.diagnosis is not None})
        conflict = len(diagnoses) > 1
        for item in ranked if conflict else ranked[1:]:
            others = ", ".join(other.isic_id for other in ranked if other is not item)
            detail = f"the same picture as {others}" if conflict else f"the same picture as {ranked[0].isic_id}"
            reason = "duplicate_content_other_diagnosis" if conflict else "duplicate_content"
            _reject(assembled, item, reason, detail + (f" ({', '.join(diagnoses)})" if conflict else ""))
            dropped.add(item.isic_id)
    return [item for item in items if item.isic_id not in dropped]


def _splits(
    assembled: Assembled,
    items: Sequence[Candidate],
    components: Sequence[Sequence[str]],
    options: PrepareOptions,
    given: Mapping[str, Split] | None,
) -> list[str]:
    position = {item.isic_id: index for index, item in enumerate(items)}
    parts = [[position[isic_id] for isic_id in component if isic_id in position] for component in components]
    parts = [part for part in parts if part]
    ids, diagnoses = [item.isic_id for item in items], [item.diagnosis for item in items]
    fixed = _fixed_splits(assembled, items, options, given)
    _refuse_crossing(ids, parts, fixed, from_file=given is not None)
    splits = assign_splits(ids, parts, diagnoses, parse_ratios(options.split), seed=options.seed, fixed=fixed)
    if options.val_from_train and "val" not in splits:
        splits = carve_validation(ids, parts, diagnoses, splits, options.val_from_train, seed=options.seed)
        assembled.notes.append(f"{splits.count('val')} items of the train split became val (--val-from-train)")
    return splits


def _fixed_splits(
    assembled: Assembled, items: Sequence[Candidate], options: PrepareOptions, given: Mapping[str, Split] | None
) -> dict[int, str]:
    if given is not None:
        return {index: given[key(item.isic_id)] for index, item in enumerate(items)}
    named: dict[int, str] = {index: item.split for index, item in enumerate(items) if item.split is not None}
    names = sorted(set(named.values()))
    if not named:
        return {}
    if options.ignore_official_split:
        assembled.notes.append(f"the source's split ({', '.join(names)}) is ignored as asked: split anew")
        return {}
    if len(names) == 1 and len(named) == len(items) and not options.keep_split:
        assembled.notes.append(f"the source's split names only {names[0]!r}, which is no split: split anew")
        return {}
    assembled.notes.append(f"the source's split is kept: {', '.join(names)}, {len(named)} of {len(items)} items")
    return named


def _refuse_crossing(
    ids: Sequence[str], parts: Sequence[Sequence[int]], fixed: Mapping[int, str], *, from_file: bool
) -> None:
    inside = [[index for index in part if index in fixed] for part in parts]
    crossing = crossing_components(inside, [fixed.get(index, "") for index in range(len(ids))])
    if not crossing:
        return
    shown = "; ".join(
        ", ".join(f"{ids[index]} ({fixed[index]})" for index in component[:SHOWN_IDS])
        for component in crossing[:SHOWN_COMPONENTS]
    )
    source = "split file" if from_file else "source's split"
    raise InputError(
        f"{len(crossing)} groups of the same patient, lesion or picture that the {source} parts: {shown}",
        "each group on one side",
        "fix the split file" if from_file else "split anew with --ignore-official-split, or fix it in a --split-file",
    )


def _add_record(
    assembled: Assembled, candidate: Candidate, result: Result, split: str, options: PrepareOptions
) -> None:
    fields = {"license": options.license, **candidate.fields, **{kind: str(value) for kind, value in candidate.links}}
    record = PairRecord.model_validate(
        {
            **fields,
            "file_name": result.file_name,
            "mask_file_name": result.mask_file_name,
            "isic_id": candidate.isic_id,
            "split": split,
            "sha256": result.sha256,
            "mask_sha256": result.mask_sha256,
            "ignore_file_name": result.ignore_file_name,
            "ignore_sha256": result.ignore_sha256,
            "perceptual_hash": result.perceptual_hash,
            "appearance": result.appearance,
        }
    )
    if record.prompt is None or options.templates:
        try:
            record.prompt = prompt_for(record, seed=options.seed, templates=options.templates or None)
            assembled.from_template.add(record.isic_id)
        except InputError as error:
            if options.templates:
                raise
            _reject(assembled, candidate, "no_prompt", f"got {error.got}; expected {error.expected}")
            return
    assembled.records.append(record)
    changes = [*candidate.adjustments, *result.adjustments, *_other_words(record, options)]
    if record.prompt is not None and (tokens := clip_token_bound(record.prompt)) > MAX_CLIP_TOKENS:
        detail = f"a caption of up to {tokens} CLIP tokens, of which the text encoder reads {MAX_CLIP_TOKENS}"
        changes.append(Adjustment("prompt_long", detail))
    assembled.adjustments += [(candidate.isic_id, adjustment) for adjustment in changes]


def _other_words(record: PairRecord, options: PrepareOptions) -> Iterator[Adjustment]:
    """Report a caption of the source that names something else than the labels; it is kept.

    Raises:
        InputError: a template that the user gave does.
    """
    for name in ATTRIBUTES:
        value, prompt = getattr(record, name), record.prompt or ""
        other = None if value is None else contradiction(prompt, name, value)
        if other is None:
            continue
        got = f"{name} {value!r} with the prompt {prompt!r}, which says {other}"
        if options.templates:
            expected = "templates whose own words agree with the labels of every photograph"
            raise InputError(f"{record.isic_id}: {got}", expected, "have the label written: {diagnosis}, {site}, ...")
        yield Adjustment("prompt_doubtful", got)


def _refuse_nothing(assembled: Assembled, left: Sequence[object]) -> None:
    if left:
        return
    reasons = Counter(rejection.reason for rejection in assembled.rejections)
    shown = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5)) or "no photograph was found"
    details = "; ".join(f"{rejection.file}: {rejection.detail}" for rejection in assembled.rejections[:2])
    raise InputError(
        f"no usable photograph: {shown}{'; ' + details if details else ''}",
        "at least one photograph that can be used",
        "fix the source, or choose another --layout",
    )


def _add_notes(assembled: Assembled, given: Mapping[str, Split] | None) -> None:
    records = assembled.records
    with_mask = sum(record.mask_file_name is not None for record in records)
    if with_mask < len(records):
        which = (
            f"only {with_mask} of {len(records)} photographs have a mask" if with_mask else "no photograph has a mask"
        )
        assembled.notes.append(which)
    if ignored := sum(record.ignore_file_name is not None for record in records):
        assembled.notes.append(f"{ignored} of {len(records)} photographs have pixels that are to be ignored")
    unknown = sum(record.diagnosis is None for record in records)
    if unknown:
        assembled.notes.append(f"the diagnosis of {unknown} of {len(records)} photographs is not known")
    missing = [name for name in ("train", "val", "test") if name not in {record.split for record in records}]
    if missing:
        assembled.notes.append(f"no item in the split {', '.join(missing)}")
    if given is not None:
        absent = len(set(given) - {key(record.isic_id) for record in records})
        if absent:
            assembled.notes.append(f"{absent} ids of the split file are not in the data set")
