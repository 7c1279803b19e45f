"""Pictures say their own number, whatever a rescaling or a codec does to them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.video.numbered import draw_frame, frame_number

SIZES = [(96, 64), (97, 65), (64, 96), (160, 96), (64, 48)]
NUMBERS = [0, 1, 2, 255, 256, 9_999, 12_345, 65_535]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("filter", [cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR])
def test_number_is_read_at_every_size(size: tuple[int, int], scale: int, filter: int) -> None:
    small = -(-size[0] // scale), -(-size[1] // scale)
    for number in NUMBERS:
        picture = cv2.resize(draw_frame(number, *size), small, interpolation=filter)
        assert frame_number(picture) == number
        assert frame_number(picture[..., 1]) == number


@pytest.mark.parametrize("quality", [10, 50])
def test_number_is_read_after_lossy_coding(quality: int) -> None:
    for number in NUMBERS:
        coded = cv2.imencode(".jpg", draw_frame(number, 96, 64), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        assert frame_number(decoded) == number


@pytest.mark.parametrize("value", [0, 100, 128, 255])
def test_a_plain_picture_says_no_number(value: int) -> None:
    with pytest.raises(ValueError, match="say no number"):
        frame_number(np.full((64, 96, 3), value, np.uint8))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_says_no_number(turns: int) -> None:
    for number in range(48):
        with pytest.raises(ValueError, match="say no number"):
            frame_number(np.rot90(draw_frame(number, 96, 64), turns))


def test_frames_differ_from_one_another() -> None:
    pictures = {draw_frame(number, 96, 64)[:32].tobytes() for number in range(48)}
    assert len(pictures) == 48
