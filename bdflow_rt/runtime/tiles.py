"""Tiles in and out: what an engine reads of a batch of pictures, and where its results go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bdflow_rt.engines.engine import Engine, Job, check_names
from bdflow_rt.runtime.arrays import Arrays
from bdflow_rt.runtime.plan import Span

Outputs = dict[str, Any]
"""The arrays of one picture, by name."""


def gather(arrays: Arrays, pictures: Sequence[Any], rows: Span, columns: Span) -> Any:
    """A window of pictures of one size as a batch (N, rows, columns, ...); a single whole one is not copied.

    What lies beyond the pictures repeats their last row and column.

    Args:
        arrays: where the pictures are.
        pictures: (H, W, ...) each.
        rows, columns: in their pixels.
    """
    height, width = rows.stop - rows.start, columns.stop - columns.start
    parts = [picture[rows.start : rows.stop, columns.start : columns.stop] for picture in pictures]
    h, w = parts[0].shape[:2]
    if len(parts) == 1 and (h, w) == (height, width):
        return parts[0][None]
    batch = arrays.empty((len(parts), height, width, *parts[0].shape[2:]))
    for index, part in enumerate(parts):
        arrays.copy(part, batch[index, :h, :w])
    if h < height:
        arrays.copy(batch[:, h - 1 : h, :w], batch[:, h:, :w])
    if w < width:
        arrays.copy(batch[:, :, w - 1 : w], batch[:, :, w:])
    return batch


class Targets:
    """Where the results of a batch go.

    Args:
        arrays: where they are.
        shapes: of one picture's outputs.
        count: of pictures.
        out: the caller's arrays for a single picture; what is not there is made.
        beside: the inputs, whose memory they must not share.

    Attributes:
        views: (N, ...) by name, as the arrays are inside.

    Raises:
        ArgumentError, DTypeError, ShapeError, LayoutError, OverlapError, DeviceMismatchError: one of `out` is not fit.
    """

    def __init__(
        self,
        arrays: Arrays,
        shapes: Mapping[str, tuple[int, ...]],
        count: int,
        out: Mapping[str, Any] | None,
        *,
        beside: Sequence[Outputs] = (),
    ) -> None:
        given = out or {}
        check_names(given, shapes)
        taken = [array for frame in beside for array in frame.values()]
        self._arrays = arrays
        self.views: Outputs = {}
        self._tile: Outputs = {}
        self._results: list[Outputs] = [{} for _ in range(count)]
        for name, shape in shapes.items():
            if given.get(name) is None:
                array, self.views[name] = arrays.target(name, None, (count, *shape), beside=taken)
            else:
                array, view = arrays.target(name, given[name], shape, beside=taken)
                array, self.views[name] = [array], view[None]
            taken.append(self.views[name])
            for index, result in enumerate(self._results):
                result[name] = array[index]

    def write(self, engine: Engine, tile: Outputs, rows: Span, columns: Span) -> None:
        """Run an engine on a tile, and keep of its outputs what a window says: straight away, where that is all."""
        regions = {
            name: view[:, rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop]
            for name, view in self.views.items()
        }
        whole = rows.stop - rows.start, columns.stop - columns.start
        if all(region.shape[1:3] == whole and self._arrays.is_direct(region) for region in regions.values()):
            self._arrays.run(engine, tile, regions)
            return
        if not self._tile:  # windows of a picture have one size, and on a GPU come one after another
            self._tile = {
                name: self._arrays.empty((view.shape[0], *whole, *view.shape[3:])) for name, view in self.views.items()
            }
        self._arrays.run(engine, tile, self._tile)
        top, left = rows.keep_start - rows.start, columns.keep_start - columns.start
        for name, region in regions.items():
            height, width = region.shape[1:3]
            self._arrays.copy(self._tile[name][:, top : top + height, left : left + width], region)

    def job(self) -> Job[list[Outputs]]:
        """The arrays of each picture, and what has to end before they are there."""
        return self._arrays.job(self._results)
