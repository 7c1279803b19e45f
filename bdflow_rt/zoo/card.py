"""Model cards: one folder per version of a model, described by its model.json.

A folder holds `model.json`, `weights.safetensors`, and the public inference graphs `downscale.onnx`, `upscale.onnx`
and `upscale_z.onnx`, which refer into the weights file by offset. `zoo.weights` says how weights are stored. Large
ones, and those of versions with a successor, ship packed, `weights.safetensors.xz`; see `zoo.packed`.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
import re
import stat
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bdflow_rt.errors import CorruptModelError, ModelConfigError, ModelExistsError, WeightsHashError, shorten
from bdflow_rt.zoo.config import ModelConfig
from bdflow_rt.zoo.packed import PACKED_SUFFIX, unpacked_folder

CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
PACKED_FILE = f"{WEIGHTS_FILE}{PACKED_SUFFIX}"
CARD_FORMAT = 1
MAX_CARD_BYTES = 1 << 20
MAX_VERSION = 999_999
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
Direction = Literal["downscale", "upscale", "upscale_z"]
_PLAIN_KEYS = ("name", "version", "weights_sha256", "graphs_sha256", "bf16_loss_db", "details")
"""Keys of a card that are read as they stand."""


@dataclass(frozen=True)
class ModelCard:
    """One version of a model.

    Attributes:
        folder: where its files are.
        name, version: together the id, "bdflow-x4@1".
        config: the network's structure.
        weights_sha256: of the whole weights file, hexadecimal.
        graphs_sha256: of each graph file there is, by direction.
        bf16_loss_db: PSNR that bfloat16 inference was measured to cost; None where it was not measured.
        details: how it was trained and what it was measured to do, as written in the card.
    """

    folder: pathlib.Path
    name: str
    version: int
    config: ModelConfig
    weights_sha256: str
    graphs_sha256: dict[str, str] = field(default_factory=dict)
    bf16_loss_db: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    _sound: set[tuple[Any, ...]] = field(default_factory=set, init=False, repr=False, compare=False)
    """Files that this object has hashed, by name, inode, size and times: each direction need not do it again."""

    @property
    def id(self) -> str:
        """Name and version, as written into packets."""
        return f"{self.name}@{self.version}"

    @property
    def weights_hash(self) -> bytes:
        """First 8 bytes of the weights' SHA-256, as written into packets."""
        return bytes.fromhex(self.weights_sha256)[:8]

    @property
    def weights_path(self) -> pathlib.Path:
        """The safetensors file; packed weights are unpacked for it.

        Raises:
            CorruptModelError, UnwritableOutputError, BackendUnavailableError: they cannot be unpacked.
        """
        return self._readable_folder / WEIGHTS_FILE

    @property
    def is_packed(self) -> bool:
        """Whether the folder has packed weights and no others."""
        return not (self.folder / WEIGHTS_FILE).exists() and (self.folder / PACKED_FILE).is_file()

    @property
    def _readable_folder(self) -> pathlib.Path:
        """Where weights and graphs lie beside each other."""
        return unpacked_folder(self.folder / PACKED_FILE) if self.is_packed else self.folder

    @property
    def size_multiple(self) -> int:
        """Heights and widths the network itself takes are multiples of this; other sizes are padded."""
        return self.config.scale

    def graph_path(self, direction: Direction) -> pathlib.Path:
        """The ONNX file of a direction, whether it exists or not, beside the weights of `weights_path`."""
        return self._readable_folder / f"{direction}.onnx"

    def check_weights(self) -> None:
        """Compare the weights with the card.

        Raises:
            CorruptModelError: the file is missing.
            WeightsHashError: it is not the file the card was written for.
        """
        self._check(self.weights_path, self.weights_sha256, WeightsHashError)

    def check_graph(self, direction: Direction) -> pathlib.Path:
        """Compare a graph with the card and return its path.

        Raises:
            CorruptModelError: the card has no such graph, or the file is missing or altered.
        """
        if direction not in self.graphs_sha256:
            raise CorruptModelError(
                f"Model {self.id} in {self.folder} has no {direction} graph; `bdflow export {self.folder}` makes it."
            )
        path = self.graph_path(direction)
        self._check(path, self.graphs_sha256[direction], CorruptModelError)
        return path

    def _check(self, path: pathlib.Path, wanted: str, fault: type[Exception]) -> None:
        try:
            if path.exists() and not path.is_file():  # a pipe or device has no end
                raise CorruptModelError(f"{path} of model {self.id} is no regular file. Install the model again.")
            status = path.stat()
            seen = (path, wanted, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if seen in self._sound:
                return
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise CorruptModelError(
                f"Model {self.id} cannot be used: {path} cannot be read ({error.strerror}). Install it again."
            ) from None
        if found != wanted:
            raise fault(
                f"{path} has SHA-256 {found[:16]}..., but the card of {self.id} says {wanted[:16]}...: the file was "
                "altered or damaged. Install the model again."
            )
        self._sound.add(seen)

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
        if (other.id, other.weights_sha256) != (self.id, self.weights_sha256):
            raise ModelExistsError(
                f"The folder '{folder}' holds {other.id} with weights {other.weights_hash.hex()}; {self.id} with "
                f"weights {self.weights_hash.hex()} cannot go there, since packets may need the other. Choose another "
                "folder, or move that one away."
            )
        if other.config != self.config:
            here, there = self.config.to_dict(), other.config.to_dict()
            raise ModelExistsError(
                f"The folder '{folder}' holds {other.id} with these very weights, but with another "
                f"{' and '.join(key for key in here if here[key] != there[key])}: packets may need that one. Choose "
                "another folder, or move it away."
            )
        return other

    def to_json(self) -> str:
        """The text of model.json."""
        data = {
            "format": CARD_FORMAT,
            "name": self.name,
            "version": self.version,
            "config": self.config.to_dict(),
            "weights_sha256": self.weights_sha256,
            "graphs_sha256": self.graphs_sha256,
            "bf16_loss_db": self.bf16_loss_db,
            "details": self.details,
        }
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def read(cls, folder: pathlib.Path) -> ModelCard:
        """Read a model folder's card.

        Raises:
            CorruptModelError: there is no card, or it is damaged or of a later format.
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
            if not isinstance(data, dict) or data.get("format") != CARD_FORMAT:
                raise CorruptModelError(
                    f"{path} is not a model card of format {CARD_FORMAT}; a newer release may read it."
                )
            card = cls(
                folder=folder, config=ModelConfig.from_dict(data["config"]), **{key: data[key] for key in _PLAIN_KEYS}
            )
        except OSError as error:
            raise CorruptModelError(f"{path} cannot be read: {error.strerror}. A model folder needs one.") from None
        except (ValueError, KeyError, RecursionError, ModelConfigError) as error:
            raise CorruptModelError(
                f"The model card {path} is damaged: {shorten(repr(error))}. Install the model again."
            ) from None
        card._check_values(path)
        return card

    def _check_values(self, path: pathlib.Path) -> None:
        """Refuse values that no release writes: a card is read before anything has vouched for it."""
        sound = {
            "name": isinstance(self.name, str) and NAME_PATTERN.fullmatch(self.name),
            "version": type(self.version) is int and 1 <= self.version <= MAX_VERSION,
            "weights_sha256": _is_sha256(self.weights_sha256),
            "graphs_sha256": isinstance(self.graphs_sha256, dict)
            and set(self.graphs_sha256) <= set(get_args(Direction))
            and all(map(_is_sha256, self.graphs_sha256.values())),
            "bf16_loss_db": self.bf16_loss_db is None
            or (type(self.bf16_loss_db) in (int, float) and math.isfinite(self.bf16_loss_db)),
            "details": isinstance(self.details, dict),
        }
        for key in _PLAIN_KEYS:
            if not sound[key]:
                raise CorruptModelError(
                    f"The model card {path} is damaged: {key} is {getattr(self, key)!r:.100}. Install the model again."
                )


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None
