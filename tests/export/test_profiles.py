"""What users type becomes the shapes an engine takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bdflow_rt.errors import ArgumentError
from bdflow_rt.export.profiles import NAMED, Profile, parse_batch, parse_profile
from bdflow_rt.zoo import ModelCard
from bdflow_rt.zoo.arch.bdflow import paper_config

INPUTS = ("image", "planes", "lr", "boundary", "latent")


def card_of(scale: int) -> ModelCard:
    return ModelCard(Path("none"), "any", 1, paper_config(scale), "0" * 64)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_profile_takes_all_from_small_to_its_size_and_is_tuned_for_that(name: str) -> None:
    profile = parse_profile(name.upper())
    assert profile == parse_profile(name)  # or the engine would be built once for each spelling
    assert profile.min == (1, 1)
    assert profile.opt == profile.max == NAMED[name]
    assert profile.batch == (1, 1, 1)


def test_width_comes_first_as_people_write_it() -> None:
    assert parse_profile("640x480").max == (480, 640)


def test_one_size_is_that_size_alone() -> None:
    profile = parse_profile("97x61")
    assert profile.min == profile.opt == profile.max == (61, 97)


def test_three_sizes_are_smallest_optimal_and_largest() -> None:
    profile = parse_profile("32x64:720p:4k", batch=(1, 2, 8))
    assert (profile.min, profile.opt, profile.max) == ((64, 32), (720, 1280), (2160, 3840))
    assert str(profile) == "32x64:720p:4k: 1x64x32 to 8x2160x3840, best 2x720x1280"


@pytest.mark.parametrize("scale", [2, 4, 8, 16, 32, 64])
def test_shapes_are_multiples_of_the_scale_that_hold_the_size(scale: int) -> None:
    card = card_of(scale)
    for size in ((1080, 1920), (1, 1), (61, 97)):
        profile = Profile("p", size, size, size, (3, 3, 3))
        shapes = {name: triple[2] for name, triple in profile.shapes(card, INPUTS).items()}
        n, height, width, channels = shapes["image"]
        assert (n, channels) == (3, 3)
        for padded, side in ((height, size[0]), (width, size[1])):
            assert padded % scale == 0
            assert 0 <= padded - side < scale
        assert shapes["planes"] == (3, 12, height // 2, width // 2)
        assert shapes["lr"] == (3, height // scale, width // scale, 3)
        assert shapes["boundary"] == (3, height // scale, width // scale)
        assert shapes["latent"] == (3, card.interface.latent_channels, height // scale, width // scale)


@pytest.mark.parametrize(
    "text",
    ["", "1081p", "640", "640x", "x480", "640x480:", "640x480:1080p", "a:b:c", "0x64", "64x0", "65537x64", "-1x5",
     "1080p:720p:4k", "4k:4k:1080p", "64x64:64x64:64x64:64x64", "6٤x64", "64x64\n", "9999999x64"],
)  # fmt: skip
def test_a_profile_that_is_none_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ArgumentError, match="must"):
        parse_profile(text)


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 2), (1, 3, 2), (1, 1, 1025)])
def test_a_batch_that_falls_or_is_out_of_range_is_refused(batch: tuple[int, int, int]) -> None:
    with pytest.raises(ArgumentError, match="batch is"):
        dataclasses.replace(parse_profile("720p"), batch=batch)


def test_a_batch_is_the_most_or_three_numbers() -> None:
    assert parse_batch("8") == (1, 8, 8)
    assert parse_batch("1,2,8") == (1, 2, 8)


@pytest.mark.parametrize("text", ["", "a", "1,2", "1,2,3,4", "-1", "1.5", "1, 2, 3", "10000"])
def test_a_batch_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="Batch"):
        parse_batch(text)
