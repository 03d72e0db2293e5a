"""Cards for the hub: of a generated data set, and of the adapter that drew it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import DatasetCardData, ModelCard
from jinja2 import Environment, PackageLoader, StrictUndefined

from skindualgen.contracts import REJECTS_FILE
from skindualgen.model.card import adapter_card, use_restrictions
from skindualgen.release.contents import NOT_RECORDED, Contents
from skindualgen.release.licences import LicenceChain
from skindualgen.release.marks import Marks
from skindualgen.release.measures import COPIES, HEADLINES, TONES, caveats, eval_results, left_out, measure_rows
from skindualgen.release.schema import SPLIT_NAMES, dataset_configs, size_category

REPORT_FILE, BENCHMARK_FILE = "evaluation.json", "benchmark.json"
"""names of the results in a release"""
PLAN_FILE = "plan.csv"
LICENCE_CARD = "LICENSE.md"
UNNAMED = "OWNER/NAME"
"""what a loading example names until the repository is known"""
TAGS = ["synthetic", "skindualgen", "dermoscopy", "skin-lesion", "medical", "research-only"]
CITATION = """\
@software{skindualgen,
  title = {skindualgen: image-mask pairs of dermoscopic photographs from a text prompt},
  author = {{The skindualgen contributors}},
  version = {VERSION}
}
@article{xu2025skindualgen,
  title = {{SkinDualGen}: Prompt-Driven Diffusion for Simultaneous Image-Mask Generation in Skin Lesions},
  author = {Xu, Zhaobin},
  journal = {arXiv:2507.19970},
  year = {2025}
}"""


@dataclass(frozen=True)
class CardOptions:
    """What the publisher decides of a data set card.

    Attributes:
        title: heading and ``pretty_name``.
        repository: ``owner/name`` that the loading example names; ``UNNAMED`` while it is not known.
        sheet: file name of the sample picture; None for none.
        licence_file: file name of the base's licence text in the release; None where it is not carried.
    """

    title: str
    repository: str
    sheet: str | None = None
    licence_file: str | None = None


def dataset_card(contents: Contents, chain: LicenceChain, marks: Marks, options: CardOptions) -> str:
    """The README.md of a data set: the hub's front matter, and what a user of the data has to know.

    What was not measured or not recorded is called that; no number stands here that is not in the folder's own files
    or in the results given with it.
    """
    shown = [
        {
            "hub_name": SPLIT_NAMES[split],
            "synthetic": sum(record.split == split for record in contents.synthetic),
            "real": sum(record.split == split for record in contents.real),
        }
        for split in contents.splits
    ]
    report = contents.evaluation
    text = (
        _environment()
        .get_template("dataset_card.md.j2")
        .render(
            title=options.title,
            repository=options.repository,
            sheet=options.sheet,
            licence_file=options.licence_file,
            contents=contents,
            chain=chain,
            marks=marks,
            splits=shown,
            restrictions=use_restrictions(),
            software=", ".join(sorted({record.source or NOT_RECORDED for record in contents.synthetic})),
            date=str(contents.info["made_by"].get("date_utc", ""))[:10],
            gate=contents.info["made_by"].get("gate"),
            plan_file=PLAN_FILE,
            rejects_file=REJECTS_FILE,
            extrapolation=sum(bool(record.extrapolation) for record in contents.synthetic),
            prompted_tones=sorted(Counter(r.skin_tone for r in contents.synthetic if r.skin_tone).items()),
            near_copies=0 if report is None else len(report.memorisation.near_copies),
            left_out=[] if report is None else left_out(report),
            report_file=REPORT_FILE,
            benchmark_file=BENCHMARK_FILE,
            **_results(contents),
        )
    )
    return f"---\n{_front_matter(contents, chain, options)}---\n\n{text}"


def licence_card(chain: LicenceChain, licence_file: str | None) -> str:
    """The licences of a data set as a file of its own, word for word as in its card."""
    text = (
        _environment()
        .get_template("release_licences.md.j2")
        .render(chain=chain, restrictions=use_restrictions(), licence_file=licence_file)
    )
    return f"# Licences\n\n{text}"


def evaluated_adapter_card(header: Mapping[str, Any], contents: Contents, chain: LicenceChain) -> str:
    """The adapter's own card, with what was measured of its pairs in text and as ``model-index``.

    Args:
        header: of the adapter's weights.
        contents, chain: of the data set that was generated with it.
    """
    card = ModelCard(adapter_card(header))
    if contents.evaluation is not None:
        results = eval_results(contents.evaluation)
        card.data["model_name"], card.data["eval_results"] = "SkinDualGen adapter", results
    template = _environment().get_template("adapter_evaluation.md.j2")
    text = template.render(contents=contents, chain=chain, **_results(contents))
    return f"---\n{card.data.to_yaml()}\n---\n{card.text.rstrip()}\n{text}"


def citation() -> str:
    """How to cite the software that drew a data set, as BibTeX."""
    from skindualgen._version import __version__

    return CITATION.replace("VERSION", __version__)


def _results(contents: Contents) -> dict[str, Any]:
    """What both cards say of evaluation and benchmark."""
    report, benchmark = contents.evaluation, contents.benchmark
    tasks = [] if benchmark is None else benchmark.tasks
    return {
        "evaluation": report,
        "rows": [] if report is None else measure_rows(report, HEADLINES),
        "copies": [] if report is None else measure_rows(report, COPIES),
        "tones": [] if report is None else measure_rows(report, TONES),
        "caveats": [] if report is None else caveats(report),
        "benchmark": benchmark,
        "benchmark_sentences": [
            f"{task.task}, {regime.real_pairs} real pairs: {verdict.text}"
            for task in tasks
            for regime in task.regimes
            for verdict in regime.verdicts
        ],
        "citation": citation(),
    }


def _front_matter(contents: Contents, chain: LicenceChain, options: CardOptions) -> str:
    records = contents.records
    fields: dict[str, Any] = {"license": chain.chosen}
    if chain.chosen is None:  # the hub's word for terms that it does not list
        fields = {"license": "other", "license_name": "see-license-file", "license_link": LICENCE_CARD}
    tasks = ["image-segmentation", "text-to-image"]
    if any(record.diagnosis for record in records):
        tasks.append("image-classification")
    configs = dataset_configs(records, contents.splits, contents.root)
    data = DatasetCardData(
        **fields,
        pretty_name=options.title,
        language="en",
        annotations_creators="machine-generated",
        size_categories=size_category(len(records)),
        task_categories=tasks,
        tags=TAGS if contents.real == [] else [*TAGS, "mixed-real-and-synthetic"],
        **configs,
    )
    return data.to_yaml() + "\n"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("skindualgen", "templates"),
        autoescape=False,  # Markdown, not HTML; a cell's bars and line ends are escaped by its filter
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda value: " ".join(str(value).replace("|", "\\|").split())
    return environment
