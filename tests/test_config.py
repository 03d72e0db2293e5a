"""Settings from TOML and the command line: merged, checked, and refused with their name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from skindualgen.config import (
    FREE_TO_CHANGE,
    LoraSettings,
    LossSettings,
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
        ("steps=20", ("steps", 20)),
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
    with pytest.raises(InputError, match="--set steps"):
        parse_assignment("steps")


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('data = "d"\nout = "o"\nsteps = 7\n[lora]\nrank = 4\nalpha = 8\n[loss]\ndice = 0\n')
    config = load_train_config(file, {"steps": 9, "lora.rank": 6})
    assert (config.steps, config.lora.rank, config.lora.alpha, config.loss.dice) == (9, 6, 8, 0)
    assert config.data == Path("d")
    assert config.loss.image == LossSettings().image


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stepps": 3}, "stepps = 3; expected the name of a setting"),
        ({"lora.rang": 3}, r"lora\.rang = 3"),
        ({"steps": 0}, "steps = 0"),
        ({"steps": "many"}, "steps = 'many'"),
        ({"size": 100}, "size = 100"),
        ({"lora.targets": "some"}, r"lora\.targets = 'some'"),
        ({"loss.dice": -1}, r"loss\.dice = -1"),
        ({"caption_dropout": 1.5}, r"caption_dropout = 1\.5"),
        ({"ema_decay": 1.0}, r"ema_decay = 1\.0"),
        ({"precision": "fp8"}, "precision = 'fp8'"),
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
        TrainConfig(**NEEDED).steps = 3


@pytest.mark.parametrize("model", [LoraSettings, LossSettings, NoiseSettings, SamplingSettings])
def test_defaults_are_valid(model: type[BaseModel]) -> None:
    assert model() == model.model_validate(model().model_dump())


def test_what_may_change_between_resumptions_exists() -> None:
    assert set(TrainConfig.model_fields) >= FREE_TO_CHANGE


def test_a_dumped_config_reads_back() -> None:
    config = TrainConfig(**NEEDED, lora=LoraSettings(rank=3))
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
