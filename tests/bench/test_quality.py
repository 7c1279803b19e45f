"""The quality benchmark: its numbers are those of the metrics on the files it wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.bench.quality import PictureQuality, evaluate, list_pictures, measure
from bdflow_rt.containers import read_packet, read_picture
from bdflow_rt.errors import MissingFileError, ShapeError
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr, psnr_y, ssim_y
from bdflow_rt.rescaler import Rescaler
from tests.support import photo

SIZES = [(63, 65), (37, 61), (41, 40)]


@pytest.fixture
def rescaler(zoo: Path) -> Iterator[Rescaler]:
    """The default model."""
    with Rescaler.from_pretrained() as made:
        yield made


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three pictures of odd, prime and even sizes."""
    for index, size in enumerate(SIZES):
        Image.fromarray(photo(*size, index)).save(tmp_path / f"{index}.png")
    return list_pictures(tmp_path)


def test_every_number_is_that_of_the_metric_on_the_files(
    rescaler: Rescaler, pictures: list[Path], tmp_path: Path
) -> None:
    found = measure(rescaler, pictures[0], tmp_path)
    hr, packet = read_picture(pictures[0]).pixels, read_packet(tmp_path / "lr.png")
    restored = read_picture(tmp_path / "restored.png").pixels
    reference = bicubic_downscale(hr, scale=4)
    bicubic = bicubic_resize(reference, scale=4)[:63, :65]
    assert found == PictureQuality(
        name="0.png",
        width=65,
        height=63,
        psnr_y=psnr_y(restored, hr, border=4),
        ssim_y=ssim_y(restored, hr, border=0),
        bicubic_psnr_y=psnr_y(bicubic, hr, border=4),
        lr_psnr=psnr(packet.lr, reference),
        lr_psnr_y=psnr_y(packet.lr, reference, border=0),
        lr_max_difference=int(np.abs(packet.lr.astype(int) - reference).max()),
        file_bytes=(tmp_path / "lr.png").stat().st_size,
        chunk_bytes=(tmp_path / "lr.png").read_bytes().index(b"IDAT") - _end_of_chunk_head(tmp_path / "lr.png"),
        chunk_limit_bytes=math.ceil(17 * 16 / 8) + 256,
    )


def _end_of_chunk_head(path: Path) -> int:
    # What stands between the chunk's data and the type of the next chunk: its CRC and that chunk's length.
    return path.read_bytes().index(b"bdFL") + 4 + 8


@pytest.mark.parametrize("model", ["bdflow-x4", "tiny-x2", "plain"])
def test_the_chunk_stays_within_its_limit(zoo: Path, tmp_path: Path, model: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (101, 203, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with Rescaler.from_pretrained(model) as rescaler:
        found = measure(rescaler, tmp_path / "noise.png", tmp_path)
        config = rescaler.card.config
    lr_pixels = math.ceil(101 / config.scale) * math.ceil(203 / config.scale)
    assert found.chunk_limit_bytes == math.ceil(lr_pixels * config.bits / 8) + 256
    assert 0 < found.chunk_bytes <= found.chunk_limit_bytes


def test_means_are_over_the_pictures_and_everything_is_json(rescaler: Rescaler, pictures: list[Path]) -> None:
    result = evaluate(rescaler, pictures)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [one["name"] for one in result["pictures"]] == ["0.png", "1.png", "2.png"]
    assert result["weights_sha256"] == rescaler.card.weights_sha256
    for column in ("psnr_y", "ssim_y", "bicubic_psnr_y", "lr_psnr", "lr_psnr_y", "file_bytes", "chunk_bytes"):
        assert result["means"][column] == pytest.approx(np.mean([one[column] for one in result["pictures"]]))
    assert result["means"]["lr_max_difference"] == max(one["lr_max_difference"] for one in result["pictures"])


def test_the_tracker_sees_every_picture(rescaler: Rescaler, pictures: list[Path]) -> None:
    seen: list[Path] = []

    def track(items: object) -> Iterator[Path]:
        for item in items:  # type: ignore[attr-defined]
            seen.append(item)
            yield item

    evaluate(rescaler, pictures, track=track)
    assert seen == pictures


def test_a_perfect_score_is_null(rescaler: Rescaler, tmp_path: Path) -> None:
    Image.new("L", (40, 43), 77).save(tmp_path / "flat.png")
    result = evaluate(rescaler, [tmp_path / "flat.png"])
    assert result["pictures"][0]["bicubic_psnr_y"] is None
    assert result["means"]["bicubic_psnr_y"] is None
    assert result["pictures"][0]["psnr_y"] > 0


def test_the_smallest_picture_that_can_be_measured(rescaler: Rescaler, tmp_path: Path) -> None:
    Image.fromarray(photo(11, 11, 1)).save(tmp_path / "a.png")
    assert measure(rescaler, tmp_path / "a.png", tmp_path).width == 11
    Image.fromarray(photo(11, 10, 1)).save(tmp_path / "a.png")
    with pytest.raises(ShapeError, match="10 x 11"):
        measure(rescaler, tmp_path / "a.png", tmp_path)


def test_only_pictures_are_listed_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.txt", "d.webp", ".hidden"):
        (tmp_path / name).touch()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "d.webp"]
    with pytest.raises(MissingFileError, match="no pictures"):
        list_pictures(Path(__file__).parent)
