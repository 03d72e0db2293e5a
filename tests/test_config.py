"""Settings from TOML and the command line: merged, checked, and refused with their name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from skindualgen.config import (
    FREE_TO_CHANGE,
    RENAMED,
    LoraSettings,
    LossSettings,
    MaskCodecSettings,
    NoiseSettings,
    SamplingSettings,
    TrainConfig,
    load_train_config,
    parse_assignment,
)
from skindualgen.contracts import InputError

NEEDED = {"data": "d", "out": "o"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_train_steps=20", ("max_train_steps", 20)),
        ("learning_rate=1e-3", ("learning_rate", 1e-3)),
        ("lora.targets=all", ("lora.targets", "all")),
        (" lora.rank = 4", ("lora.rank", 4)),
        ('base="a b"', ("base", "a b")),
        ("base=../models/sd2", ("base", "../models/sd2")),
        ("base=a=b", ("base", "a=b")),
        ("flag=true", ("flag", True)),
    ],
)
def test_assignments(text: str, expected: tuple[str, Any]) -> None:
    assert parse_assignment(text) == expected


def test_an_assignment_without_a_value_is_refused() -> None:
    with pytest.raises(InputError, match="--set max_train_steps"):
        parse_assignment("max_train_steps")


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('data = "d"\nout = "o"\nmax_train_steps = 7\n[lora]\nrank = 4\nalpha = 8\n[loss]\ndice = 0\n')
    config = load_train_config(file, {"max_train_steps": 9, "lora.rank": 6})
    assert (config.max_train_steps, config.lora.rank, config.lora.alpha, config.loss.dice) == (9, 6, 8, 0)
    assert config.data == Path("d")
    assert config.loss.image == LossSettings().image


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stepps": 3}, "stepps = 3; expected the name of a setting"),
        ({"lora.rang": 3}, r"lora\.rang = 3"),
        ({"max_train_steps": 0}, "max_train_steps = 0"),
        ({"max_train_steps": "many"}, "max_train_steps = 'many'"),
        ({"resolution": 100}, "resolution = 100"),
        ({"lora.targets": "some"}, r"lora\.targets = 'some'"),
        ({"loss.dice": -1}, r"loss\.dice = -1"),
        ({"caption_dropout": 1.5}, r"caption_dropout = 1\.5"),
        ({"ema_decay": 1.0}, r"ema_decay = 1\.0"),
        ({"mixed_precision": "fp8"}, "mixed_precision = 'fp8'"),
    ],
)
def test_wrong_settings_are_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_train_config(None, NEEDED | overrides)


def test_missing_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"got no data; expected the data set folder.*; give --data"):
        load_train_config(None, {"out": "o"})


@pytest.mark.parametrize("content", [b"steps = = 3", b"\xff\xfe"])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.toml"):
        load_train_config(tmp_path / "c.toml", NEEDED)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        load_train_config(tmp_path / "none.toml", NEEDED)


def test_a_table_and_a_value_of_one_name_are_refused(tmp_path: Path) -> None:
    """Guards against a traceback: ``lora = 3`` in the file, ``--set lora.rank=4`` on the command line."""
    (tmp_path / "c.toml").write_text("lora = 3\n")
    with pytest.raises(InputError, match="lora"):
        load_train_config(tmp_path / "c.toml", {**NEEDED, "lora.rank": 4})


def test_noise_shares_that_are_all_zero_are_refused() -> None:
    with pytest.raises(InputError, match="noise"):
        load_train_config(
            None, NEEDED | {f"noise.{name}": 0 for name in ("equal", "mask_given", "image_given", "independent")}
        )


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig(**NEEDED).max_train_steps = 3


@pytest.mark.parametrize("model", [LoraSettings, LossSettings, MaskCodecSettings, NoiseSettings, SamplingSettings])
def test_defaults_are_valid(model: type[BaseModel]) -> None:
    assert model() == model.model_validate(model().model_dump())


def test_what_may_change_between_resumptions_exists() -> None:
    assert set(TrainConfig.model_fields) >= FREE_TO_CHANGE


def test_a_dumped_config_reads_back() -> None:
    config = TrainConfig(**NEEDED, lora=LoraSettings(rank=3))
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


OLD_AND_NEW = [
    ("steps", 7, "max_train_steps"),
    ("batch_size", 3, "train_batch_size"),
    ("accumulation", 2, "gradient_accumulation_steps"),
    ("size", 128, "resolution"),
    ("schedule", "constant", "lr_scheduler"),
    ("precision", "bf16", "mixed_precision"),
    ("workers", 1, "dataloader_num_workers"),
    ("noise.zero_terminal_snr", True, "noise.rescale_betas_zero_snr"),
    ("loss.min_snr_gamma", 4.0, "loss.snr_gamma"),
]


@pytest.mark.parametrize(("old", "value", "new"), OLD_AND_NEW)
def test_earlier_names_are_taken_with_a_warning(tmp_path: Path, old: str, value: Any, new: str) -> None:
    """As options, in a TOML file, in Python, and when read."""
    expected = load_train_config(None, NEEDED | {new: value})
    table, _, name = old.rpartition(".")
    content = (f"[{table}]\n" if table else "") + f"{name} = {json.dumps(value)}\n"
    (tmp_path / "c.toml").write_text(content)
    called = rf"{name} is called (\w+\.)?{new.rpartition('.')[2]} now"
    with pytest.warns(FutureWarning, match=called):
        assert load_train_config(None, NEEDED | {old: value}) == expected
    with pytest.warns(FutureWarning, match=called):
        assert load_train_config(tmp_path / "c.toml", NEEDED) == expected
    with pytest.warns(FutureWarning, match=called):
        assert TrainConfig(**NEEDED, **({table: {name: value}} if table else {name: value})) == expected
    with pytest.warns(FutureWarning, match=called):
        assert getattr(getattr(expected, table) if table else expected, name) == value


def test_every_earlier_name_has_a_current_one() -> None:
    models = (TrainConfig, NoiseSettings, LossSettings)
    assert all(any(new in model.model_fields for model in models) for new in RENAMED.values())
    assert not any(old in model.model_fields for model in models for old in RENAMED)


def test_an_option_under_the_current_name_wins_over_the_file_s_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("steps = 7\n")
    with pytest.warns(FutureWarning, match="steps is called"):
        assert load_train_config(tmp_path / "c.toml", NEEDED | {"max_train_steps": 9}).max_train_steps == 9


def test_both_names_of_a_setting_are_refused() -> None:
    with pytest.raises(InputError, match="either max_train_steps or steps, its earlier name"):
        load_train_config(None, NEEDED | {"steps": 7, "max_train_steps": 7})
    with pytest.raises(ValidationError, match="either max_train_steps or steps"):
        TrainConfig(**NEEDED, steps=7, max_train_steps=7)


def test_no_is_read_as_fp32() -> None:
    assert load_train_config(None, NEEDED | {"mixed_precision": "no"}).mixed_precision == "fp32"


def test_the_term_that_did_nothing_is_gone() -> None:
    with pytest.warns(FutureWarning, match=r"loss\.boundary is gone"):
        assert load_train_config(None, NEEDED | {"loss.boundary": 0.0}) == load_train_config(None, NEEDED)
    with pytest.raises(
        InputError, match=r"no boundary, but it is 0\.1: .* did nothing in an ablation.*remove loss\.boundary"
    ):
        load_train_config(None, NEEDED | {"loss.boundary": 0.1})
