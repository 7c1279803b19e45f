"""Bytes against quality: the figures are those of the files, and rivals get no more bytes than ours."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdflow_rt import decode_png, encode_png
from bdflow_rt.bench import rate_distortion
from bdflow_rt.bench.rate_distortion import Original, mean_of, measure_model
from bdflow_rt.evaluate.codecs import AVIF, JPEG, WEBP, decode, encode_png_plain, encode_webp_lossless
from bdflow_rt.evaluate.quality import Judges
from bdflow_rt.metrics import bicubic_downscale, psnr_y
from bdflow_rt.picture import Picture
from bdflow_rt.rescaler import Rescaler
from tests.support import data_dir, needs_data, photo
from tools import measured, report

HR = photo(67, 53, 5)


@pytest.fixture
def rescaler(zoo: Path) -> Iterator[Rescaler]:
    """The default model, x4 with 1 bit."""
    with Rescaler.from_pretrained() as made:
        yield made


def test_a_models_figures_are_those_of_its_files(rescaler: Rescaler) -> None:
    found = measure_model(Original(Picture(HR)), rescaler, [])
    packet = rescaler.downscale(HR)
    png = encode_png(packet)
    assert found["psnr_y"] == psnr_y(rescaler.upscale(decode_png(png)), HR, border=4)
    assert found["lpips"] is None
    forms = found["forms"]
    assert forms["png"]["bytes"] == len(png)
    assert forms["png"]["bits_per_pixel"] == 8 * len(png) / (67 * 53)
    assert forms["webp_lossless"]["bytes"] == len(encode_webp_lossless(packet.lr)) + found["payload_bytes"]
    # Header and map: 17 x 14 LR pixels of one bit.
    assert 0 < found["payload_bytes"] <= math.ceil(17 * 14 / 8) + 129


@pytest.mark.parametrize("model", ["bdflow-x4", "tiny-x2", "plain"])
def test_no_rival_gets_more_bytes_and_none_could_have_used_more(zoo: Path, model: str) -> None:
    original = Original(Picture(HR))
    with Rescaler.from_pretrained(model) as rescaler:
        found = measure_model(original, rescaler, [JPEG, WEBP, AVIF])
        scale = rescaler.card.interface.scale
    compared = 0
    for stored in found["forms"].values():
        for codec in (JPEG, WEBP, AVIF):
            rival = stored["same_bytes"][codec.key]
            if rival is None:
                assert len(codec.encode(original.picture, 1)) > stored["bytes"]
                continue
            quality, compared = rival["quality"], compared + 1
            data = codec.encode(original.picture, quality)
            assert rival["bytes"] == len(data) <= stored["bytes"]
            assert quality == 100 or len(codec.encode(original.picture, quality + 1)) > stored["bytes"]
            assert rival["psnr_y"] == psnr_y(decode(data), HR, border=scale)
    assert compared


def test_both_pictures_without_us_are_a_plain_small_one_and_a_file_as_good_as_ours(rescaler: Rescaler) -> None:
    found = measure_model(Original(Picture(HR)), rescaler, [WEBP])
    scale = rescaler.card.interface.scale
    data = encode_png_plain(bicubic_downscale(HR, scale=scale))
    assert np.array_equal(decode(data), bicubic_downscale(HR, scale=scale))
    assert found["small_png_bytes"] == len(data)
    assert found["as_good"]["webp"]["psnr_y"] >= found["psnr_y"]


def test_a_file_that_is_as_good_is_the_smallest_one() -> None:
    original = Original(Picture(HR))
    wanted = psnr_y(decode(WEBP.encode(Picture(HR), 60)), HR, border=2)
    found = original.at_least(WEBP, wanted, border=2)
    assert found is not None
    assert found["psnr_y"] is not None
    assert found["quality"] is not None
    assert found["psnr_y"] >= wanted
    assert psnr_y(decode(WEBP.encode(Picture(HR), int(found["quality"]) - 1)), HR, border=2) < wanted
    assert original.at_least(JPEG, 90.0, border=2) is None


def test_a_codec_without_a_file_that_small_has_no_figures() -> None:
    assert Original(Picture(HR)).at_most(JPEG, 50, border=2) is None


def test_a_grey_picture_is_scored_as_its_own_luma(rescaler: Rescaler) -> None:
    grey = np.repeat(photo(41, 47, 6)[:, :, :1], 3, axis=2)
    found = measure_model(Original(Picture(grey, "grey")), rescaler, [WEBP])
    restored = rescaler.upscale(rescaler.downscale(grey[:, :, 0]))
    assert found["psnr_y"] == psnr_y(restored[:, :, 0], grey[:, :, 0], border=4)


def test_means_are_over_pictures_and_what_one_lacks_has_none() -> None:
    trees = [{"a": {"x": 1, "y": 2.0}, "b": 1.5, "c": {"z": 1}}, {"a": {"x": 2, "y": math.inf}, "b": None, "c": None}]
    assert mean_of(trees) == {"a": {"x": 1.5, "y": None}, "b": None, "c": None}
    assert mean_of(trees[:1]) == trees[0]


def test_the_command_measures_and_its_result_fills_the_tables(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "S", tmp_path / "rate_distortion.json"
    folder.mkdir()
    sides = [(48, 57), (61, 40)]
    for index, size in enumerate(sides):
        Image.fromarray(photo(*size, index)).save(folder / f"{index}.png")
    monkeypatch.delenv("BDFLOW_DATA", raising=False)
    monkeypatch.setattr(rate_distortion, "CURVE", (30, 90))
    arguments = ["--folder", str(folder), "--model", "tiny-x2", "--model", "bdflow-x4", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["rate_distortion", *arguments])
    rate_distortion.main()
    assert "LPIPS" in capsys.readouterr().err
    result = json.loads(output.read_text())
    (one,) = result["sets"]
    assert (one["folder"], one["pictures"], result["lpips"]) == ("S", 2, None)
    assert list(one["models"]) == ["tiny-x2@1", "bdflow-x4@99"]
    for curve in one["curves"].values():
        low, high = curve["30"], curve["90"]
        assert low["bits_per_pixel"] < high["bits_per_pixel"]
        assert low["psnr_y"] < high["psnr_y"]
    sizes = [len(JPEG.encode(Picture(photo(*size, index)), 30)) for index, size in enumerate(sides)]
    assert one["curves"]["jpeg"]["30"]["bytes"] == pytest.approx(sum(sizes) / 2)
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    page = report.PAGES[measured.ROOT / "docs" / "results" / "rate-distortion.md"]
    tables = {name: make() for name, make in page.items() if "rate" in name}
    assert len(tables["rate"]) == 2 + 4
    assert f"| {one['models']['tiny-x2@1']['psnr_y']:.2f} dB |" in tables["rate"][2]
    assert "LPIPS was not measured." in tables["rate-settings"][0]


@needs_data
def test_lpips_is_measured_where_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from bdflow_rt.metrics.lpips import Lpips

    monkeypatch.setenv("BDFLOW_DATA", str(data_dir()))
    original = Original(Picture(HR), Judges.found().lpips)
    data = JPEG.encode(original.picture, 20)
    one, other = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 255 for x in (decode(data), HR))
    expected = float(Lpips()(one, other))
    assert original.lossy(JPEG, 20, border=2)["lpips"] == pytest.approx(expected, abs=1e-6)
    assert expected > 0.01
    assert original.lpips(HR) == pytest.approx(0, abs=1e-7)
    # Too small for the network: left out, not an error.
    assert Original(Picture(HR[:30]), Judges.found().lpips).lpips(HR[:30]) is None
