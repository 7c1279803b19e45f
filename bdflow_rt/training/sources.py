"""Where pictures come from: folders and packs (.tar), and what may be trained on.

A `manifest.json` beside pictures lists them with their licences, and a `*-split.json` the originals that are held out
for validation. Training gets the manifest's pictures with `use: yes` that are not held out, whatever it is pointed at.
"""

from __future__ import annotations

import collections
import json
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
            files, packs = (
                frozenset(str(name) for entry in entries for name in entry[key]) for key in ("files", "packs")
            )
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
    """What the manifest and the lists of held-out originals in a folder say of its pictures.

    Args:
        folder: of manifest and lists; without either, everything may be trained on.

    Raises:
        TrainingDataError: one of them cannot be read.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        manifest, splits = folder / MANIFEST, sorted(folder.glob(SPLITS))
        self.files = [*([manifest] if manifest.is_file() else []), *splits]
        held_out = [Split.read(path) for path in splits]
        originals = {original for split in held_out for original in split.originals}
        self._held_out = {name for split in held_out for name in split.files}
        self._rows = _read_manifest(manifest) if manifest.is_file() else None
        if self._rows is not None:
            self._held_out |= {
                name for name, row in self._rows.items() if (row.get("source"), row.get("orig")) in originals
            }

    def judge(self, name: str, file: str, data: bytes) -> Candidate:
        """Whether a picture may be trained on.

        Args:
            name: of the picture, for messages.
            file: its name in the manifest.
            data: its content.

        Raises:
            TrainingDataError: there is a manifest, and it does not list the picture.
        """
        if self._rows is None:
            return Candidate(name, data, excluded=HELD_OUT if file in self._held_out else None)
        row = self._rows.get(file)
        if row is None:
            raise TrainingDataError(
                f"{name} is not in {self.files[0]}, which lists what may be trained on. Add a row for it with its "
                'licence and "use": "yes" or "no", or move it elsewhere.'
            )
        licence = str(row.get("licence", UNSTATED))
        if file in self._held_out:
            return Candidate(name, data, licence, HELD_OUT)
        return Candidate(name, data, licence, None if row.get("use") == "yes" else NOT_PERMITTED)


def candidates(sources: Sequence[pathlib.Path]) -> Iterator[Candidate]:
    """All pictures of folders (searched recursively, packs in them too) and .tar files, each judged by its rules.

    Raises:
        TrainingDataError: a source cannot be read, or a picture is not in the manifest beside it.
    """
    for source in sources:
        for file in source_files(source):
            rules = Rules(_rules_folder(file, source))
            if file.suffix.lower() in PICTURE_SUFFIXES:
                yield rules.judge(str(file), file.name, file.read_bytes())
                continue
            for name, data in _tar_pictures(file):
                yield rules.judge(f"{file}:{name}", name, data)


def source_files(source: pathlib.Path) -> list[pathlib.Path]:
    """Picture files and packs of a folder, sorted; or the pack itself."""
    if not source.is_dir():
        return [source]
    suffixes = {*PICTURE_SUFFIXES, ".tar"}
    return sorted(file for file in source.rglob("*") if file.suffix.lower() in suffixes and file.is_file())


def rule_files(sources: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The manifests and lists of held-out originals that `candidates` obeys."""
    folders = {_rules_folder(file, source) for source in sources for file in source_files(source)}
    return [file for folder in sorted(folders) for file in Rules(folder).files]


def count_by(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    return dict(collections.Counter(values).most_common())


def _rules_folder(file: pathlib.Path, source: pathlib.Path) -> pathlib.Path:
    """The nearest folder above a file with a manifest or a split, up to the one that holds the source."""
    top = source.resolve().parent
    for folder in file.resolve().parents:
        if (folder / MANIFEST).is_file() or any(folder.glob(SPLITS)) or folder == top:
            return folder
    return top


def _tar_pictures(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and pathlib.PurePath(member.name).suffix.lower() in PICTURE_SUFFIXES:
                    handle = tar.extractfile(member)
                    if handle is not None:
                        yield member.name, handle.read()
    except FileNotFoundError:
        raise TrainingDataError(f"{path} does not exist; give a folder or a .tar of pictures.") from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise TrainingDataError(f"{path} is neither a folder nor a readable .tar: {error}.") from None


def _read_manifest(path: pathlib.Path) -> dict[str, dict[str, Any]] | None:
    """The rows by file name; None where the file is an object, as the manifests of web pages and extensions are."""
    rows = _read_json(path)
    if isinstance(rows, dict):
        return None
    try:
        by_name = {str(row["file"]): dict(row) for row in rows}
    except (LookupError, TypeError, ValueError) as error:
        raise _not_a(path, "manifest", error) from None
    if len(by_name) != len(rows):
        raise _not_a(path, "manifest", "it lists a file twice, and which row counts is not clear")
    return by_name


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_a(path, "list of pictures", error) from None


def _not_a(path: pathlib.Path, what: str, reason: object) -> TrainingDataError:
    return TrainingDataError(
        f"{path} cannot be read as a {what}: {reason}. Restore it; without it nothing is trained on."
    )
