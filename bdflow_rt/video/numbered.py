"""Names of numbered pictures: patterns such as frame_%05d.png, and folders in the order in which people count."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bdflow_rt.errors import CorruptVideoError, MissingFileError, UnreadableFileError, plural
from bdflow_rt.files import PathLike, as_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".gif")
"""Of the files in a folder that are taken as pictures; patterns name any file."""
_PLACE = re.compile(r"%(?:0([1-9]))?d")
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Pattern:
    """A file name with a place for a number: %d, or %05d for at least five digits.

    Attributes:
        folder: where the files are.
        head, tail: of the name, before and after the number.
        digits: at least so many, filled with zeros.
    """

    folder: Path
    head: str
    digits: int
    tail: str

    @classmethod
    def of(cls, path: PathLike) -> Pattern | None:
        """The pattern that a path is; None where its name has no place for a number, or more than one."""
        place = as_path(path)
        found = list(_PLACE.finditer(place.name))
        if len(found) != 1:
            return None
        start, end = found[0].span()
        return cls(place.parent, place.name[:start], int(found[0][1] or 1), place.name[end:])

    def path(self, number: int) -> Path:
        """The file of a number."""
        return self.folder / f"{self.head}{number:0{self.digits}d}{self.tail}"

    def numbers(self) -> list[int]:
        """The numbers of the files that are there, in order; a name that `path` would not give is none of them.

        Raises:
            MissingFileError, UnreadableFileError: the folder is not there, or cannot be read.
        """
        name = re.compile(re.escape(self.head) + _NUMBER.pattern + re.escape(self.tail))
        found = (match[1] for entry in _names(self.folder) if (match := name.fullmatch(entry)))
        return sorted(int(digits) for digits in found if f"{int(digits):0{self.digits}d}" == digits)


def is_sequence(path: PathLike) -> bool:
    """Whether a path means numbered pictures: a folder, or a pattern that is not itself the name of a file."""
    place = as_path(path)
    return place.is_dir() or (Pattern.of(place) is not None and not place.exists())


def find_pictures(path: PathLike) -> list[Path]:
    """The pictures of a pattern or of a folder, in order; in a folder 2 comes before 10.

    Raises:
        MissingFileError: there are none, or there is no such folder.
        UnreadableFileError: the folder cannot be read.
        CorruptVideoError: a number is missing between the first and the last one.
    """
    place = as_path(path)
    pattern = None if place.is_dir() else Pattern.of(place)
    if pattern is not None:
        numbers = pattern.numbers()
        _check_gaps(numbers, name=f"'{place}'")
        files = [pattern.path(number) for number in numbers]
    else:
        names = [name for name in _names(place) if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        files = [place / name for name in sorted(names, key=_counted)]
        parts = [_NUMBER.split(name.rpartition(".")[0]) for name in names]
        if len({(*part[:-2], part[-1]) for part in parts if len(part) > 1}) == 1:  # all but the last number alike
            _check_gaps(sorted(int(part[-2]) for part in parts if len(part) > 1), name=f"'{place}'")
    if not files:
        what = f"no picture with a number in place of {_PLACE.search(place.name)[0]}" if pattern else "no pictures"  # type: ignore[index]
        raise MissingFileError(f"'{place}' has {what}; name a folder of pictures, or a pattern such as frame_%05d.png.")
    return files


def _check_gaps(numbers: Iterable[int], *, name: str) -> None:
    """Refuse a sequence with a missing number.

    Raises:
        CorruptVideoError: one is missing.
    """
    for before, after in pairwise(numbers):
        if after > before + 1:
            raise CorruptVideoError(
                f"{name} has {plural(after - before - 1, 'picture')} missing between numbers {before} and {after}; add "
                "what is missing, or number the pictures without a gap."
            )


def _counted(name: str) -> tuple[list[str | int], str]:
    """What names are sorted by, so that numbers in them count as numbers; names and numbers alternate in it."""
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(_NUMBER.split(name))], name


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"The folder '{folder}' does not exist; check the name.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFileError(f"The folder '{folder}' cannot be read: {reason}.") from error
