"""Grey colour profiles and their RGB twins, compared through LittleCMS."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageCms

from bdflow_rt.containers.icc import grey_profile, rgb_profile
from bdflow_rt.errors import UnsupportedImageError
from tests.containers.build import refused

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RAMP = np.arange(256, dtype=np.uint8).reshape(1, 256)


def make_grey_profile(*, gamma: float = 1.5, space: bytes = b"GRAY", pcs: bytes = b"XYZ ", curve: bool = True) -> bytes:
    """A version 2 profile as Photoshop writes them for dot gain and grey gamma."""
    table = np.rint(65535 * np.linspace(0, 1, 64) ** gamma).astype(">u2").tobytes()
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    text = b"text\0\0\0\0public domain\0\0\0"
    tags = {b"cprt": text, b"wtpt": white}
    if curve:
        tags[b"kTRC"] = struct.pack(">4s4xI", b"curv", 64) + table
    body, index, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        index += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    white_xyz = struct.pack(">3i", 63190, 65536, 54061)
    fixed = b"\0\0\0\0" + b"\x02\x20\0\0" + b"prtr" + space + pcs + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    header = struct.pack(">I", start + len(body)) + fixed + bytes(28) + white_xyz + bytes(48)
    assert len(header) == 128
    return header + struct.pack(">I", len(tags)) + index + body


def long_profile(size: int, *, seed: int = 0) -> bytes:
    """sRGB with noise at its end, `size` bytes in all."""
    noise = np.random.default_rng(seed).integers(0, 256, size - len(SRGB), np.uint8)
    return struct.pack(">I", size) + SRGB[4:] + noise.tobytes()


def to_lab(profile: bytes, image: Image.Image) -> np.ndarray:
    """The colours of a picture with that profile."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    lab = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(source, lab, image.mode, "LAB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    return np.asarray(ImageCms.applyTransform(image, transform)).astype(int)


@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5, 2.2])
def test_the_rgb_twin_of_a_grey_profile_gives_the_same_colours(gamma: float) -> None:
    grey = make_grey_profile(gamma=gamma)
    twin = rgb_profile(grey, colour="grey")
    assert twin is not None
    image = Image.fromarray(RAMP)
    expected = to_lab(grey, image)
    assert np.abs(to_lab(twin, image.convert("RGB")) - expected)[..., 0].max() <= 1
    assert np.ptp(expected[..., 0].astype(np.uint8)) > 200


def test_the_grey_profile_comes_back_with_the_same_colours() -> None:
    grey = make_grey_profile()
    twin = rgb_profile(grey, colour="grey")
    assert twin is not None
    back = grey_profile(twin)
    assert back is not None
    image = Image.fromarray(RAMP)
    assert np.array_equal(to_lab(back, image), to_lab(grey, image))
    assert rgb_profile(back, colour="grey") == twin


def test_srgb_has_a_grey_twin_too() -> None:
    grey = grey_profile(SRGB)
    assert grey is not None
    image = Image.fromarray(RAMP)
    assert np.abs(to_lab(grey, image) - to_lab(SRGB, image.convert("RGB")))[..., 0].max() <= 1


def test_rgb_profiles_stay_as_they_are() -> None:
    assert rgb_profile(SRGB, colour="rgb") == SRGB
    assert rgb_profile(SRGB, colour="grey") == SRGB


def test_profiles_of_another_colour_space_or_broken_ones_are_left_out_as_viewers_do() -> None:
    grey = make_grey_profile()
    assert rgb_profile(grey, colour="rgb") is None
    assert rgb_profile(make_grey_profile(space=b"CMYK"), colour="grey") is None
    assert rgb_profile(None, colour="rgb") is None
    for broken in (b"", b"not a profile", grey[:140], grey[:-1], SRGB[:36] + b"xxxx" + SRGB[40:]):
        assert rgb_profile(broken, colour="grey") is None
        assert grey_profile(broken) is None
    assert rgb_profile(grey[:128] + b"\xff\xff\xff\xff" + grey[132:], colour="grey") is None


@pytest.mark.parametrize("profile", [make_grey_profile(pcs=b"Lab "), make_grey_profile(curve=False)])
def test_a_grey_profile_without_an_rgb_twin_is_refused_rather_than_lost(profile: bytes) -> None:
    with refused(UnsupportedImageError, "profile"):
        rgb_profile(profile, colour="grey")


def test_a_profile_of_many_tags_as_long_as_itself_takes_little_memory() -> None:
    size = 1 << 20
    tags = b"".join(struct.pack(">4sII", b"t%03d" % index, 1, size - 1) for index in range(200))
    profile = (SRGB[:128] + struct.pack(">I", 200) + tags).ljust(size, b"\0")
    tracemalloc.start()
    assert rgb_profile(profile, colour="rgb") == profile
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * size


def test_curves_that_differ_have_no_grey_twin() -> None:
    start = struct.unpack(">I", SRGB[SRGB.index(b"gTRC") + 4 :][:4])[0]
    differing = bytearray(SRGB)
    at = SRGB.index(b"gTRC") + 4
    differing[at : at + 4] = struct.pack(">I", start + 4)
    assert grey_profile(bytes(differing)) is None
