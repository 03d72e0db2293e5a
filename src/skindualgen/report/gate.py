"""What a gate did to a folder of pairs, as a report: scores with their thresholds, reasons, examples, variety."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from skindualgen.contracts import REJECTS_FILE
from skindualgen.data.dataset import Dataset
from skindualgen.evaluation.definitions import DEFINITIONS
from skindualgen.files import atomic_write_json, atomic_write_text
from skindualgen.folders import own_folder
from skindualgen.gate.application import SCORES_FILE, Application, write_application
from skindualgen.gate.diversity import diversity
from skindualgen.gate.gate import REAL_SCORES_FILE, GateFile, Verdict
from skindualgen.gate.lines import read_score_lines
from skindualgen.gate.results import GateReport, summarise
from skindualgen.gate.scores import LESION_AREA, SCORES
from skindualgen.judges.features import FeatureExtractor
from skindualgen.judges.pictures import PictureSet, read_pictures
from skindualgen.report import gate_sections as pages
from skindualgen.report.page import Report
from skindualgen.report.render import render

HTML_FILE, JSON_FILE = "report.html", "gate_report.json"
OWN_NAMES = frozenset({HTML_FILE, JSON_FILE, SCORES_FILE, REJECTS_FILE})


def gate_report(
    application: Application,
    out: Path,
    *,
    real: PictureSet | None = None,
    extractor: FeatureExtractor | None = None,
    seed: int = 0,
) -> tuple[GateReport, Path]:
    """Write ``gate.csv``, ``rejected.jsonl``, ``gate_report.json`` and a self-contained ``report.html``.

    Args:
        application: a gate's verdicts on a folder of pairs.
        out: folder of :func:`claim_folder`.
        real: what the pairs' variety is compared with, and
        extractor: the feature space; without them, that chapter is left out.
        seed: of the random parts.

    Returns:
        The results, and the path of the page.
    """
    gate, rows, name = application.gate, [], None
    if real is not None and extractor is not None:
        pairs = read_pictures(application.pairs, gate.file.size_px)
        rows = diversity(extractor, real=real, pairs=pairs, kept=application.kept, seed=seed)
        name = extractor.name
    _, of_real = read_score_lines(gate.folder / REAL_SCORES_FILE)
    results = summarise(application, of_real, rows, extractor=name)
    html = render(build_report(application, of_real, results))
    write_application(application, out)
    atomic_write_json(out / JSON_FILE, results.model_dump(mode="json"))
    atomic_write_text(out / HTML_FILE, html)
    return results, out / HTML_FILE


def real_pictures(real: Path, gate: GateFile) -> PictureSet:
    """Read the real photographs of the gate's two splits at its side.

    Raises:
        InputError: no such folder.
    """
    records = [record for record in Dataset.open(real) if record.split in ("train", gate.split)]
    return read_pictures(Dataset(real, records), gate.size_px)


def claim_folder(out: Path) -> AbstractContextManager[None]:
    """Hold the folder of a gate's report, new or of an earlier one, while it is made: see `own_folder`.

    Raises:
        InputError: it holds something else.
    """
    return own_folder(out, OWN_NAMES, "a new folder, or one of a report", lambda folder: (folder / JSON_FILE).is_file())


def build_report(application: Application, of_real: Sequence[Verdict], results: GateReport) -> Report:
    """Arrange the results for reading."""
    sections = [pages.scores_page(application, of_real), pages.reasons_page(results), pages.diagnoses_page(results)]
    if results.diversity:
        sections.append(pages.diversity_page(results))
    sections += [pages.refused_page(application), pages.accepted_page(application)]
    used = {column.term for section in sections for table in section.tables for column in table.columns}
    used |= {term for section in sections for table in section.tables for term in table.terms.values()}
    definitions = {name: (pages.TITLES[name], f"{text[0].upper()}{text[1:]}.") for name, text in SCORES.items()}
    definitions[LESION_AREA] = (pages.TITLES[LESION_AREA], "The mask has no lesion, or nothing else.")
    definitions |= {name: (DEFINITIONS[name].title, DEFINITIONS[name].text) for name in pages.MEASURES.values()}
    refused = len(application.pairs) - int(application.kept.sum())
    return Report(
        title=f"{len(application.pairs)} pairs before a gate",
        subtitle=(
            f"“{application.pairs.root.resolve().name}”: {refused} pairs are refused. Thresholds are those that "
            f"{results.gate.accept:.0%} of {results.gate.real.n} held-out real pairs pass together."
        ),
        hero=[],
        headlines=pages.headlines(results),
        sections=sections,
        definitions={name: text for name, text in definitions.items() if name in used},
        next_steps=[],
        record=_record(results),
        eyebrow="What a gate accepts and refuses",
    )


def _record(results: GateReport) -> dict[str, str]:
    gate = results.gate
    record = {
        "Date": results.made_by["date_utc"],
        "Gate": results.gate_sha256,
        "Gate calibrated": f"{gate.made_by['date_utc']} on {gate.real.n} pairs of the split {gate.split}",
        "Judged at": f"{gate.size_px} × {gate.size_px} px",
        "Pairs": results.pairs_manifest_sha256,
    }
    record |= {kept.what: kept.sha256 for kept in gate.files.values()}
    if gate.adapter is not None:
        record |= {f"adapter: {name}": value for name, value in gate.adapter.items()}
    return record | results.made_by["versions"]
