"""The learned parameters of metrics: they are not part of the package, and read from the folder of evaluation data."""

from __future__ import annotations

import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import CorruptModelError, MissingFileError, shorten


def find_parameters(name: str, path: str | os.PathLike[str] | None, *, what: str) -> pathlib.Path:
    """Where the parameters lie: at `path`, or at metrics/<name> in the folder that BDFLOW_DATA names.

    Args:
        name: of the file.
        path: the file itself, or None.
        what: the parameters in words, for messages.

    Raises:
        MissingFileError: the file does not exist, or `path` is None and BDFLOW_DATA is not set.
    """
    if path is None:
        if not (data := os.environ.get("BDFLOW_DATA")):
            raise MissingFileError(
                f"The {what} {name} are needed. Set the environment variable BDFLOW_DATA to the folder that holds "
                f"metrics/{name}, or give their path."
            )
        path = pathlib.Path(data) / "metrics" / name
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; it should hold the {what} ({name}).")
    return path


def read_parameters(path: pathlib.Path, *, what: str) -> dict[str, NDArray[Any]]:
    """Every array of an .npz file by name.

    Raises:
        CorruptModelError: the file is no archive of arrays.
    """
    try:
        # Checked first, because NumPy takes a file that is no archive for an array or a pickle.
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("not an .npz archive")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise CorruptModelError(f"{path} cannot be read as {what}: {shorten(error)}. Fetch the file again.") from None
