"""Models whose weights are packed: unpacked into the cache, where runtimes can read them in place.

Versions that have a successor are there for the packets that were made with them. Their weights ship packed, in an
eighth fewer bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib

from bdflow_rt.errors import UnwritableOutputError
from bdflow_rt.files import CACHE_VARIABLE, cache_folder, write_atomically
from bdflow_rt.zoo.card import CARD_FILE, PACKED_FILE, WEIGHTS_FILE, ModelCard, read_packed


def unpacked(card: ModelCard) -> ModelCard:
    """The card as it is, or where its weights are packed, of a whole model folder in the cache.

    What is in the cache is used again as long as it is what the card says, and written anew where it is not.

    Raises:
        CorruptModelError, WeightsHashError: the model's files are damaged or missing.
        OutputError: the cache cannot be written.
    """
    if not card.is_packed:
        return card
    folder = cache_folder() / "models" / f"{card.id}-{card.weights_hash.hex()}"
    wanted = {WEIGHTS_FILE: card.weights_sha256} | {f"{name}.onnx": one for name, one in card.graphs_sha256.items()}
    missing = [name for name, sha256 in wanted.items() if _sha256(folder / name) != sha256]
    if missing:
        card.check_weights()
        contents = {
            name: read_packed(card.folder / PACKED_FILE)
            if name == WEIGHTS_FILE
            else card.check_graph(pathlib.PurePath(name).stem).read_bytes()  # type: ignore[arg-type]
            for name in missing
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableOutputError(
                f"The packed weights of {card.id} cannot be unpacked into '{folder}' ({error.strerror}). Set "
                f"{CACHE_VARIABLE} to a folder that can be written."
            ) from None
        for name, content in {**contents, CARD_FILE: card.to_json().encode()}.items():
            write_atomically(folder / name, content)
    return dataclasses.replace(card, folder=folder)


def _sha256(path: pathlib.Path) -> str | None:
    with contextlib.suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return None
