"""Settings: made right or not at all, and told of in one place."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from codiff_batch.errors import OptionsConflict, SettingRefused
from codiff_batch.models.card import read_card
from codiff_batch.settings import Judging, Settings, knobs

BUNDLED = Path(__file__).parents[1] / "codiff_batch/models/bundled"


@pytest.mark.parametrize("kind", [Settings, Judging])
def test_every_setting_tells_a_front_door_all_that_it_needs(kind: type) -> None:
    assert set(knobs(kind)) == {each.name for each in fields(kind)}
    for name, knob in knobs(kind).items():
        assert knob.name == name
        assert knob.label
        assert knob.help.endswith(".")
        assert "--" not in knob.help  # an option's name means nothing in a dialog
        assert knob.is_switch or 0 <= knob.low < knob.high
        knob.check(knob.default)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("strength", value) for value in (-0.01, 1.01, float("nan"), "much", None, True)),
        *(("texture", value) for value in (-1, 2, [])),
        *(("constrain", value) for value in (1, "yes", None)),
        *(("qf", value) for value in (0, 101, float("inf"), False)),
    ],
)
def test_a_value_that_a_setting_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingRefused, match=f"'{name}' must be") as caught:
        Settings(**{name: value})
    assert caught.value.setting == name
    assert isinstance(caught.value, OptionsConflict)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "values", [{"strength": 0}, {"strength": 1}, {"qf": None}, {"qf": 1}, {"qf": 100}, {"constrain": False}]
)
def test_the_ends_of_a_range_belong_to_it(values: dict[str, Any]) -> None:
    assert asdict(Settings(**values)) == asdict(Settings()) | values


def test_texture_is_refused_for_a_model_that_adds_none() -> None:
    some, plain = Settings(texture=0.5), read_card(BUNDLED / "fast")
    some.check(read_card(BUNDLED / "compact"))
    for none in (Settings(), Settings(texture=0)):
        none.check(plain)
    with pytest.raises(SettingRefused, match="fast adds none") as caught:
        some.check(plain)
    assert caught.value.setting == "texture"


def test_texture_is_what_is_asked_for_else_what_suits_the_model() -> None:
    compact, fast = (read_card(BUNDLED / name) for name in ("compact", "fast"))
    assert Settings().texture_of(compact) == compact.texture
    assert 0 < compact.texture < 1
    assert [Settings(texture=amount).texture_of(compact) for amount in (0, 1)] == [0, 1]
    assert Settings().texture_of(fast) == 0


def test_a_hosts_request_is_read_with_defaults_for_what_it_does_not_say() -> None:
    assert Settings.read({"do": "restore", "strength": 0.5}) == Settings(strength=0.5)
    with pytest.raises(SettingRefused, match="'texture' must be a number from 0 to 1, not 'much'"):
        Settings.read({"texture": "much"})


def test_settings_and_their_refusal_travel_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(Settings(strength=0.5))) == Settings(strength=0.5)
    refused = pickle.loads(pickle.dumps(SettingRefused("strength", "too strong")))
    assert (refused.setting, str(refused)) == ("strength", "too strong")


def test_settings_cost_no_torch() -> None:
    code = "import sys, codiff_batch.settings; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
