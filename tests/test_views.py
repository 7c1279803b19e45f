"""Arrays that are views (flipped, transposed, sliced, broadcast, read-only) count as the pixels they show.

Every public function that takes an array gives for a view what it gives for a contiguous copy of it, and leaves the
caller's memory as it was.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bdflow_rt import Packet, Picture, Rescaler, decode_png, encode_png, kernels, metrics, read_packet, write_packet
from bdflow_rt.containers import read_picture, write_picture
from bdflow_rt.errors import DTypeError
from bdflow_rt.metrics.bicubic import cell_means
from bdflow_rt.zoo import ModelCard
from tests.support import data_dir, needs_data, photo, slow_but
from tests.support_models import make_model, tiny_config

Array = NDArray[Any]
View = Callable[[Array], tuple[Array, Array]]
"""From a contiguous array, square in its first two axes, to the caller's memory and a view of that shape into it."""


def _read_only(array: Array) -> tuple[Array, Array]:
    view = array.view()
    view.flags.writeable = False
    return array, view


def _sliced(array: Array) -> tuple[Array, Array]:
    base = np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)
    return base, base[::2, ::3]


def _cropped(array: Array) -> tuple[Array, Array]:
    base = np.pad(array, ((3, 2), (1, 4), *((0, 0),) * (array.ndim - 2)), mode="reflect")
    return base, base[3 : 3 + array.shape[0], 1 : 1 + array.shape[1]]


def _broadcast(array: Array) -> tuple[Array, Array]:
    base = array[:1].copy()
    return base, np.broadcast_to(base, array.shape)


def _unaligned(array: Array) -> tuple[Array, Array]:
    base = np.frombuffer(bytearray(b"\7" + array.tobytes()), np.uint8)
    return base, base[1:].view(array.dtype).reshape(array.shape) if array.itemsize == 1 else array


VIEWS: dict[str, View] = {
    "rows flipped": lambda array: (array, array[::-1]),
    "columns flipped": lambda array: (array, array[:, ::-1]),
    "last axis flipped": lambda array: (array, array[..., ::-1]),
    "turned": lambda array: (array, np.rot90(array)),
    "transposed": lambda array: (array, array.swapaxes(0, 1)),
    "column-major": lambda array: (base := np.asfortranarray(array), base),
    "sliced": _sliced,
    "cropped": _cropped,
    "broadcast": _broadcast,
    "read-only": _read_only,
    "at an odd address": _unaligned,
}
each_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
QUICK = [VIEWS[name] for name in ("rows flipped", "transposed", "sliced", "broadcast", "at an odd address")]
each_view_of_a_network = pytest.mark.parametrize("view", slow_but(QUICK, VIEWS.values()), ids=VIEWS)
SIDE = 48


def check(view: View, function: Callable[[Array], Any], array: Array) -> None:
    """Compare a function of a view with that of its copy; the caller's memory stays as it was."""
    base, seen = view(array.copy())
    before = base.copy()
    expected = function(np.array(seen, order="C"))
    actual = function(seen)
    assert np.array_equal(base, before)
    assert _same(actual, expected)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Packet):
        return _same((one.lr, one.boundary), (other.lr, other.boundary)) and one.header == other.header
    if isinstance(one, (np.ndarray, float)):
        return np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f")
    return bool(one == other)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(2, bits=2), name="tiny-x2")


@pytest.fixture(scope="module", params=["openvino", "torch"])
def rescaler(card: ModelCard, request: pytest.FixtureRequest) -> Iterator[Rescaler]:
    with Rescaler(card, backend=request.param, threads=1) as opened:
        yield opened


@each_view_of_a_network
def test_a_view_downscales_like_its_copy(rescaler: Rescaler, view: View) -> None:
    image = photo(SIDE, SIDE, 1)
    check(view, rescaler.downscale, image)
    check(view, rescaler.downscale, image[..., 0])
    check(view, rescaler.downscale_batch, np.stack([image[:5]] * 5).swapaxes(1, 2)[:, :5])
    check(view, lambda seen: rescaler.downscale_batch([seen, seen[:9, :5]]), image)


@each_view_of_a_network
def test_a_view_is_refined_like_its_copy(rescaler: Rescaler, view: View) -> None:
    check(view, lambda seen: rescaler.downscale(seen, refine=2), photo(SIDE, SIDE, 2))
    check(view, lambda seen: rescaler.downscale(seen, refine=1), photo(SIDE, SIDE, 3)[..., 1])


@each_view_of_a_network
def test_a_packet_of_views_restores_and_writes_like_one_of_copies(
    rescaler: Rescaler, view: View, tmp_path: Path
) -> None:
    made = rescaler.downscale(photo(2 * SIDE, 2 * SIDE, 4))
    assert made.boundary is not None

    def with_lr(lr: Array, boundary: Array) -> Packet:
        return Packet(lr, boundary, dataclasses.replace(made.header, lr_crc32=Packet.crc32_of(lr)))

    def written(packet: Packet) -> list[Any]:
        write_packet(tmp_path / "packet.png", packet)
        return [encode_png(packet), decode_png(encode_png(packet)), read_packet(tmp_path / "packet.png")]

    levels = made.boundary
    check(view, lambda lr: rescaler.upscale(with_lr(lr, levels)), made.lr)
    check(view, lambda boundary: rescaler.upscale(with_lr(made.lr, boundary)), levels)
    check(view, lambda lr: rescaler.upscale_batch([with_lr(lr, levels)]), made.lr)
    check(view, lambda lr: written(with_lr(lr, levels)), made.lr)
    check(view, lambda boundary: written(with_lr(made.lr, boundary)), levels)


@each_view
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm"])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_a_view_is_written_like_its_copy(view: View, suffix: str, colour: Any, tmp_path: Path) -> None:
    def written(pixels: Array) -> Array:
        write_picture(tmp_path / f"out{suffix}", Picture(pixels, colour))
        return read_picture(tmp_path / f"out{suffix}").pixels

    image = photo(SIDE, SIDE, 5)
    check(view, written, image if colour == "rgb" else np.repeat(image[..., :1], 3, axis=2))


METRICS: dict[str, Callable[[Array], Any]] = {
    "psnr": lambda a: metrics.psnr(a, photo(a.shape[0], a.shape[1], 9)),
    "psnr, second": lambda a: metrics.psnr(photo(a.shape[0], a.shape[1], 9), a),
    "psnr_y": lambda a: metrics.psnr_y(a, photo(a.shape[0], a.shape[1], 9), border=2),
    "ssim": lambda a: metrics.ssim(a, photo(a.shape[0], a.shape[1], 9)),
    "ssim_y": lambda a: metrics.ssim_y(a, photo(a.shape[0], a.shape[1], 9), border=2),
    "rgb_to_y": metrics.rgb_to_y,
    "bicubic_downscale": lambda a: metrics.bicubic_downscale(a, scale=4),
    "bicubic_resize": lambda a: metrics.bicubic_resize(a, size=(31, 97)),
    "cell_means": lambda a: cell_means(a, scale=4),
    "piqe": metrics.piqe,
}


@each_view
@pytest.mark.parametrize("name", METRICS)
def test_a_view_measures_like_its_copy(view: View, name: str) -> None:
    check(view, METRICS[name], photo(64, 64, 6))


@each_view
@needs_data
def test_a_view_has_the_niqe_of_its_copy(view: View) -> None:
    folder = data_dir()
    assert folder is not None
    check(view, metrics.Niqe(path=folder / "metrics" / "niqe_pris_params.npz"), photo(192, 192, 6))


KERNELS: dict[str, tuple[Callable[[Array], Any], Callable[[], Array]]] = {
    "boundary_mask": (lambda a: kernels.boundary_mask(a, bits=3, cell=4), lambda: photo(SIDE, SIDE, 7)),
    "boundary_mask, float16": (
        lambda a: kernels.boundary_mask(a, layout="HWC"),
        lambda: (photo(SIDE, SIDE, 7) / 255).astype(np.float16),
    ),
    "boundary_mask, grey": (kernels.boundary_mask, lambda: photo(SIDE, SIDE, 7)[..., 0].copy()),
    "sparse_magnitude": (kernels.sparse_magnitude, lambda: photo(SIDE, SIDE, 7)),
    "cell_maximum": (lambda a: kernels.cell_maximum(a, 4), lambda: photo(SIDE, SIDE, 7)[..., 0].copy()),
    "haar_forward": (kernels.haar_forward, lambda: _floats((8, 8, 6, 4))),
    "haar_inverse": (kernels.haar_inverse, lambda: _floats((8, 8, 6, 4))),
    "ingest": (lambda a: kernels.ingest(a, multiple=4), lambda: np.stack([photo(SIDE, SIDE, 7)] * SIDE)),
    "egress": (lambda a: kernels.egress(a), lambda: _floats((12, 12, 6, 4))),
    "egress_nv12": (lambda a: kernels.egress_nv12(a), lambda: _floats((12, 12, 6, 4))),
}


def _floats(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(8).random(shape, np.float32)


@each_view
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_on_the_cpu_takes_a_view_like_its_copy(view: View, name: str) -> None:
    function, make = KERNELS[name]
    check(view, function, make())


@pytest.mark.parametrize("function", [kernels.haar_forward, kernels.haar_inverse, kernels.egress])
def test_a_byte_swapped_array_is_refused_by_a_kernel(function: Callable[[Array], Any]) -> None:
    with pytest.raises(DTypeError, match=">f4"):
        function(_floats((4, 12, 6, 4)).astype(">f4"))


def test_a_byte_swapped_uint8_array_is_one_of_plain_bytes(rescaler: Rescaler) -> None:
    image = photo(SIDE, SIDE, 1)
    assert _same(rescaler.downscale(image.view(">u1")), rescaler.downscale(image))


def test_a_masked_array_is_refused_for_its_mask_would_be_lost(rescaler: Rescaler) -> None:
    masked = np.ma.masked_greater(photo(8, 8, 1), 100)
    with pytest.raises(DTypeError, match=re.escape("filled")):
        rescaler.downscale(masked)
