"""What a picture's file says its colours are, and the ICC profile that its RGB pixels go along with.

By default colours are kept: an ICC profile is carried along, and for colours that are described in another way a
profile is made. The caller may have them converted to sRGB instead, or taken as sRGB.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bdflow_rt.containers.advice import ASSUME_SRGB, OR_IN_AN_EDITOR, TO_8_BIT_RGB
from bdflow_rt.containers.icc import cmyk_profile, rgb_profile
from bdflow_rt.errors import UnsupportedImageError
from bdflow_rt.options import Colours
from bdflow_rt.picture import MAX_ICC_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

Kind = Literal["rgb", "grey", "cmyk"]


@dataclass(frozen=True)
class FileColour:
    """What a file says.

    Attributes:
        profile: its ICC profile as it is in the file, usable or not.
        overruled: why the profile does not count whatever it holds; empty where it does.
        other: what says beside a profile that the colours are not sRGB, in words; empty where nothing does.
        made: an ICC profile for `other`; None where there can be none.
        unread: what speaks of the colours and is damaged, in words; empty where nothing is.
    """

    profile: bytes | None = None
    overruled: str = ""
    other: str = ""
    made: bytes | None = None
    unread: str = ""


def choose_profile(colour: FileColour, kind: Kind, *, colours: Colours, name: str) -> bytes | None:
    """The ICC profile of the picture's own pixels that counts, None for sRGB; `name` starts the messages.

    Raises:
        UnsupportedImageError: the colours are not sRGB and no profile can say so, or one of more than 16 MiB does.

    Warns:
        UserWarning: what the file says of its colours does not count, or a profile was made for it.
    """
    has_profile = bool(colour.profile)
    if colours == "assume":
        if has_profile or colour.other:
            what = colour.other or "its ICC profile"
            warnings.warn(f"{name} is taken as sRGB, as asked, whatever {what} says.", stacklevel=2)
        return None
    check_profile_size(len(colour.profile or b""), name=name)
    if has_profile and not colour.overruled and _is_usable(colour.profile, kind):
        return colour.profile
    if kind == "cmyk":  # neither sRGB nor what else a file says of RGB
        return None
    if colour.made:
        verb = "is converted from" if colours == "convert" else "keeps its colours, which are not sRGB but of"
        warnings.warn(f"{name} {verb} {colour.other}, by an ICC profile made for them.", stacklevel=2)
        return colour.made
    if colour.other:
        raise UnsupportedImageError(
            f"{name} is not sRGB but has {colour.other}, which no ICC profile here can say; convert it in a "
            f"program that knows such colours, or {ASSUME_SRGB}."
        )
    if has_profile:
        reason = colour.overruled or "it cannot be used"
        warnings.warn(f"{name} is taken as sRGB, without the ICC profile in it: {reason}.", stacklevel=2)
    elif colour.unread:
        warnings.warn(f"{name} is taken as sRGB, since {colour.unread} is damaged.", stacklevel=2)
    return None


def check_profile_size(size: int, *, name: str) -> None:
    """Refuse a profile that no packet would take, before long work.

    Raises:
        UnsupportedImageError: `size`, in bytes, is more than 16 MiB.
    """
    if size > MAX_ICC_BYTES:
        raise UnsupportedImageError(
            f"{name} has a colour profile of more than {MAX_ICC_BYTES} bytes, the most that is carried along; "
            f"{OR_IN_AN_EDITOR}."
        )


def srgb_converter(profile: bytes, mode: str, *, name: str) -> Callable[[Image.Image], Image.Image]:
    """A function from pictures of a mode with that profile to RGB pictures in sRGB.

    Relative colorimetric with black point compensation, by LittleCMS.

    Raises:
        UnsupportedImageError: LittleCMS does not take the profile.
    """
    from PIL import ImageCms

    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        advice = OR_IN_AN_EDITOR if mode == "RGB" else f"convert it in another way, for example with: {TO_8_BIT_RGB}"
        raise UnsupportedImageError(f"{name} has an ICC profile that cannot be converted from; {advice}.") from error
    return transform.apply


def _is_usable(profile: bytes | None, kind: Kind) -> bool:
    return (cmyk_profile(profile) if kind == "cmyk" else rgb_profile(profile, colour=kind)) is not None
