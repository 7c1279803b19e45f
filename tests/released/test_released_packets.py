"""Released models are a storage format: a packet made with any of them opens for ever, whatever was released since."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bdflow_rt import Rescaler, read_packet
from bdflow_rt.metrics import psnr
from bdflow_rt.zoo.registry import SHIPPED
from tests.released.make import FOLDER, SIZE
from tests.support import photo

RELEASED = sorted(path.name for path in SHIPPED.iterdir() if "@" in path.name)


@pytest.mark.parametrize("name", RELEASED)
def test_a_stored_packet_restores_to_the_stored_picture(name: str) -> None:
    packet = read_packet(FOLDER / f"{name}.png")
    assert packet.header.model == name
    with Rescaler.for_packet(packet) as rescaler:
        restored = rescaler.upscale(packet).astype(int)
        assert rescaler.card.id == name  # not the newest weights of that name
    stored = np.asarray(Image.open(FOLDER / f"{name}-restored.png")).astype(int)
    assert restored.shape == (*SIZE, 3)
    assert np.abs(restored - stored).max() <= 1
    # The stored picture itself is no accident: it is near the original.
    assert psnr(stored.astype(np.uint8), photo(*SIZE, 11)) > 20


def test_no_stored_packet_lost_its_model() -> None:
    stored = {path.stem.removesuffix("-restored") for path in FOLDER.glob("*.png")}
    assert stored == set(RELEASED)
