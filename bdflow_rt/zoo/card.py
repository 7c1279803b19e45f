"""Model cards: one folder per version of a model, described by its model.json (spec/card.md).

A folder holds `model.json`, `weights.safetensors`, and of each direction a public and a core graph,
`downscale.onnx` and `downscale.core.onnx`, which refer into the weights file by offset. `zoo.weights` says how weights
are stored.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from bdflow_rt.errors import (
    CorruptModelError,
    ModelConfigError,
    ModelExistsError,
    ModelVersionError,
    WeightsHashError,
    shorten,
)
from bdflow_rt.zoo.architecture import Architecture, find_architecture
from bdflow_rt.zoo.interface import Direction, GraphKind, ModelInterface, graph_name

CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
CARD_FORMAT = 2
IDENTITY_BYTES = 8
"""How much of an identity a packet holds."""
MAX_CARD_BYTES = 1 << 20
MAX_VERSION = 999_999
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
Status = Literal["released", "preview"]
Commercial = Literal["yes", "no", "unstated"]
_MAX_TEXT = 1000
_DAMAGE = (OverflowError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ModelConfigError)
"""What reading JSON raises that no release has written."""
_PLAIN_KEYS = (
    "arch", "name", "version", "status", "licence", "pixels_seen", "weights_sha256", "graphs_sha256", "details",
)  # fmt: skip
"""Keys of a card that are read and written as they stand."""
_GRAPHS = {graph_name(direction, kind) for direction in get_args(Direction) for kind in get_args(GraphKind)}


@dataclass(frozen=True)
class TrainingData:
    """Pictures that weights were trained on.

    Attributes:
        name: of the collection.
        licence: as its source states it.
        commercial: whether that licence allows commercial use.
    """

    name: str
    licence: str
    commercial: Commercial


@dataclass(frozen=True)
class ModelCard:
    """One version of a model.

    Attributes:
        folder: where its files are.
        name, version: together the id, "bdflow-x4@1".
        config: the network's structure, an `Architecture`.
        weights_sha256: of the whole weights file, hexadecimal.
        graphs_sha256: of each graph file there is, by `graph_name`.
        status: "preview" of weights that may still go, "released" of those that stay.
        licence: of the weights, an SPDX identifier.
        training_data: what they were trained on, and on what they started from.
        pixels_seen: HR pixels of all crops that they were trained on; None where that was not counted.
        precisions: PSNR in dB that inference in a precision ("bf16", "fp16") was measured to cost.
        details: how it was trained and what it was measured to do, as written in the card.
    """

    folder: pathlib.Path
    name: str
    version: int
    config: Architecture
    weights_sha256: str
    graphs_sha256: dict[str, str] = field(default_factory=dict)
    status: Status = "preview"
    licence: str = "unstated"
    training_data: tuple[TrainingData, ...] = ()
    pixels_seen: int | None = None
    precisions: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    _sound: set[tuple[Any, ...]] = field(default_factory=set, init=False, repr=False, compare=False)
    """Files that this object has hashed, by name, inode, size and times: each direction need not do it again."""

    @property
    def id(self) -> str:
        """Name and version, as written into packets."""
        return f"{self.name}@{self.version}"

    @property
    def identity(self) -> str:
        """What decides the pixels: a SHA-256 over weights, architecture and configuration, as spec/card.md spells them.

        Hexadecimal. Models of equal identity restore each other's packets.
        """
        fields = dict(_flat("config", self.config.to_dict()))
        fields |= {"arch": self.arch, "weights_sha256": self.weights_sha256}
        lines = ["bdflow-identity=1", *(f"{name}={fields[name]}" for name in sorted(fields))]
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("ascii")).hexdigest()

    @property
    def packet_identity(self) -> bytes:
        """The first bytes of `identity`, as written into packets."""
        return bytes.fromhex(self.identity)[:IDENTITY_BYTES]

    @property
    def commercial(self) -> Commercial:
        """Whether all the training data allows commercial use: "no" where some does not, "unstated" where unknown."""
        found = {data.commercial for data in self.training_data}
        return "no" if "no" in found else "yes" if found == {"yes"} else "unstated"

    @property
    def weights_path(self) -> pathlib.Path:
        """The safetensors file."""
        return self.folder / WEIGHTS_FILE

    @property
    def arch(self) -> str:
        """The architecture that `config` is of."""
        return self.config.arch

    @cached_property
    def interface(self) -> ModelInterface:
        """All that a runtime has to know of the network."""
        return self.config.interface()

    def graph_path(self, direction: Direction, *, kind: GraphKind = "public") -> pathlib.Path:
        """The ONNX file of a direction, whether it exists or not."""
        return self.folder / f"{graph_name(direction, kind)}.onnx"

    def check_weights(self) -> None:
        """Compare the weights with the card.

        Raises:
            CorruptModelError: the file is missing.
            WeightsHashError: it is not the file the card was written for.
        """
        self._check(self.weights_path, self.weights_sha256, WeightsHashError)

    def check_graph(self, direction: Direction, *, kind: GraphKind = "public") -> pathlib.Path:
        """Compare a graph with the card and return its path.

        Raises:
            CorruptModelError: the card has no such graph, or the file is missing or altered.
        """
        if (name := graph_name(direction, kind)) not in self.graphs_sha256:
            raise CorruptModelError(
                f"Model {self.id} in {self.folder} has no {name} graph; `bdflow export {self.folder}` makes it."
            )
        path = self.graph_path(direction, kind=kind)
        self._check(path, self.graphs_sha256[name], CorruptModelError)
        return path

    def _check(self, path: pathlib.Path, expected: str, error: type[Exception]) -> None:
        with readable(path) as status:
            seen = (path, expected, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if seen in self._sound:
                return
            self.check_content(path.read_bytes(), path, expected, error)
        self._sound.add(seen)

    def check_content(self, content: bytes, path: pathlib.Path, expected: str, error: type[Exception]) -> None:
        """Raise `error` where the content of a file has another SHA-256 than the card says."""
        actual = hashlib.sha256(content).hexdigest()
        if actual != expected:
            raise error(
                f"{path} has SHA-256 {actual[:16]}..., but the card of {self.id} says {expected[:16]}...: the file was "
                "altered or damaged. Install the model again."
            )

    def check_target(self, folder: pathlib.Path) -> ModelCard | None:
        """Check that the model may be written to a folder, which may hold this very model already.

        Released models never change: a packet can be restored only with the weights that made it, in the same network.

        Returns:
            The card that is there, of the same id, weights and configuration; None where there is none.

        Raises:
            ModelExistsError: another model is there, or one whose card cannot be read.
        """
        try:
            if not (folder / CARD_FILE).exists():
                return None
            other = ModelCard.read(folder)
        except OSError:
            return None  # whoever writes to it finds out, and has the better words for it
        except CorruptModelError as error:
            raise ModelExistsError(
                f"The folder '{folder}' holds a model that cannot be read, and which would be lost: {error} Choose "
                "another folder, or remove this one."
            ) from None
        if (other.id, other.identity) != (self.id, self.identity):
            raise ModelExistsError(
                f"The folder '{folder}' holds {other.id} with weights {other.weights_sha256[:16]} and identity "
                f"{other.identity[:16]}; {self.id} with weights {self.weights_sha256[:16]} and identity "
                f"{self.identity[:16]} cannot go there, since packets may need the other. Choose another folder, or "
                "move that one away."
            )
        return other

    def to_json(self) -> str:
        """The text of model.json."""
        data = {
            "format": CARD_FORMAT,
            **{key: getattr(self, key) for key in _PLAIN_KEYS if key != "details"},
            "config": self.config.to_dict(),
            "training_data": [dataclasses.asdict(data) for data in self.training_data],
            "precisions": {name: {"loss_db": loss_db} for name, loss_db in self.precisions.items()},
            "details": self.details,
        }
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def read(cls, folder: pathlib.Path) -> ModelCard:
        """Read a model folder's card.

        Raises:
            CorruptModelError: there is no card, or it is damaged.
            ModelVersionError: it is of another format than this release reads, or of an architecture it does not know.
        """
        path = folder / CARD_FILE
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_CARD_BYTES:
                raise CorruptModelError(
                    f"{path} is no model card, which is a regular file with no more than {MAX_CARD_BYTES} bytes. "
                    "Install the model again."
                )
            data = json.loads(path.read_text(encoding="utf-8"))
            if type(data["format"]) is int and data["format"] != CARD_FORMAT:
                raise ModelVersionError(
                    f"{path} is a model card of format {data['format']}, and this release reads format {CARD_FORMAT}: "
                    "the model needs another bdflow-rt."
                )
            card = cls(
                folder=folder,
                config=_architecture(path, data["arch"]).from_dict(data["config"]),
                training_data=tuple(TrainingData(**row) for row in data["training_data"]),
                precisions={name: row["loss_db"] for name, row in data["precisions"].items()},
                **{key: data[key] for key in _PLAIN_KEYS if key != "arch"},
            )
            problem = card._problem()
            if not problem and json.loads(card.to_json()) != data:
                problem = "it has other keys than its format"
        except OSError as error:
            raise CorruptModelError(f"{path} cannot be read: {error.strerror}. A model folder needs one.") from None
        except _DAMAGE as error:
            problem = shorten(repr(error))
        if problem:
            raise CorruptModelError(f"The model card {path} is damaged: {problem}. Install the model again.")
        return card

    def _problem(self) -> str | None:
        """The first value that no release writes: a card is read before anything has vouched for it."""
        texts = (self.licence, *(text for data in self.training_data for text in (data.name, data.licence)))
        sound = {
            "name": isinstance(self.name, str) and NAME_PATTERN.fullmatch(self.name),
            "version": type(self.version) is int and 1 <= self.version <= MAX_VERSION,
            "status": self.status in get_args(Status),
            "licence": all(isinstance(text, str) and 0 < len(text) <= _MAX_TEXT for text in texts),
            "training_data": all(data.commercial in get_args(Commercial) for data in self.training_data),
            "pixels_seen": self.pixels_seen is None or (type(self.pixels_seen) is int and self.pixels_seen >= 0),
            "precisions": all(_is_loss(loss_db) for loss_db in self.precisions.values()),
            "weights_sha256": _is_sha256(self.weights_sha256),
            "graphs_sha256": isinstance(self.graphs_sha256, dict)
            and self.graphs_sha256.keys() <= _GRAPHS
            and all(map(_is_sha256, self.graphs_sha256.values())),
            "details": isinstance(self.details, dict),
        }
        for key, is_sound in sound.items():
            if not is_sound:
                return f"{key} is {getattr(self, key)!r:.100}"
        if self.status == "released" and self.commercial == "no":
            return "it is released, but its training data does not allow commercial use"
        return None


@contextmanager
def readable(path: pathlib.Path) -> Iterator[os.stat_result]:
    """The status of a model's file, which the block reads.

    Raises:
        CorruptModelError: it is no regular file, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or device has no end
            raise CorruptModelError(f"{path} is no regular file. Install the model again.")
        yield status
    except OSError as error:
        raise CorruptModelError(f"{path} cannot be read ({error.strerror}). Install the model again.") from None


def _architecture(path: pathlib.Path, name: Any) -> type[Architecture]:
    """The architecture that the card in `path` names."""
    try:
        return find_architecture(name)
    except ModelVersionError as error:
        raise ModelVersionError(f"{path} is of a model that cannot be read here. {error}") from None


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A configuration as names and texts, as an identity spells them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_loss(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None
