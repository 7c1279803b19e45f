"""Where pictures come from: folders and packs (.tar), and what may be trained on.

A `manifest.json` beside pictures, or above, lists them with their licences, and a `*-split.json` the originals that are
held out for validation. Training gets the manifest's pictures with `use: yes` that are not held out, whatever it is
pointed at.
"""

from __future__ import annotations

import collections
import functools
import json
import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bdflow_rt.errors import TrainingDataError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
MANIFEST = "manifest.json"
SPLITS = "*-split.json"
UNSTATED = "not stated"
"""The licence of pictures without a manifest."""
HELD_OUT, NOT_PERMITTED = "held out for validation", "use: no"
"""Why a picture is not trained on."""


@dataclass(frozen=True)
class Candidate:
    """A picture file that training may or may not use.

    Attributes:
        name: source and file, for messages and records.
        data: the content of the file.
        licence: as the manifest states it.
        excluded: why it is not trained on; None where it is.
    """

    name: str
    data: bytes
    licence: str = UNSTATED
    excluded: str | None = None


@dataclass(frozen=True)
class Split:
    """Originals that are held out, with all their files.

    Attributes:
        path: of the list.
        originals: (source, name of the original) as in the manifest.
        files: names of their picture files.
        packs: names of the packs beside the list that hold them.
    """

    path: pathlib.Path
    originals: frozenset[tuple[str, str]]
    files: frozenset[str]
    packs: frozenset[str]

    @classmethod
    def read(cls, path: pathlib.Path) -> Split:
        """Read a list of `{"source", "orig", "files": [...], "packs": [...]}`.

        Raises:
            TrainingDataError: it is missing or is something else.
        """
        entries = _read_json(path)
        try:
            originals = frozenset((str(entry["source"]), str(entry["orig"])) for entry in entries)
            files, packs = (_names(entry[key] for entry in entries) for key in ("files", "packs"))
        except (LookupError, TypeError) as error:
            raise _not_a(path, "list of held-out originals", error) from None
        if not files:
            raise _not_a(path, "list of held-out originals", "it lists no files")
        return cls(path, originals, files, packs)

    def pictures(self) -> list[tuple[str, bytes]]:
        """Name and content of every picture, from the packs beside the list, by name.

        Raises:
            TrainingDataError: a pack is missing or damaged, or lacks a picture.
        """
        contents: dict[str, bytes] = {}
        for pack in sorted(self.packs):
            pairs = _tar_pictures(self.path.parent / pack)
            contents |= {name: data for name, data in pairs if name in self.files}
        if lacking := self.files - contents.keys():
            raise TrainingDataError(
                f"{', '.join(sorted(self.packs))} beside {self.path} lack {min(lacking)}, which it lists."
            )
        return sorted(contents.items())


class Rules:
    """What the manifests and the lists of held-out originals above a picture file or pack say of its pictures.

    Lists in all folders above count, and the nearest manifest; where a file is a link, also those above what it names.
    """

    def __init__(self) -> None:
        self._read_manifest = functools.cache(_read_manifest)
        self._read_splits = functools.cache(_read_splits)

    def judge(self, path: pathlib.Path, name: str, file: str, data: bytes) -> Candidate:
        """Whether a picture may be trained on.

        Args:
            path: of the picture file, or of the pack that holds it.
            name: of the picture, for messages.
            file: its name in manifests and lists.
            data: its content.

        Raises:
            TrainingDataError: a manifest or list cannot be read, or the manifest does not list the picture.
        """
        trails = self._trails(path)
        splits = [split for trail in trails for folder in trail for split in self._read_splits(folder)]
        originals = {original for split in splits for original in split.originals}
        reason = HELD_OUT if any(file in split.files for split in splits) else None
        licence = UNSTATED
        for manifest in filter(None, (self._nearest_manifest(trail) for trail in trails)):
            row = (self._read_manifest(manifest) or {}).get(file)
            if row is None:
                raise TrainingDataError(
                    f"{name} is not in {manifest}, which lists what may be trained on. Add a row for it with its "
                    'licence and "use": "yes" or "no", or move it elsewhere.'
                )
            licence = str(row.get("licence", UNSTATED))
            if (str(row.get("source")), str(row.get("orig"))) in originals:
                reason = HELD_OUT
            elif row.get("use") != "yes":
                reason = reason or NOT_PERMITTED
        return Candidate(name, data, licence, reason)

    def files(self, path: pathlib.Path) -> set[pathlib.Path]:
        """The manifests and lists that decide about a file."""
        trails = self._trails(path)
        found = {split.path for trail in trails for folder in trail for split in self._read_splits(folder)}
        return found | set(filter(None, (self._nearest_manifest(trail) for trail in trails)))

    def _trails(self, path: pathlib.Path) -> list[list[pathlib.Path]]:
        """The folders above a path, as it is given and as it resolves, the nearest first."""
        given, resolved = pathlib.Path(os.path.abspath(path)), path.resolve()
        return [list(one.parents) for one in dict.fromkeys((given, resolved))]

    def _nearest_manifest(self, trail: list[pathlib.Path]) -> pathlib.Path | None:
        return next((folder / MANIFEST for folder in trail if self._read_manifest(folder / MANIFEST) is not None), None)


def candidates(sources: Sequence[pathlib.Path]) -> Iterator[Candidate]:
    """All pictures of folders (searched recursively, packs in them too) and .tar files, each judged by its rules.

    Raises:
        TrainingDataError: a source cannot be read, or a picture is not in the manifest above it.
    """
    rules = Rules()
    for source in sources:
        for file in source_files(source):
            if file.suffix.lower() in PICTURE_SUFFIXES:
                yield rules.judge(file, str(file), file.name, _read(file))
                continue
            for name, data in _tar_pictures(file):
                yield rules.judge(file, f"{file}:{name}", name, data)


def source_files(source: pathlib.Path) -> list[pathlib.Path]:
    """Picture files and packs of a folder, sorted; or the pack itself."""
    if not source.is_dir():
        return [source]
    suffixes = {*PICTURE_SUFFIXES, ".tar"}
    return sorted(file for file in source.rglob("*") if file.suffix.lower() in suffixes and file.is_file())


def rule_files(sources: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The manifests and lists of held-out originals that `candidates` obeys."""
    rules = Rules()
    return sorted({path for source in sources for file in source_files(source) for path in rules.files(file)})


def count_by(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    return dict(collections.Counter(values).most_common())


def _tar_pictures(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Name, without a leading "./", and content of every picture of a pack."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and pathlib.PurePath(member.name).suffix.lower() in PICTURE_SUFFIXES:
                    handle = tar.extractfile(member)
                    if handle is not None:
                        yield str(pathlib.PurePosixPath(member.name)), handle.read()
    except FileNotFoundError:
        raise TrainingDataError(f"{path} does not exist; give a folder or a .tar of pictures.") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise TrainingDataError(f"{path} is neither a folder nor a readable .tar: {error}.") from None


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrainingDataError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None


def _read_manifest(path: pathlib.Path) -> dict[str, dict[str, Any]] | None:
    """The rows by file name; None without a file, or where it is an object, as manifests of web pages are."""
    rows = _read_json(path) if path.is_file() else {}
    if isinstance(rows, dict):
        return None
    try:
        by_name = {str(row["file"]): dict(row) for row in rows}
    except (LookupError, TypeError, ValueError) as error:
        raise _not_a(path, "manifest", error) from None
    if len(by_name) != len(rows):
        raise _not_a(path, "manifest", "it lists a file twice, and which row counts is not clear")
    return by_name


def _read_splits(folder: pathlib.Path) -> list[Split]:
    return [Split.read(path) for path in sorted(folder.glob(SPLITS))]


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_a(path, "list of pictures", error) from None


def _names(lists: Iterable[Any]) -> frozenset[str]:
    """The names in lists of names; a string in place of a list would be read letter by letter."""
    names: set[str] = set()
    for listed in lists:
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise TypeError("files and packs must be lists of names")
        names |= {str(pathlib.PurePosixPath(name)) for name in listed}
    return frozenset(names)


def _not_a(path: pathlib.Path, what: str, reason: object) -> TrainingDataError:
    return TrainingDataError(f"{path} cannot be read as a {what}: {reason}. Restore it, or move it away.")
