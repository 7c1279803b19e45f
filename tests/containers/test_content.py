"""Pictures and packets that come as content, without the name of a file."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from bdflow_rt.containers import read_picture
from bdflow_rt.errors import ArgumentError, CorruptImageError
from tests.containers.build import encoded, refused


@pytest.mark.parametrize("colours", ["srgb", None, 5, ""])
def test_colours_that_are_none_of_the_three_are_refused(colours: Any) -> None:
    with refused(ArgumentError, "colours is", "keep, assume, convert"):
        read_picture(encoded(Image.new("RGB", (3, 3)), "PNG"), colours=colours)


def test_content_has_the_name_it_is_given() -> None:
    with refused(CorruptImageError, "Standard input is empty"):
        read_picture(b"", name="Standard input")
    with refused(CorruptImageError, "Standard input is not a picture"):
        read_picture(b"hello", name="Standard input")
