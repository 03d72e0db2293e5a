"""What to make from real pairs: one request a variation, each with the record that it is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from skindualgen.contracts import FILE_FIELDS, HASH_FIELDS, METADATA_FILE, InputError, PairRecord, listed
from skindualgen.data.appearance import form_of
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.labels import labels_of
from skindualgen.data.plain_folder import plain_files
from skindualgen.data.prompts import prompt_for
from skindualgen.data.review import read_used
from skindualgen.data.terms import diagnosis_term
from skindualgen.files import sha256_file
from skindualgen.planning.requests import Anchor, PairRequest, attributes_of, pair_seed, places_in_turn

Way = Literal["redraw", "masks", "inpaint", "read"]
Region = Literal["lesion", "skin"]
Jitter = Literal["affine", "elastic"]
PICTURES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
"""endings of masks in a plain folder"""
DEFAULT_STRENGTH = 0.3
"""Of redrawing: Real Guidance (He et al. 2022, arXiv 2210.07574) and DA-Fusion (Trabucco et al. 2023, arXiv 2302.07944)
stay near it with few real pictures."""

DEFAULT_DRAWS, DEFAULT_AGREE = 8, 0.75
"""Of reading: how often each photograph is read, and the share of these draws that must agree on a pixel for it to
count: 6 of 8."""
OF_THE_PAIR = FILE_FIELDS | {"isic_id", "split", "origin", "scores", "review", "seed", "plan_row", "attempt"}
OF_THE_PAIR |= {"adapter_sha256", "base_sha256", "num_inference_steps", "guidance_scale", "extrapolation"}
"""Fields that a photograph's record has of its own, and its pair with a mask that was read anew."""


@dataclass(frozen=True)
class Anchoring:
    """How pairs are made from real ones, the same for all pairs of a run.

    Args:
        way: "redraw": photograph and mask are noised and drawn anew; "masks": photographs are drawn for given masks;
            "inpaint": a region of the photograph is drawn anew, the rest keeps its own pixels; "read": the photograph
            stays, and its mask is read from it in several draws.
        root: data set folder of the real pairs; to read, of photographs without masks, or a folder of photographs.
        strength: of redrawing, in (0, 1]: the share of the noise schedule that a photograph goes through.
        keep_mask: the mask stays as it is while the photograph is redrawn.
        region: what is drawn anew when a part is.
        relabel: another diagnosis, that photographs are redrawn towards; the label is then shared.
        jitter: how given masks are deformed.
        draws: to read: so many of each photograph, 2 or more.
        agree: to read: in (0, 1], pixels where a smaller share of the draws agrees with the mask are ignored.
        only: ids of the real pairs to start from; all of the training part if not given.

    Raises:
        InputError: settings that contradict each other.
    """

    way: Way
    root: Path
    strength: float = DEFAULT_STRENGTH
    keep_mask: bool = False
    region: Region | None = None
    relabel: str | None = None
    jitter: tuple[Jitter, ...] = ()
    draws: int = DEFAULT_DRAWS
    agree: float = DEFAULT_AGREE
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).absolute())  # workers may run elsewhere
        if not 0 < self.strength <= 1:
            raise InputError(f"a strength of {self.strength:g}", "above 0 (nothing changes) and at most 1", "fix it")
        if self.relabel is not None and diagnosis_term(self.relabel) is None:
            raise InputError("an empty diagnosis to relabel to", "a diagnosis such as melanoma", "name one")
        if self.draws < 2 or not 0 < self.agree <= 1:
            got = f"{self.draws} draws, of which a share of {self.agree:g} is to agree"
            raise InputError(got, "2 draws or more, and a share above 0 and at most 1", "fix --draws or --agree")

    @property
    def described(self) -> dict[str, Any]:
        """What decides the results besides the requests, as JSON takes it; the folder's place is no part of it."""
        said: dict[str, Any] = {"anchor_way": self.way}
        if self.way == "redraw":
            said |= {"strength": self.strength, "keep_mask": self.keep_mask}
        if self.way == "read":
            said |= {"draws": self.draws, "agree": self.agree}
        optional = {"redrawn_region": self.region, "relabel": self.relabel, "jitter": list(self.jitter)}
        return said | {name: value for name, value in optional.items() if value}

    def requests(
        self, seed: int, *, count: int | None = None, per_pair: int = 1, prompts: Sequence[str] = ()
    ) -> list[PairRequest]:
        """Requests of the folder's training part, in its order, or ``count`` of them drawn without bias.

        Args:
            seed: of the run.
            count: number of pairs; ``per_pair`` of each record if not given.
            per_pair: variations of each record.
            prompts: taken in turn, with the labels that they state; what is known of each record if not given.

        Raises:
            InputError: no data set folder, or no training record that serves.
        """
        records = self.anchors()
        if self.way == "read" and max(per_pair * len(records), count or 0) > len(records):
            got = f"more than one pair of each of {len(records)} photographs"
            raise InputError(got, "one, as reading again gives the same mask", "ask for fewer, and not --per-pair")
        if count is None:
            order = [place for place in range(len(records)) for _ in range(per_pair)]
        else:
            order = places_in_turn(len(records), count, seed)
        used = {place: self._hashed(records[place]) for place in set(order)}  # once for all variations
        made = [self._request(index, used[place], pair_seed(seed, index)) for index, place in enumerate(order)]
        if not prompts:
            return made
        texts = [prompts[request.index % len(prompts)] for request in made]
        return [replace(r, prompt=text, attributes=labels_of(text)) for r, text in zip(made, texts, strict=True)]

    def anchors(self) -> list[PairRecord]:
        """The records that are started from, in the folder's order.

        Raises:
            InputError: as of `requests`.
        """
        records = self._plain_records() if self.plain else self._training_records()
        if not self.only:
            return records
        if missing := sorted(set(self.only) - {record.isic_id for record in records}):
            got = f"{listed(missing, 5)}, which cannot be started from in {self.root}"
            raise InputError(got, "ids of real training pairs that serve", "correct the ids, or leave them out")
        return [record for record in records if record.isic_id in self.only]

    def _training_records(self) -> list[PairRecord]:
        with_mask = self.way != "read"
        records = [r for r in read_used(self.root, "train") if (r.mask_file_name is not None) == with_mask]
        if made := [record.isic_id for record in records if record.origin == "synthetic"]:
            raise InputError(
                f"{listed(made, 5)} of {self.root}, which are generated",
                "real pairs",
                "start from the pairs that they were made from, or from others",
            )
        if self.relabel is not None:
            target = diagnosis_term(self.relabel)
            records = [r for r in records if r.diagnosis and diagnosis_term(r.diagnosis) != target]
        if not records:
            raise InputError(
                f"{self.root} with no {'pair to start from' if with_mask else 'photograph to read'}",
                f"training {'pairs with' if with_mask else 'photographs without'} masks"
                + (f" and another diagnosis than {self.relabel}" if self.relabel is not None else ""),
                "give another folder; val and test are never started from",
            )
        return records

    @property
    def plain(self) -> bool:
        """Whether it starts from a folder of files that is no data set."""
        no_data_set = self.root.is_dir() and not (self.root / METADATA_FILE).is_file()
        return no_data_set and self.way in ("masks", "read")

    def listing(self) -> tuple[list[Path], dict[str, str]]:
        """The masks or photographs of a folder that is no data set, and the reason for everything else there.

        Raises:
            InputError: of :func:`plain_files`.
        """
        if self.way == "masks":
            return plain_files(self.root, "--masks", what="mask", endings=PICTURES)
        return plain_files(self.root, "--read")

    def _plain_records(self) -> list[PairRecord]:
        """What is started from in a folder that is no data set."""
        files, _ = self.listing()
        if self.way == "masks":
            return [PairRecord(file_name=path.name, mask_file_name=path.name, isic_id=path.stem) for path in files]
        broken = []
        for path in files:  # all of them now, and not one after some hours
            try:
                load_photograph(path)
            except ItemError as error:
                broken.append(f"{path.name} ({error.code})")
        if broken:
            got = f"{len(broken)} photographs of {self.root} that cannot be used: {listed(broken, 5)}"
            raise InputError(got, "photographs", "take these out of the folder")
        return [PairRecord(file_name=path.name, isic_id=path.stem) for path in files]

    def _hashed(self, record: PairRecord) -> PairRecord:
        """The record with the hashes of its files, which a folder from elsewhere may lack."""
        files = {HASH_FIELDS[field]: getattr(record, field) for field in ("file_name", "mask_file_name")}
        lacking = {field: name for field, name in files.items() if name and getattr(record, field) is None}
        return record.model_copy(update={f: sha256_file(self.root / name) for f, name in lacking.items()})

    def _request(self, index: int, record: PairRecord, seed: int) -> PairRequest:
        if self.way == "read":  # from the empty prompt; what is known of the photograph stays true
            known = record.model_dump(exclude_none=True, exclude=set(OF_THE_PAIR))
            return PairRequest(index, "", seed, known, anchor=Anchor.of(record))
        shares = None
        if self.relabel is not None:
            target, own = str(diagnosis_term(self.relabel)), str(diagnosis_term(record.diagnosis))
            shares = {target: self.strength, own: round(1 - self.strength, 4)}
            # The behaviour of the earlier diagnosis may contradict the new one.
            record = record.model_copy(update={"diagnosis": target, "benign_malignant": None})
        looks = record.appearance if self.way == "redraw" else None
        if self.way == "masks" and record.appearance is not None:
            looks = form_of(record.appearance)
        anchor = Anchor.of(record, shares, looks)
        return PairRequest(index, prompt_for(record, seed=seed), seed, attributes_of(record), anchor=anchor)
