"""The fused boundary-mask kernel, its own source run on the CPU: every bit is the NumPy twin's and OpenCV's."""

from __future__ import annotations

import ctypes
import mmap

import cv2
import numpy as np
import pytest
from PIL import Image

from bdflow_rt.kernels import boundary_mask, boundary_mask_reference, cell_maximum, sparse_magnitude
from bdflow_rt.kernels.boundary_launch import CELLS, KERNELS, magnitude_launch, mask_launch
from tests.support import data_dir, needs_data, photo, slow, slow_but
from tests.support_shim import needs_shim, run

pytestmark = needs_shim

PRIMES = [19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67]
CANARY = 0xA5


def guarded(shape, dtype):
    """An array in the middle of bytes that nobody may write, and a check that nobody has."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size + 512, CANARY, np.uint8)

    def check():
        assert (memory[:256] == CANARY).all()
        assert (memory[256 + size :] == CANARY).all()

    return memory[256 : 256 + size].view(dtype).reshape(shape), check


def kernel_mask(pixels, *, threshold=50, bits=1, norm=2, saturation=255, cell=1, seed=0):
    """Of (N, H, W, C), or of one picture."""
    batch = pixels if pixels.ndim == 4 else pixels[None] if pixels.ndim == 3 else pixels[None, ..., None]
    n, height, width, _ = batch.shape
    out, check = guarded((n, -(-height // cell), -(-width // cell)), np.uint8)
    run(
        mask_launch(batch, out, threshold=threshold, bits=bits, norm=norm, saturation=saturation, cell=cell),
        kernels=KERNELS,
        seed=seed,
    )
    check()
    return out if pixels.ndim == 4 else out[0]


def kernel_magnitude(image, *, threshold=50, norm=2):
    batch = image[None] if image.ndim == 3 else image[None, ..., None]
    out, check = guarded(batch.shape[:3], np.float32)
    run(magnitude_launch(batch, out, threshold=threshold, norm=norm), kernels=KERNELS)
    check()
    return out[0]


def canny(image, threshold, norm):
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return cv2.Canny(cv2.GaussianBlur(grey, (5, 5), 0), threshold, threshold, L2gradient=norm == 2) // 255


def noise(height, width, seed, *, flat=False):
    """(H, W, 3) uint8; flat: of two levels, so that neighbours tie."""
    image = np.random.default_rng((seed, height, width)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image // 128 * 255 if flat else image


def quantised(half):
    """What a float16 pixel stands for."""
    return np.rint(np.clip(np.nan_to_num(half.astype(np.float64), nan=0.0), 0, 1) * 255).astype(np.uint8)


@needs_data
@pytest.mark.parametrize("number", slow_but([3, 4], range(14)))
@pytest.mark.parametrize("norm", [1, 2])
def test_set14_equals_canny_and_twin(norm, number):
    folder = data_dir()
    assert folder is not None
    paths = sorted((folder / "test" / "Set14").glob("*.png"))
    assert len(paths) == 14
    path = paths[number]
    image = np.asarray(Image.open(path).convert("RGB"))
    mask = kernel_mask(image, norm=norm, seed=number)
    assert 0 < mask.mean() < 0.5
    np.testing.assert_array_equal(mask, canny(image, 50, norm), path.name)
    bits = 2 + number % 2
    np.testing.assert_array_equal(
        kernel_mask(image, bits=bits, norm=norm), boundary_mask_reference(image, bits=bits, norm=norm), path.name
    )


@pytest.mark.parametrize("seed", slow_but(range(6), range(20)))
def test_random_pictures_equal_twin_for_every_option(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 200, 2))
    image = [photo(height, width, seed), noise(height, width, seed), noise(height, width, seed, flat=True)][seed % 3]
    for norm in (1, 2):
        for bits in (1, 2, 3, 8):
            options = {"threshold": int(rng.integers(0, 300)), "bits": bits, "norm": norm}
            options["saturation"] = options["threshold"] + int(rng.integers(1, 500))
            np.testing.assert_array_equal(
                kernel_mask(image, **options, seed=bits), boundary_mask_reference(image, **options)
            )
        np.testing.assert_array_equal(kernel_mask(image, norm=norm), canny(image, 50, norm))


def check_size(height, width):
    bits, norm = (1, 2, 3, 8)[(height + width) % 4], 1 + height % 2
    for image in (noise(height, width, 0), noise(height, width, 1, flat=True)[..., 0]):
        for norm in (1, 2):
            np.testing.assert_array_equal(
                kernel_mask(image, bits=bits, norm=norm), boundary_mask(image, bits=bits, norm=norm)
            )


def test_every_size_up_to_9_equals_the_cpu():
    for height in range(1, 10):
        for width in range(1, 10):
            check_size(height, width)


def test_prime_sizes_equal_the_cpu():
    for height, width in zip(PRIMES, PRIMES[::-1], strict=True):
        check_size(height, width)


@pytest.mark.slow
def test_every_size_up_to_67_equals_the_cpu():
    for height in range(1, 68):
        for width in range(1, 68):
            check_size(height, width)


@pytest.mark.parametrize("side", [62, 63, 64, 65, 66, 127, 128, 129, 130])
def test_sides_near_a_tiles_border_equal_the_cpu(side):
    for height, width in ((side, 65), (70, side), (side, side)):
        check_size(height, width)


def test_720p_equals_twin():
    image = photo(720, 1280, seed=7)
    mask = kernel_mask(image, bits=3)
    np.testing.assert_array_equal(mask, boundary_mask_reference(image, bits=3))
    assert set(np.unique(mask)) == set(range(8))


def test_luma_of_every_colour_in_every_layout():
    """At threshold 0 a step of one grey level is an edge, so a wrong luma anywhere changes the mask."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (130, 132, 3), dtype=np.uint8)
    image[:, 40:] //= 64
    expected = boundary_mask_reference(image, threshold=0)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    wide = np.zeros((130, 300, 4), np.uint8)
    wide[:, 3:267:2, 1:] = image
    shifted = np.zeros(image.size + 3, np.uint8)[3:].reshape(image.shape)
    shifted[:] = image
    for pixels in (
        image,
        planes.transpose(1, 2, 0),
        wide[:, 3:267:2, 1:],
        shifted,
        np.ascontiguousarray(image[::-1])[::-1],
        np.ascontiguousarray(image[:, ::-1])[:, ::-1],
        np.ascontiguousarray(image[..., ::-1])[..., ::-1],
        np.asfortranarray(image),
        (planes / np.float16(255)).astype(np.float16).transpose(1, 2, 0),
        (image / np.float16(255)).astype(np.float16),
    ):
        np.testing.assert_array_equal(kernel_mask(pixels, threshold=0), expected)


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
@pytest.mark.parametrize("width", [64, 101, 102, 103])
def test_unaligned_rows_and_addresses_equal_twin(width, offset):
    for channels in (1, 3):
        memory = np.zeros(offset + 70 * (width + 5) * channels, np.uint8)[offset:]
        image = memory.reshape(70, width + 5, channels)[:, 2 : 2 + width]
        image[:] = noise(70, width, offset)[..., :channels]
        expected = boundary_mask_reference(image if channels == 3 else image[..., 0], bits=2)
        np.testing.assert_array_equal(kernel_mask(image, bits=2), expected)


def test_every_half_counts_as_the_nearest_byte():
    """All 65,536 halves, NaN and infinity among them, as grey pixels in blocks; planar rows and strided pixels."""
    half = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    order = np.random.default_rng(0).permutation(65536)
    shuffled = half.reshape(-1)[order].reshape(256, 256)
    for image in (half, shuffled):
        expected = boundary_mask_reference(quantised(image), threshold=0, bits=8)
        np.testing.assert_array_equal(kernel_mask(image, threshold=0, bits=8), expected)
        strided = np.asfortranarray(image)
        np.testing.assert_array_equal(kernel_mask(strided, threshold=0, bits=8), expected)


def test_halves_are_rounded_once_and_ties_go_to_even():
    """All halves of [0, 1], against the bytes they stand for: threshold 0 shows a difference of one."""
    rng = np.random.default_rng(0)
    values = rng.permutation(np.arange(0x3C01, dtype=np.uint16)).view(np.float16)[: 120 * 128].reshape(120, 128)
    for channels in (1, 3):
        half = np.stack([np.roll(values, c, axis=1) for c in range(channels)], axis=-1)
        planar = np.ascontiguousarray(half.transpose(2, 0, 1)).transpose(1, 2, 0)
        same = quantised(half)
        for pixels in (half, planar):
            np.testing.assert_array_equal(
                kernel_mask(pixels, threshold=0, bits=8), kernel_mask(same, threshold=0, bits=8)
            )


def test_batches_keep_images_apart():
    images = np.stack([noise(70, 90, seed) for seed in range(5)])
    expected = [boundary_mask_reference(image, bits=2, threshold=20) for image in images]
    planar = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    half = (planar / np.float16(255)).astype(np.float16)
    for pixels in (images, planar, half, np.repeat(images, 2, axis=0)[::2]):
        np.testing.assert_array_equal(kernel_mask(pixels, bits=2, threshold=20), expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_threads_changes_nothing(seed):
    image = noise(130, 140, 3)
    np.testing.assert_array_equal(kernel_mask(image, bits=3, seed=seed), boundary_mask(image, bits=3))
    np.testing.assert_array_equal(
        kernel_mask(image, bits=3, cell=4, seed=seed), cell_maximum(boundary_mask(image, bits=3), 4)
    )


@pytest.mark.parametrize("cell", slow_but([1, 4, 64], CELLS))
def test_cells_hold_their_maximum(cell):
    for height, width in ((1, 1), (5, 130), (67, 61), (128, 192), (131, 197)):
        for image in (photo(height, width, cell), noise(height, width, cell)):
            for bits in (1, 3):
                np.testing.assert_array_equal(
                    kernel_mask(image, bits=bits, cell=cell, threshold=100),
                    cell_maximum(boundary_mask(image, bits=bits, threshold=100), cell),
                )


def test_a_lone_edge_fills_its_cell_only():
    image = np.zeros((200, 200), np.uint8)
    image[100, 130] = 255
    for cell in CELLS:
        got = kernel_mask(image, bits=8, cell=cell, threshold=10)
        np.testing.assert_array_equal(got, cell_maximum(boundary_mask_reference(image, bits=8, threshold=10), cell))
        assert 0 < np.count_nonzero(got) < got.size or cell == 64


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("threshold", [0, 50, 300, 1448, 10**9])
def test_magnitude_is_that_of_the_cpu(threshold, norm):
    for image in (photo(67, 101, 1), noise(66, 72, 2, flat=True), noise(71, 65, 3)[..., 0], noise(1, 2, 3)):
        got = kernel_magnitude(image, threshold=threshold, norm=norm)
        np.testing.assert_array_equal(got, sparse_magnitude(image, threshold=threshold, norm=norm))
    assert kernel_magnitude(noise(66, 72, 2, flat=True), threshold=50, norm=norm).any()


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize(
    ("threshold", "saturation"),
    [(0, 1), (0, 2), (50, 51), (50, 10**12), (50, 2**31), (0, 1020), (700, 5000), (1448, 1449), (1449, 1500),
     (2040, 2041), (10**6, 10**9), (2**40, 2**41)],
)  # fmt: skip
def test_extreme_options_equal_twin(threshold, saturation, bits, norm):
    options = {"threshold": threshold, "saturation": saturation, "bits": bits, "norm": norm}
    for image in (noise(66, 70, 0), noise(40, 64, 1, flat=True)):
        expected = boundary_mask_reference(image, **options)
        np.testing.assert_array_equal(kernel_mask(image, **options), expected)
        np.testing.assert_array_equal(boundary_mask(image, **options), expected)


@pytest.mark.parametrize("seed", slow_but([0], range(8)))
def test_the_level_changes_at_the_exact_measure(seed):
    """Steps of every height make every measure; for many options each level's bound is met on either side."""
    image = np.zeros((8, 256 * 8), np.uint8)
    for height in range(256):
        image[:, height * 8 + 4 : height * 8 + 8] = height
    rng = np.random.default_rng(seed)
    for _ in range(5):
        threshold = int(rng.integers(0, 400))
        options = {"threshold": threshold, "saturation": threshold + int(rng.integers(1, 1200)), "bits": 8}
        for norm in (1, 2):
            np.testing.assert_array_equal(
                kernel_mask(image, **options, norm=norm), boundary_mask_reference(image, **options, norm=norm)
            )


@pytest.mark.parametrize(("threshold", "saturation"), [(61, 111), (1, 806), (9, 110), (54, 344)])
def test_a_measure_just_below_a_level_is_not_rounded_into_it(threshold, saturation):
    """With these a float's root of some measure rounds up to a level's bound; found by search."""
    image = noise(300, 300, 5)
    options = {"threshold": threshold, "saturation": saturation, "bits": 8}
    np.testing.assert_array_equal(kernel_mask(image, **options), boundary_mask_reference(image, **options))


class Fence:
    """Two pages nobody may touch with bytes between them: a stray read ends the process."""

    def __init__(self, size):
        page = mmap.PAGESIZE
        self.inner = -(-size // page) * page
        self.memory = mmap.mmap(-1, self.inner + 2 * page)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None, use_errno=True)
        for edge in (self.start, self.start + page + self.inner):
            assert libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
        self.libc, self.page = libc, page

    def array(self, shape, dtype, *, at_end):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        first = self.page + (self.inner - size if at_end else 0)
        bytes_ = (ctypes.c_char * size).from_address(self.start + first)
        return np.frombuffer(bytes_, dtype).reshape(shape)

    def open(self):
        everything = ctypes.c_size_t(self.inner + 2 * self.page)
        assert self.libc.mprotect(ctypes.c_void_p(self.start), everything, 3) == 0


@pytest.mark.parametrize(
    ("at_end", "dtype"), [(True, np.uint8), (False, np.float16), slow(True, np.float16), slow(False, np.uint8)]
)
def test_nothing_outside_the_input_is_read(at_end, dtype):
    for height, width in ((1, 1), (3, 2), (9, 17), (67, 65), (66, 128), (130, 131), (64, 64)):
        for shape, axes in (
            ((2, height, width, 3), (0, 1, 2, 3)),
            ((2, 3, height, width), (0, 2, 3, 1)),
            ((2, 1, height, width), (0, 2, 3, 1)),
        ):
            fence = Fence(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            memory = fence.array(shape, dtype, at_end=at_end)
            byte = np.random.default_rng(0).integers(0, 256, shape)
            memory[...] = byte if dtype == np.uint8 else byte / 255
            copied = np.ascontiguousarray(byte.transpose(axes)).astype(np.uint8)
            for cut in {0, width % 4}:  # whole words up to the last byte, of rows that are aligned in any way
                images = copied[:, :, cut:] if cut < width else copied
                pixels = memory.transpose(axes)[:, :, width - images.shape[2] :]
                expected = [boundary_mask_reference(i if i.shape[2] == 3 else i[..., 0], bits=2) for i in images]
                np.testing.assert_array_equal(kernel_mask(pixels, bits=2), expected)
            fence.open()
