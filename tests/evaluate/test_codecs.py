"""The codecs that models are compared with: what they write, and the search for a number of bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin, features

from bdflow_rt.errors import BackendUnavailableError
from bdflow_rt.evaluate import codecs
from bdflow_rt.evaluate.codecs import QUALITIES, decode, encode_webp_lossless, largest_quality, rivals, smallest_quality
from bdflow_rt.metrics import psnr
from bdflow_rt.picture import Picture
from tests.support import photo

every_codec = pytest.mark.parametrize(
    "codec", [codecs.JPEG, codecs.JPEG_444, codecs.WEBP, codecs.AVIF], ids=lambda codec: codec.key
)


@pytest.mark.parametrize("limit", [0, 9, 10, 11, 499, 500, 501, 999, 1000, 1001, 10**9])
def test_the_largest_quality_not_above_the_bytes_is_found(limit: int) -> None:
    fitting = [quality for quality in QUALITIES if 10 * quality <= limit]
    assert largest_quality(lambda quality: 10 * quality, limit) == max(fitting, default=None)


@pytest.mark.parametrize("least", [-1, 1, 2, 50, 99, 100, 101])
def test_the_lowest_quality_that_is_enough_is_found(least: int) -> None:
    enough = [quality for quality in QUALITIES if quality >= least]
    assert smallest_quality(lambda quality: quality >= least) == min(enough, default=None)


def test_the_search_asks_for_few_qualities_and_only_for_those_that_exist() -> None:
    asked: list[int] = []

    def size_of(quality: int) -> int:
        asked.append(quality)
        return quality

    for limit in (-1, 37, 1000):
        asked.clear()
        largest_quality(size_of, limit)
        assert set(asked) <= set(QUALITIES)
        assert len(asked) <= 7


@every_codec
def test_the_quality_found_fits_and_the_next_one_does_not(codec: codecs.Codec) -> None:
    picture = Picture(photo(61, 83, 3))
    sizes = {quality: len(codec.encode(picture, quality)) for quality in (20, 60, 90)}
    for limit in (sizes[20] - 1, sizes[60], sizes[90] + 1):
        found = largest_quality(lambda quality: len(codec.encode(picture, quality)), limit)
        assert found is not None
        assert len(codec.encode(picture, found)) <= limit < len(codec.encode(picture, found + 1))


@every_codec
def test_more_quality_is_more_bytes_and_a_picture_nearer_to_the_original(codec: codecs.Codec) -> None:
    picture = Picture(photo(67, 59, 1))
    files = [codec.encode(picture, quality) for quality in (10, 50, 95)]
    assert sorted(files, key=len) == files
    near = [psnr(decode(data), picture.pixels) for data in files]
    assert sorted(near) == near
    assert near[-1] > near[0] + 6


def test_chroma_is_sampled_as_the_settings_say() -> None:
    picture = Picture(photo(40, 40, 2))
    sampled = {}
    for codec in (codecs.JPEG, codecs.JPEG_444):
        with Image.open(io.BytesIO(codec.encode(picture, 80))) as image:
            sampled[codec.settings.split(",")[0]] = JpegImagePlugin.get_sampling(image)
    assert sampled == {"4:2:0": 2, "4:4:4": 0}


@every_codec
def test_a_grey_picture_is_coded_as_grey_and_comes_back_with_equal_channels(codec: codecs.Codec) -> None:
    grey = np.repeat(photo(40, 56, 4)[:, :, :1], 3, axis=2)
    data = codec.encode(Picture(grey, "grey"), 85)
    with Image.open(io.BytesIO(data)) as image:
        # WebP has no grey; AVIF's is used where Pillow knows it.
        assert image.mode == "L" or codec.format != "JPEG"
    back = decode(data, grey=True)
    assert back.shape == grey.shape
    assert (back[:, :, 0] == back[:, :, 1]).all()
    assert (back[:, :, 0] == back[:, :, 2]).all()
    assert psnr(back, grey) > 30


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (40, 41)])
def test_lossless_webp_gives_every_pixel_back(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert np.array_equal(decode(encode_webp_lossless(pixels)), pixels)


def test_a_pillow_without_avif_is_named_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [codec.key for codec in rivals()] == ["jpeg", "webp", "avif"]
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(BackendUnavailableError, match=r"without AVIF.*pillow>=11\.3"):
        rivals()
