"""The model's configuration: what is allowed, its arithmetic, and reading it back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdflow_rt.errors import ModelConfigError
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig, paper_config
from bdflow_rt.zoo.boundary import BoundaryConfig
from bdflow_rt.zoo.interface import SCALES


@st.composite
def configs(draw: st.DrawFn) -> BDFlowConfig:
    """Any possible configuration."""
    scale = draw(st.sampled_from(SCALES))
    levels = scale.bit_length() - 1
    numbers = st.lists(st.integers(1, 64), min_size=levels, max_size=levels).map(tuple)
    threshold = draw(st.integers(0, 200))
    return BDFlowConfig(
        scale=scale,
        blocks=draw(numbers),
        hidden=draw(numbers),
        coupling=draw(st.sampled_from(["scaled", "additive"])),
        bits=draw(st.integers(0, 8)),
        boundary=BoundaryConfig(
            threshold=threshold,
            norm=draw(st.sampled_from([1, 2])),
            saturation=draw(st.integers(threshold + 1, 300)),
            source=draw(st.sampled_from(["hr", "lr"])),
        ),
    )


@given(configs())
def test_json_brings_back_the_same_configuration(config: BDFlowConfig) -> None:
    assert BDFlowConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs())
def test_macs_follow_the_pixels_and_channels_add_up(config: BDFlowConfig) -> None:
    side = 2 * config.scale
    assert config.macs(2 * side, 3 * side) == 6 * config.macs(side, side)
    assert 3 + (1 if config.bits else 0) + config.latent_channels == config.channels(config.levels)


@pytest.mark.parametrize("scale", SCALES)
def test_paper_config_has_k_of_2_but_4_at_x8(scale: int) -> None:
    config = paper_config(scale)
    assert config.blocks == (4 if scale == 8 else 2,) * config.levels
    assert config.hidden == (64,) * config.levels
    assert (config.coupling, config.bits) == ("scaled", 1)


def test_changes_go_over_the_paper_config() -> None:
    assert paper_config(4, bits=0, hidden=(8, 8)) == BDFlowConfig(scale=4, hidden=(8, 8), bits=0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scale": 3}, "scale is 3"),
        ({"scale": 4.0}, "scale is 4.0"),
        ({"scale": True}, "scale is True"),
        ({"scale": "4"}, "scale is '4'"),
        ({"scale": 128}, "scale is 128"),
        ({"blocks": (2,)}, "blocks is (2,)"),
        ({"blocks": (2, 0)}, "blocks is (2, 0)"),
        ({"blocks": (2, 2.0)}, "blocks is (2, 2.0)"),
        ({"blocks": (2, True)}, "blocks is (2, True)"),
        ({"blocks": 2}, "blocks is 2"),
        ({"hidden": (64, -1)}, "hidden is (64, -1)"),
        ({"coupling": "multiplied"}, "coupling is 'multiplied'"),
        ({"bits": 9}, "bits is 9"),
        ({"bits": -1}, "bits is -1"),
        ({"bits": True}, "bits is True"),
        ({"bits": None}, "bits is None"),
    ],
)
def test_impossible_values_raise_and_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        BDFlowConfig(**changes)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"norm": 3}, "boundary.norm is 3"),
        ({"source": "sr"}, "boundary.source is 'sr'"),
        ({"threshold": -1}, "boundary.threshold is -1"),
        ({"threshold": 255}, "boundary.threshold is 255"),
        ({"threshold": 50.5}, "boundary.threshold is 50.5"),
        ({"threshold": "50"}, "boundary.threshold is '50'"),
        ({"saturation": 20}, "saturation 20"),
    ],
)
def test_impossible_boundaries_raise_and_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        BoundaryConfig(**changes)
    assert named in str(caught.value)


@pytest.mark.parametrize("scale", [0, 1, 3, 128, "4", 4.0, True, None])
def test_paper_config_of_another_scale_raises(scale: Any) -> None:
    with pytest.raises(ModelConfigError, match="it must be one of 2, 4, 8, 16, 32, 64"):
        paper_config(scale)


@pytest.mark.parametrize(
    "data", [{"bit": 1}, {"boundary": {"thresh": 1}}, {"boundary": 3}, {"blocks": 2}, [1], None, "x"]
)
def test_data_of_another_shape_raises(data: Any) -> None:
    with pytest.raises(ModelConfigError):
        BDFlowConfig.from_dict(data)
