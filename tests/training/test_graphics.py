"""Drawings for training: seeded, in place, up to the border, and of the patterns that were asked for."""

from __future__ import annotations

import functools
import itertools
import math
import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.training.graphics import draw_graphics
from bdflow_rt.training.graphics.areas import draw_flat, gradient, linear_weight
from bdflow_rt.training.graphics.canvas import Pixels, blur, grain, normals
from bdflow_rt.training.graphics.facades import bricks, see_wall, tiles, windows
from bdflow_rt.training.graphics.gratings import pulses, sine_grating, square_grating
from bdflow_rt.training.graphics.scene import GROUNDS, KINDS
from bdflow_rt.training.graphics.text import font_names, load_font, write, write_fringed
from tests.support import photo
from tests.training.small import run_python

every_kind = pytest.mark.parametrize("kind", KINDS)
LIMIT = (64, 400)
_photo = functools.cache(photo)


def _draw(kind: str | None, seed: int, height: int, width: int) -> tuple[Pixels, Pixels]:
    """A photograph, and the same after a drawing of a kind, or of any."""
    before = _photo(height, width, seed % 3)
    after = before.copy()
    (draw_graphics if kind is None else KINDS[kind][0])(after, np.random.default_rng(seed))
    return before, after


IN_A_FORK = """
import hashlib, os, signal, sys
import cv2, numpy as np
from bdflow_rt.training.graphics import draw_graphics
if sys.argv[1] == "fork":
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 2)
    warm = np.zeros((64, 64, 3), np.uint8)
    for seed in range(40):
        draw_graphics(warm, np.random.default_rng(seed))
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    signal.alarm(50)
digest = hashlib.sha256()
for seed in range(200):
    pixels = np.full((61, 83, 3), 99, np.uint8)
    draw_graphics(pixels, np.random.default_rng(seed))
    digest.update(pixels.tobytes())
assert "matplotlib" not in sys.modules
os.write(1, digest.hexdigest().encode())
os._exit(0)
"""


def test_a_fork_with_opencvs_threads_and_a_fresh_process_draw_the_same_pixels() -> None:
    """A fork lacks OpenCV's threads: what spreads over them hangs. Nothing imports matplotlib, which writes a cache."""
    digests = [
        run_python(["-c", IN_A_FORK, how], timeout_s=60, PYTHONHASHSEED=seed).stdout
        for how, seed in (("fork", "1"), ("fresh", "2"))
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 64


@every_kind
def test_the_same_state_draws_the_same_pixels(kind: str) -> None:
    drawings = [[_draw(kind, seed, 48, 53)[1].tobytes() for seed in range(12)] for _ in range(2)]
    assert drawings[0] == drawings[1]
    assert len(set(drawings[0])) == 12


@every_kind
def test_a_kind_changes_the_pixels_it_is_given_and_nothing_beside_them(kind: str) -> None:
    changed = []
    for seed in range(40):
        whole = np.concatenate([_photo(10, 71, 5), _photo(64, 71, seed % 3), _photo(10, 71, 6)])
        before = whole.copy()
        KINDS[kind][0](whole[10:-10], np.random.default_rng(seed))
        np.testing.assert_array_equal(whole[:10], before[:10])
        np.testing.assert_array_equal(whole[-10:], before[-10:])
        changed.append((whole != before).any(axis=2)[10:-10].mean())
    assert np.mean(np.array(changed) > 0) >= 0.95
    assert np.mean(changed) > (0.05 if kind == "lines" else 0.2)


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_drawings_often_reach_each_border(kind: str | None) -> None:
    sides = []
    for seed in range(60):
        before, after = _draw(kind, seed, 72, 64)
        changed = (before != after).any(axis=2)
        sides.append([changed[0].any(), changed[-1].any(), changed[:, 0].any(), changed[:, -1].any()])
    assert np.mean(sides, axis=0).min() > 0.3


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (31, 17), (97, 33)])
@every_kind
def test_odd_and_tiny_sizes_are_drawn(kind: str, size: tuple[int, int]) -> None:
    changed = [bool((np.not_equal(*_draw(kind, seed, *size))).any()) for seed in range(60)]
    assert np.mean(changed) > 0.85


def test_a_drawing_always_changes_something() -> None:
    # Six of these first set text of the ground's own colour, or beside the crop.
    for seed, ground in itertools.product(range(150, 450), (0, 255)):
        pixels = np.full((16, 16, 3), ground, np.uint8)
        draw_graphics(pixels, np.random.default_rng(seed))
        assert (pixels != ground).any()


def test_every_kind_is_drawn_in_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    for kind, (_, share) in KINDS.items():

        def note(pixels: Pixels, random: np.random.Generator, kind: str = kind) -> None:
            drawn.append(kind)
            pixels += 1

        monkeypatch.setitem(KINDS, kind, (note, share))
    random = np.random.default_rng(1)
    for _ in range(2000):
        draw_graphics(np.zeros((16, 16, 3), np.uint8), random)
    for kind, (_, share) in KINDS.items():
        assert 0.7 * share < drawn.count(kind) / 2000 < share + 0.1, kind


def test_shares_add_up_and_grounds_are_kinds() -> None:
    assert math.isclose(sum(share for _, share in KINDS.values()), 1)
    assert set(GROUNDS) <= set(KINDS)


@pytest.mark.parametrize("angle", [0.0, math.pi / 2, 0.6, 2.2])
@pytest.mark.parametrize("period", [2.5, 4.0, 7.3, 16.0])
def test_gratings_have_the_period_and_the_direction_asked_for(period: float, angle: float) -> None:
    window = np.hanning(128)[:, None] * np.hanning(128)
    for grating in (sine_grating, square_grating):
        spectrum = np.abs(np.fft.fft2((grating(128, 128, period=period, angle=angle) - 0.5) * window))
        spectrum[0, 0] = 0
        row, column = np.unravel_index(int(spectrum.argmax()), spectrum.shape)
        peak = np.array([np.fft.fftfreq(128)[row], np.fft.fftfreq(128)[column]])
        asked = np.array([math.sin(angle), math.cos(angle)]) / period
        # A peak is at the frequency or, as the picture is real, at its negative; to half a bin each way.
        assert min(np.abs(peak - asked).max(), np.abs(peak + asked).max()) < 0.6 / 128, grating


def test_square_gratings_are_smoothed_or_not() -> None:
    hard = square_grating(64, 64, period=5.3, angle=0.4, smooth=False)
    assert set(np.unique(hard)) == {0, 1}
    smooth = square_grating(64, 64, period=5.3, angle=0.4, smooth=True)
    assert 0.2 < np.mean((smooth > 0.05) & (smooth < 0.95)) < 0.9
    assert abs(float(smooth.mean()) - 0.5) < 0.02


def test_pulses_are_the_average_over_a_pixel() -> None:
    fine = np.linspace(0, 24, 24 * 1000, endpoint=False, dtype=np.float64) / 3.7 + 0.3
    inside = ((fine % 1 >= 0.2) & (fine % 1 < 0.55)).reshape(24, 1000).mean(axis=1)
    middle = ((np.arange(24) + 0.5) / 3.7 + 0.3).astype(np.float32)
    np.testing.assert_allclose(pulses(middle, start=0.2, stop=0.55, footprint=1 / 3.7), inside, atol=2e-3)


def test_gradients_are_smooth_and_reach_the_border() -> None:
    kinds = set()
    for seed in range(60):
        levels = gradient(128, 96, np.random.default_rng(seed))
        assert levels.shape == (3, 128, 96)
        assert levels.min() >= 0
        assert levels.max() <= 255
        # Four colours along a side, half as steep again where the ends are eased.
        steepest = max(np.abs(np.diff(levels, axis=axis)).max() for axis in (1, 2))
        assert steepest <= 1.5 * 3 * 255 / 95
        kinds.add(bool(np.abs(np.diff(levels[:, [0, -1]], axis=2)).max() > 0))
    assert kinds == {True, False}, "some vary along the border; nearly flat ones may not"
    weight = linear_weight(31, 47, angle=0.7)
    np.testing.assert_allclose([weight[0, 0], weight[-1, -1]], [0, 1], atol=1e-5)


def test_flat_areas_are_flat_up_to_the_border() -> None:
    single, equal = 0, []
    for seed in range(80):
        before = np.random.default_rng(seed).integers(256, size=(64, 64, 3)).astype(np.uint8)
        after = before.copy()
        draw_flat(after, np.random.default_rng(seed))
        single += len(np.unique(after.reshape(-1, 3), axis=0)) == 1
        changed = (after != before).any(axis=2)
        pairs = changed[:, 1:] & changed[:, :-1]
        equal.append((after[:, 1:] == after[:, :-1]).all(axis=2)[pairs].mean())
    assert single > 8, "whole crops of one colour"
    assert np.mean(equal) > 0.95


def test_a_wall_is_a_homography_with_its_own_footprint() -> None:
    wall = see_wall(90, 120, cell=(9, 6), roll=0.2, tilt=(0.5, -0.2), origin=(3, 5))
    rows, columns = np.mgrid[0:90, 0:120].astype(np.float64)
    columns, rows = (columns - 59.5) / 60, (rows - 44.5) / 60
    for place in (wall.u - 3, wall.v - 5):  # times the distance it is linear in the pixels
        linear = place * (1 + 0.5 * columns - 0.2 * rows)
        assert np.abs(np.diff(linear, 2, axis=0)).max() < 1e-4
        assert np.abs(np.diff(linear, 2, axis=1)).max() < 1e-4
    for place, footprint in ((wall.u, wall.du), (wall.v, wall.dv)):
        down, across = np.gradient(place.astype(np.float64))
        numerical = (np.abs(down) + np.abs(across))[1:-1, 1:-1]
        np.testing.assert_allclose(footprint[1:-1, 1:-1], numerical, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("pattern", [bricks, windows, tiles])
def test_facades_narrow_towards_their_vanishing_point(pattern: Any) -> None:
    def crossings(levels: Any) -> int:
        bright = levels.mean(axis=0)
        return int((np.diff(np.sign(bright - bright.mean(axis=1, keepdims=True)), axis=1) != 0).sum())

    straight = see_wall(128, 128, cell=(13, 11))
    slanted = see_wall(128, 128, cell=(13, 11), tilt=(-0.6, 0))
    plain, seen = (pattern(wall, np.random.default_rng(3)) for wall in (straight, slanted))
    assert not np.array_equal(plain, seen)
    near, far = (crossings(seen[:, :, part]) for part in (slice(0, 40), slice(88, 128)))
    assert far != near
    assert min(far, near) * 1.3 < max(far, near)
    assert crossings(plain[:, :, :64]) < 1.35 * crossings(plain[:, :, 64:]) < 1.35**2 * crossings(plain[:, :, :64])


def test_blur_keeps_flat_levels_and_the_border_and_narrows_the_spread() -> None:
    flat = np.full((3, 20, 31), 200, np.float32)
    np.testing.assert_allclose(blur(flat, 0.7), flat, rtol=1e-6)
    noise = grain(flat, np.random.default_rng(1), 5)
    assert blur(noise, 1.0).std() < 0.5 * noise.std()
    impulse = np.zeros((3, 21, 21), np.float32)
    impulse[:, 10, 10] = 1
    spread = blur(impulse, 0.8)[0]
    assert math.isclose(float(spread.sum()), 1, rel_tol=1e-5)
    assert math.isclose(float((spread.sum(axis=0) * (np.arange(21) - 10) ** 2).sum()), 0.8**2, rel_tol=0.1)


def test_normals_are_of_a_standard_normal_distribution() -> None:
    values = normals(np.random.default_rng(1), 100, 1000)
    assert abs(float(values.mean())) < 0.01
    assert abs(float(values.std()) - 1) < 0.01


def test_fonts_differ_and_have_letters_and_digits() -> None:
    names = font_names()
    assert len(names) >= 10
    masks = [write("Waltz 1234", load_font(name, 20), limit=LIMIT).tobytes() for name in names]
    assert len(set(masks)) == len(names)
    for name in names:  # a font without a letter draws the same box for all
        letters = {write(letter, load_font(name, 24), limit=LIMIT).tobytes() for letter in "abcxyzABCXYZ0123456789"}
        assert len(letters) >= 21, name
    heights = [write("H", load_font(names[-1], size), limit=LIMIT).shape[0] for size in (8, 16, 32)]
    assert heights[0] * 1.5 < heights[1]
    assert heights[1] * 1.5 < heights[2]


def test_text_is_smoothed_plain_or_fringed() -> None:
    for name in font_names():
        smooth, plain = (write("Sphinx", load_font(name, 17), smooth=which, limit=LIMIT) for which in (True, False))
        assert set(np.unique(plain)) == {0, 255}
        assert len(np.unique(smooth)) > 10
        fringed = write_fringed("Sphinx", name, 17, limit=LIMIT)
        assert (fringed[..., 0] != fringed[..., 2]).any()
        assert abs(float(fringed.sum()) / 3 / float(smooth.sum()) - 1) < 0.2


WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
import numpy as np
from bdflow_rt.training.graphics.text import draw_text, font_names
for seed in range(20):
    draw_text(np.zeros((40, 40, 3), np.uint8), np.random.default_rng(seed))
print(font_names())
"""


def test_text_is_drawn_without_matplotlib() -> None:
    done = run_python(["-c", WITHOUT_MATPLOTLIB], timeout_s=60)
    assert done.stdout == "('Pillow',)\n", done.stderr


def test_a_contact_sheet_shows_every_kind(tmp_path: pathlib.Path) -> None:
    """For people: a row of each kind and one of everything, in graphics.png of the test's folder."""
    rows = []
    for kind in (*KINDS, None):
        cells = []
        for seed in range(9):
            pixels = _photo(128, 128, seed % 5).copy()
            (draw_graphics if kind is None else KINDS[kind][0])(pixels, np.random.default_rng((7, seed)))
            cells.append(np.pad(pixels, ((2, 2), (2, 2), (0, 0)), constant_values=128))
        rows.append(np.concatenate(cells, axis=1))
    sheet = np.concatenate(rows)
    Image.fromarray(sheet).save(tmp_path / "graphics.png")
    assert len({row.tobytes() for row in rows}) == len(KINDS) + 1
    assert np.asarray(Image.open(tmp_path / "graphics.png")).shape == (132 * (len(KINDS) + 1), 132 * 9, 3)
