"""The benchmark's verdicts, and what page, figures and Markdown show of a result."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from skindualgen.benchmarking.comparison import verdict
from skindualgen.benchmarking.results import (
    ArmResult,
    BenchmarkResult,
    LeftOut,
    MetricInfo,
    RegimeResult,
    TaskResult,
)
from skindualgen.benchmarking.statistics import Difference
from skindualgen.metrics.intervals import Estimate
from skindualgen.metrics.scores import SEGMENTATION_METRICS
from skindualgen.report.benchmark import benchmark_report, write_benchmark_report
from skindualgen.report.benchmark_figures import dose_response, forest
from skindualgen.report.benchmark_text import benchmark_markdown
from skindualgen.report.figures import ACCENT, CONTRAST

DICE, HD95 = SEGMENTATION_METRICS["dice"], SEGMENTATION_METRICS["hd95_px"]


def difference(value: float, half: float, p_holm: float = 0.01) -> Difference:
    return Difference(value=value, low=value - half, high=value + half, p_value=p_holm, p_holm=p_holm)


def arm_result(name: str, score: float, **differences: Difference) -> ArmResult:
    """An arm with one score in both metrics, and the same difference in both."""
    ratio = float(name.removeprefix("hybrid-")) if name.startswith("hybrid") else None
    return ArmResult(
        name=name,
        title=f"title of {name}",
        definition=f"definition of {name}",
        uses_real=name != "synthetic",
        uses_synthetic=ratio is not None,
        repeat_real=name == "replay",
        ratio=ratio,
        augment=name != "real",
        real_items=50,
        synthetic_items=50 * (ratio or 0),
        synthetic_share=(ratio or 0) / (1 + (ratio or 0)),
        scores={metric: Estimate(score, score - 0.1, score + 0.1) for metric in ("dice", "hd95_px")},
        by_seed={metric: [score, score] for metric in ("dice", "hd95_px")},
        differences={name: {"dice": d, "hd95_px": d} for name, d in differences.items()},  # type: ignore[misc]
        seconds=60,
        final_loss=0.5,
    )


def both(value: float, half: float, p_holm: float = 0.01) -> dict[str, Difference]:
    return {"replay": difference(value, half, p_holm), "augment": difference(value, half, p_holm)}


def test_hybrid_that_beats_both_has_helped() -> None:
    arms = [arm_result("hybrid-1", 0.8, **both(0.02, 0.01)), arm_result("hybrid-2", 0.9, **both(0.05, 0.01, 0.2))]
    found = verdict(DICE, arms)
    assert (found.helped, found.winners, found.winners_holm) == (True, ["hybrid-1", "hybrid-2"], ["hybrid-1"])
    assert found.closest == "hybrid-2"
    assert "hybrid-2 +0.050 (+0.040 to +0.060) against replay" in found.text
    assert "Holm's adjustment for the arms tried: hybrid-1." in found.text


@pytest.mark.parametrize(
    "differences",
    [
        both(0.02, 0.03),  # the interval holds 0
        both(-0.05, 0.01),  # worse
        {"replay": difference(0.05, 0.01), "augment": difference(0.05, 0.06)},  # beats one of them only
        {"replay": difference(0.05, 0.06), "augment": difference(0.05, 0.01)},
        both(math.nan, 0),  # undefined
    ],
)
def test_anything_less_has_not_helped(differences: dict[str, Difference]) -> None:
    found = verdict(DICE, [arm_result("hybrid-1", 0.8, **differences)])
    assert (found.helped, found.winners, found.winners_holm) == (False, [], [])
    assert found.closest == "hybrid-1"
    assert found.text.startswith("Dice: no hybrid (or pretraining) beats both")


def test_where_lower_is_better_a_negative_difference_helps() -> None:
    assert verdict(HD95, [arm_result("hybrid-1", 3, **both(-2, 1))]).helped is True
    assert verdict(HD95, [arm_result("hybrid-1", 3, **both(2, 1))]).helped is False


def test_without_a_control_nothing_is_claimed() -> None:
    one = arm_result("hybrid-1", 0.8, augment=difference(0.05, 0.01))
    only = arm_result("synthetic", 0.9, **both(0.05, 0.01))
    assert verdict(DICE, [one, only]).helped is None


def a_result(**fields: Any) -> BenchmarkResult:
    """Two regimes; in the smaller one a hybrid helps, in the larger none does."""
    regimes = []
    for real_pairs, gain in ((50, 0.05), (400, 0.005)):
        arms = [
            arm_result("real", 0.6, best=difference(-0.1, 0.02)),
            arm_result("augment", 0.7, real=difference(0.1, 0.02)),
            arm_result("replay", 0.69, real=difference(0.09, 0.02), augment=difference(0, 0.02)),
            arm_result(
                "hybrid-0.5", 0.71, real=difference(0.11, 0.02), best=difference(gain, 0.01), **both(gain, 0.01)
            ),
            arm_result(
                "hybrid-2", 0.68, real=difference(0.08, 0.02), best=difference(-0.02, 0.03), **both(-0.02, 0.03)
            ),
        ]
        regimes.append(
            RegimeResult(
                real_pairs=real_pairs,
                whole=real_pairs == 400,
                diagnoses={"melanoma": 10, "nevus": real_pairs - 10},
                best={"dice": "augment", "hd95_px": "augment"},
                arms=arms,
                left_out=[LeftOut(name="hybrid-5", title="real + 5 x synthetic", reason="too few <generated> pairs")],
                verdicts=[verdict(DICE, arms), verdict(HD95, arms)],
            )
        )
    metrics = [MetricInfo.model_validate(metric) for metric in (DICE, HD95)]
    task = TaskResult(
        task="segment",
        network="resnet10t",
        weights="random",
        parameters=6_200_000,
        precision="fp32",
        steps=300,
        batch_size=16,
        learning_rate=1e-3,
        fill="match",
        classes=[],
        test_items=234,
        test_groups=200,
        generated_items=578,
        metrics=metrics,
        undefined={},
        caveats=["1 of 3 test items are without a mask, and left out."],
        regimes=regimes,
    )
    plain: dict[str, Any] = {"real": "pairs", "generated": "drawn", "test_split": "test", "seeds": 5, "size_px": 64}
    plain |= {"threads": 1, "devices": ["cpu"], "leaks": [], "caveats": ["What the generator saw is not recorded."]}
    record = {"command": ["skindualgen", "benchmark"], "date_utc": "2030-01-01", "versions": {"python": "3.11"}}
    return BenchmarkResult(**(plain | {"tasks": [task], "record": record} | fields))


def test_markdown_has_a_row_for_each_arm_and_every_caveat() -> None:
    text = benchmark_markdown(a_result(leaks=["1 test photograph with the same file"]))
    assert "| title of real | 0.600 (0.500 to 0.700) | 0.6 (0.5 to 0.7) |" in text
    assert "| title of hybrid-0.5 | +0.050 (+0.040 to +0.060) | +0.1 (+0.0 to +0.1) |" in text
    assert "| title of augment | – |" not in text  # the best arm has no row of its own in the differences to it
    assert "* **Leak, accepted:** 1 test photograph with the same file" in text
    assert "* What the generator saw is not recorded." in text
    assert "* Left out, real + 5 x synthetic: too few <generated> pairs" in text
    assert "### All 400 real pairs (10 melanoma, 390 nevus)" in text
    assert text.count("HD95, px") == 6  # three tables in each of two regimes
    assert text.endswith("\n") and "\n\n\n" not in text


def test_page_holds_answer_tables_and_definitions(tmp_path: Path) -> None:
    result = a_result(leaks=["1 test photograph with the same file"])
    path = write_benchmark_report(result, tmp_path)
    html = path.read_text(encoding="utf-8")
    assert (tmp_path / "benchmark.md").read_text(encoding="utf-8") == benchmark_markdown(result)
    assert path.name == "benchmark.html" and "http://" not in html.replace("http://www.w3.org", "")
    for text in (
        "1 of 2",
        "1 test photograph with the same file",
        "definition of hybrid-2",
        "too few &lt;generated&gt;",
    ):
        assert text in html
    assert html.count("<svg") == 3 + html.count('class="chart"')  # dose-response, and a forest for each regime


def test_answer_says_where_generated_pairs_helped() -> None:
    report = benchmark_report(a_result())
    rows = dict(report.sections[0].tables[0].rows)
    assert rows["Segmentation, 50 real pairs"][:3] == ["Dice", "yes, after Holm too", "title of hybrid-0.5"]
    assert rows["Segmentation, 400 real pairs"][1] == "no"
    assert report.headlines[0].value == "1 of 2"


def axes(figure: Figure | None) -> list[Any]:
    assert figure is not None
    return list(figure.axes)


def test_forest_draws_each_difference_where_it_is() -> None:
    result = a_result()
    regime, metric = result.tasks[0].regimes[0], result.tasks[0].metrics[0]
    panels = axes(forest(regime, metric))
    assert panels[1].get_title(loc="left").endswith("title of augment")
    points = [line for line in panels[1].lines if line.get_marker() in "oD"]
    drawn = {
        regime.arms[round(float(line.get_ydata()[0]))].name: (
            float(line.get_xdata()[0]),
            line.get_marker(),
            line.get_color(),
        )
        for line in points
    }
    assert drawn == {
        "real": (-0.1, "o", CONTRAST),
        "hybrid-0.5": (0.05, "o", ACCENT),
        "hybrid-2": (-0.02, "D", ACCENT),
    }
    spans = sorted(tuple(map(float, line.get_xdata())) for line in panels[1].lines if len(line.get_xdata()) == 2)
    assert spans[0] == pytest.approx((-0.12, -0.08)) and len(spans) == 4  # three intervals and the line at 0


def test_forest_has_no_panel_for_an_arm_that_was_not_run() -> None:
    result = a_result()
    regime, metric = result.tasks[0].regimes[0], result.tasks[0].metrics[0]
    for arm in regime.arms:
        arm.differences.pop("real", None)
    [panel] = axes(forest(regime, metric))
    assert panel.get_title(loc="left").endswith("title of augment")
    for arm in regime.arms:
        arm.differences.clear()
    assert forest(regime, metric) is None


def test_dose_response_starts_at_augmentation_and_has_a_line_for_each_amount() -> None:
    result = a_result()
    panel = axes(dose_response(result.tasks[0], result.tasks[0].metrics[0]))[0]
    curves = [line for line in panel.lines if line.get_marker() == "o"]
    assert [line.get_label() for line in curves] == ["50 real pairs", "400 real pairs"]
    assert [list(line.get_ydata()) for line in curves] == [[0.7, 0.71, 0.68]] * 2
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0: augmentation", "0.5", "2"]
