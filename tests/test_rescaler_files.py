"""Rescaler on files: the picture's properties survive, and a failure leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from bdflow_rt import Packet, Rescaler, write_packet
from bdflow_rt.containers.image import read_picture
from bdflow_rt.containers.png import read_packet
from bdflow_rt.errors import (
    ArgumentError,
    ImageTooLargeError,
    MissingFileError,
    NonFiniteOutputError,
    NotAPacketError,
    OutputExistsAsInputError,
    UnwritableOutputError,
)
from bdflow_rt.zoo import ModelCard
from tests.support import ROOT, photo
from tests.support_models import make_model, tiny_config, with_weights


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


@pytest.fixture(scope="module")
def rescaler(card: ModelCard) -> Iterator[Rescaler]:
    with Rescaler(card, threads=1) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photo(45, 38, 1)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_files_equal_arrays(rescaler: Rescaler, source: Path, tmp_path: Path) -> None:
    small, restored = tmp_path / "small.png", tmp_path / "restored.png"
    by_array = rescaler.downscale(photo(45, 38, 1))
    by_path = rescaler.downscale(source)
    by_file = rescaler.downscale_file(source, small)
    assert isinstance(by_array, Packet)
    assert isinstance(by_path, Packet)
    for packet in (by_path, by_file, read_packet(small)):
        assert np.array_equal(packet.lr, by_array.lr)
        assert packet.boundary is not None
        assert by_array.boundary is not None
        assert np.array_equal(packet.boundary, by_array.boundary)
        assert packet.header == by_array.header
    assert np.array_equal(pixels(small), by_array.lr)
    picture = rescaler.upscale_file(small, restored)
    for found in (picture.pixels, pixels(restored), rescaler.upscale(small), rescaler.upscale(str(small))):
        assert np.array_equal(found, rescaler.upscale(by_array))


def test_upscale_file_takes_a_packet(rescaler: Rescaler, tmp_path: Path) -> None:
    packet = rescaler.downscale(photo(9, 7, 1))
    assert isinstance(packet, Packet)
    rescaler.upscale_file(packet, tmp_path / "out.ppm")
    assert np.array_equal(pixels(tmp_path / "out.ppm"), rescaler.upscale(packet))


def test_colour_profile_is_kept_both_ways(rescaler: Rescaler, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photo(20, 24, 1)).save(tmp_path / "in.png", icc_profile=profile)
    rescaler.downscale_file(tmp_path / "in.png", tmp_path / "small.png")
    rescaler.upscale_file(tmp_path / "small.png", tmp_path / "out.png")
    for name in ("small.png", "out.png"):
        with Image.open(tmp_path / name) as image:
            assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_exif_orientation_is_applied_once(rescaler: Rescaler, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(photo(20, 32, 1)).save(tmp_path / "in.png", exif=exif)
    upright = read_picture(tmp_path / "in.png").pixels
    assert upright.shape == ((32, 20, 3) if orientation in (6, 8) else (20, 32, 3))
    rescaler.downscale_file(tmp_path / "in.png", tmp_path / "small.png")
    rescaler.upscale_file(tmp_path / "small.png", tmp_path / "out.png")
    assert np.array_equal(pixels(tmp_path / "out.png"), rescaler.upscale(rescaler.downscale(upright)))
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif().get(274, 1) == 1


def test_grey_files_stay_grey(rescaler: Rescaler, tmp_path: Path) -> None:
    Image.fromarray(photo(20, 24, 1)[:, :, 1]).save(tmp_path / "in.png")
    rescaler.downscale_file(tmp_path / "in.png", tmp_path / "small.png")
    rescaler.upscale_file(tmp_path / "small.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "L"
        restored = np.asarray(image)
    assert np.array_equal(np.repeat(restored[:, :, None], 3, axis=2), rescaler.upscale(tmp_path / "small.png"))


def test_output_that_is_the_input_is_refused_untouched(rescaler: Rescaler, source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    for target in (source, tmp_path / "link.png"):
        with pytest.raises(OutputExistsAsInputError):
            rescaler.downscale_file(source, target)
    rescaler.downscale_file(source, tmp_path / "small.png")
    with pytest.raises(OutputExistsAsInputError):
        rescaler.upscale_file(tmp_path / "small.png", tmp_path / "small.png")
    assert source.read_bytes() == before
    assert read_packet(tmp_path / "small.png").header.width == 38


def test_wrong_names_are_refused_before_the_work(card: ModelCard, source: Path, tmp_path: Path) -> None:
    with Rescaler(card, threads=1) as rescaler:
        with pytest.raises(ArgumentError, match=r"\.jpg"):
            rescaler.downscale_file(source, tmp_path / "small.jpg")
        with pytest.raises(UnwritableOutputError):
            rescaler.downscale_file(source, tmp_path / "none" / "small.png")
        with pytest.raises(MissingFileError):
            rescaler.downscale_file(tmp_path / "none.png", tmp_path / "small.png")
        with pytest.raises(NotAPacketError):
            rescaler.upscale_file(source, tmp_path / "out.png")
        assert rescaler._runner.pool.workers[0].engines == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png"]


def test_an_engine_that_fails_leaves_no_file_and_keeps_an_old_one(source: Path, tmp_path: Path) -> None:
    sound = make_model(tmp_path / "zoo", tiny_config(2))
    with Rescaler(sound, threads=1) as rescaler:
        packet = rescaler.downscale(source)
    assert isinstance(packet, Packet)
    broken = with_weights(sound, {"levels.0.0.phi.conv1.bias": float("nan")})
    work = tmp_path / "work"
    work.mkdir()
    (work / "old.png").write_bytes(b"old")
    with Rescaler(broken, threads=1) as rescaler:
        for name in ("new.png", "old.png"):
            with pytest.raises(NonFiniteOutputError):
                rescaler.downscale_file(source, work / name)
    assert [(path.name, path.read_bytes()) for path in work.iterdir()] == [("old.png", b"old")]


def test_output_formats_by_suffix(rescaler: Rescaler, source: Path, tmp_path: Path) -> None:
    rescaler.downscale_file(source, tmp_path / "small.png")
    wanted = rescaler.upscale(tmp_path / "small.png")
    for suffix in ("png", "webp", "tif", "bmp", "ppm"):
        rescaler.upscale_file(tmp_path / "small.png", tmp_path / f"out.{suffix}")
        assert np.array_equal(pixels(tmp_path / f"out.{suffix}"), wanted)
    rescaler.upscale_file(tmp_path / "small.png", tmp_path / "out.jpg")
    assert np.abs(pixels(tmp_path / "out.jpg").astype(int) - wanted).mean() < 4


MEASURE = """
import resource, sys
import numpy as np
from bdflow_rt import Rescaler
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
rescaler = Rescaler.from_pretrained(sys.argv[1], threads=1, memory_limit_mib=64)
rescaler.warm_up()
image = np.tile(np.random.default_rng(0).integers(0, 256, (250, 400, 3), np.uint8), (16, 16, 1))
start = peak()
packet = rescaler.downscale(image)
down = peak()
restored = rescaler.upscale(packet)
print(start, down, peak(), *restored.shape, len(image.data) // 2**20)
"""


@pytest.mark.slow
def test_memory_is_bounded_for_large_pictures(tmp_path: Path) -> None:
    # 25.6 megapixels: the network would take 2 GiB at once, and may take 64 MiB.
    card = make_model(tmp_path, tiny_config(4, hidden=16))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(card.folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    start, down, both, height, width, channels, picture = map(int, done.stdout.split())
    assert (height, width, channels) == (4000, 6400, 3)
    lr = picture // 16 + picture // 48
    assert down - start < 64 + lr + 32
    assert both - start < 64 + lr + picture + 32


def test_a_packet_file_opens_with_the_rescaler_that_restores_it(
    rescaler: Rescaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packet = rescaler.downscale(photo(37, 45, 1))
    write_packet(tmp_path / "small.png", packet)
    monkeypatch.setenv("BDFLOW_ZOO", str(rescaler.card.folder))
    opened, found = Rescaler.open(tmp_path / "small.png", threads=1)
    with opened:
        assert opened.card.identity == rescaler.card.identity
        assert np.array_equal(opened.upscale(found), rescaler.upscale(packet))
    with pytest.raises(ImageTooLargeError):
        Rescaler.open(tmp_path / "small.png", max_pixels=100)


def test_the_quality_of_a_jpeg_or_webp_is_that_of_its_file(rescaler: Rescaler, source: Path, tmp_path: Path) -> None:
    packet = rescaler.downscale(source)
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (5, 60, None):
            rescaler.upscale_file(packet, tmp_path / f"out{suffix}", quality=quality)
            sizes.append((tmp_path / f"out{suffix}").stat().st_size)
        assert sizes == sorted(set(sizes))
    assert np.array_equal(pixels(tmp_path / "out.webp"), rescaler.upscale(packet))
    before = sorted(tmp_path.iterdir())
    for name, refused in (("other.png", 90), ("other.jpg", 0), ("other.jpg", 101)):
        with pytest.raises(ArgumentError, match=f"quality is {refused}"):
            rescaler.upscale_file(packet, tmp_path / name, quality=refused)
    assert sorted(tmp_path.iterdir()) == before


def test_files_replace_what_exists_as_libraries_do(rescaler: Rescaler, source: Path, tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(source.read_bytes())
    packet = rescaler.downscale_file(source, tmp_path / "small.png")
    assert np.array_equal(pixels(tmp_path / "small.png"), packet.lr)
    (tmp_path / "out.png").write_bytes(source.read_bytes())
    rescaler.upscale_file(packet, tmp_path / "out.png")
    assert np.array_equal(pixels(tmp_path / "out.png"), rescaler.upscale(packet))
