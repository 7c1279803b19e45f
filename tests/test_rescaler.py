"""Rescaler on arrays: sizes, tiles, batches, backends, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt import Packet, Rescaler, ZPolicy, write_packet
from bdflow_rt.engines.select import open_engine
from bdflow_rt.errors import (
    ArgumentError,
    ClosedError,
    DTypeError,
    EditedPictureError,
    EmptyImageError,
    ImageTooLargeError,
    OutOfMemoryError,
    PacketMismatchError,
    ShapeError,
    UnknownModelError,
    WeightsHashError,
)
from bdflow_rt.options import Backend
from bdflow_rt.runtime.plan import MIB, bytes_per_lr_pixel, halo_of, spans, tile_size
from bdflow_rt.zoo import ModelCard
from tests.support import photo, slow, slow_but
from tests.support_models import assert_close_pixels, make_model, tiny_config

SIZES = [(1, 1), (1, 7), (7, 1), (5, 3), (63, 65), (127, 1), (1, 127), (31, 37), (101, 89), (64, 64)]


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[int, ModelCard]:
    folder = tmp_path_factory.mktemp("zoo")
    return {scale: make_model(folder, tiny_config(scale), name=f"tiny-x{scale}") for scale in (2, 4, 8)}


@pytest.fixture(scope="module")
def rescaler(cards: dict[int, ModelCard]) -> Iterator[Rescaler]:
    with Rescaler(cards[4], threads=1) as opened:
        yield opened


def down(rescaler: Rescaler, image: Any, **options: Any) -> Packet:
    packet = rescaler.downscale(image, **options)
    assert isinstance(packet, Packet)
    return packet


def up(rescaler: Rescaler, packet: Any, **options: Any) -> np.ndarray:
    image = rescaler.upscale(packet, **options)
    assert isinstance(image, np.ndarray)
    return image


def limit_for(card: ModelCard, tile: tuple[int, int], backend: Backend = "openvino") -> float:
    """The memory limit that just fits such a tile."""
    return tile[0] * tile[1] * bytes_per_lr_pixel(card.interface, backend) / MIB * (1 + 1e-9)


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize("scale", slow_but([4], [2, 4, 8]))
def test_every_size_comes_back_exactly(cards: dict[int, ModelCard], scale: int, backend: Backend) -> None:
    with Rescaler(cards[scale], backend=backend, threads=1) as rescaler:
        for height, width in SIZES:
            packet = down(rescaler, photo(height, width, 1))
            assert packet.lr.shape == (-(-height // scale), -(-width // scale), 3)
            assert up(rescaler, packet).shape == (height, width, 3)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_padding_repeats_the_last_row_and_column(cards: dict[int, ModelCard], scale: int) -> None:
    image = photo(5 * scale + 1, 3 * scale + scale - 1, 2)
    height, width = 6 * scale, 4 * scale
    padded = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), mode="edge")
    with Rescaler(cards[scale], threads=1) as rescaler:
        one, other = down(rescaler, image), down(rescaler, padded)
    assert np.array_equal(one.lr, other.lr)


TILINGS = list(itertools.product([2, 4], ["openvino", "torch"], [(1, 1), (3, 4), (10, 7)]))
QUICK_TILINGS = [(4, "openvino", (3, 4)), (2, "openvino", (1, 1)), (2, "torch", (10, 7))]


@pytest.mark.parametrize(
    ("scale", "backend", "inside"), [one if one in QUICK_TILINGS else slow(*one) for one in TILINGS]
)
def test_tiled_equals_whole_within_one_lsb(
    cards: dict[int, ModelCard], scale: int, backend: Backend, inside: tuple[int, int]
) -> None:
    card = cards[scale]
    halo = halo_of(card.interface, backend)
    image = photo((2 * halo + 19) * scale - 1, (2 * halo + 11) * scale + 1, 4)
    with Rescaler(card, backend=backend, threads=1, memory_limit_mib=float("inf")) as whole:
        packet = down(whole, image)
        restored = {z: up(whole, packet, z=z) for z in (None, ZPolicy(temperature=0.1, seed=5))}
    height, width = packet.lr.shape[:2]
    limit = limit_for(card, (2 * halo + inside[0], 2 * halo + inside[1]), backend)
    size = tile_size(height, width, card.interface, memory_limit_mib=limit, backend=backend)
    assert len(spans(height, size[0], halo)) > 1
    with Rescaler(card, backend=backend, threads=1, memory_limit_mib=limit) as tiled:
        found = down(tiled, image)
        assert_close_pixels(found.lr, packet.lr)
        assert found.boundary is not None
        assert packet.boundary is not None
        assert np.mean(found.boundary != packet.boundary) < 2e-3
        for z, wanted in restored.items():
            assert_close_pixels(up(tiled, packet, z=z), wanted)


def test_tiles_without_a_halo_would_show(cards: dict[int, ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    # So the test above can fail: these networks look across the seams.
    image = photo(200, 200, 4)
    with Rescaler(cards[4], threads=1, memory_limit_mib=limit_for(cards[4], (30, 30))) as rescaler:
        wanted = down(rescaler, image).lr
        monkeypatch.setattr("bdflow_rt.runtime.runner.windows", lambda h, w, tile, halo: (
            (rows, columns) for rows in spans(h, tile[0], 0) for columns in spans(w, tile[1], 0)
        ))  # fmt: skip
        found = down(rescaler, image).lr
    assert np.abs(found.astype(int) - wanted).max() > 1


def test_sampled_z_depends_on_its_seed_and_temperature_alone(rescaler: Rescaler) -> None:
    packet = down(rescaler, photo(60, 60, 1))
    plain = up(rescaler, packet)
    sampled = up(rescaler, packet, z=ZPolicy(temperature=0.3, seed=1))
    assert np.array_equal(up(rescaler, packet, z=ZPolicy(temperature=0.3, seed=1)), sampled)
    assert not np.array_equal(up(rescaler, packet, z=ZPolicy(temperature=0.3, seed=2)), sampled)
    assert not np.array_equal(sampled, plain)
    assert np.array_equal(up(rescaler, packet, z=ZPolicy(seed=9)), plain)


def test_the_packets_own_z_policy_is_followed_unless_overruled(rescaler: Rescaler) -> None:
    policy = ZPolicy(temperature=0.3, seed=7)
    packet = down(rescaler, photo(40, 40, 1), z=policy)
    assert packet.header.z == policy
    assert np.array_equal(up(rescaler, packet), up(rescaler, packet, z=policy))
    assert not np.array_equal(up(rescaler, packet), up(rescaler, packet, z=ZPolicy()))


def test_batch_equals_single(rescaler: Rescaler) -> None:
    batch = np.stack([photo(45, 51, seed) for seed in range(3)])
    packets = rescaler.downscale_batch(batch)
    singles = [down(rescaler, image) for image in batch]
    assert all(np.array_equal(one.lr, other.lr) for one, other in zip(packets, singles, strict=True))
    restored = rescaler.upscale_batch(packets)
    assert all(np.array_equal(one, up(rescaler, other)) for one, other in zip(restored, singles, strict=True))


def test_grey_comes_back_as_three_equal_channels(rescaler: Rescaler) -> None:
    grey = photo(45, 51, 1)[:, :, 0]
    packet = down(rescaler, grey)
    assert packet.header.colour.model == "grey"
    restored = up(rescaler, packet)
    assert restored.shape == (45, 51, 3)
    assert np.ptp(restored, axis=2).max() == 0
    coloured = up(rescaler, down(rescaler, np.repeat(grey[:, :, None], 3, axis=2)))
    assert np.abs(restored[:, :, 0] - coloured.mean(axis=2)).max() <= 0.5


@pytest.mark.parametrize("layout", ["flipped", "fortran", "strided", "read-only"])
def test_any_memory_layout_gives_the_same_and_stays_unchanged(rescaler: Rescaler, layout: str) -> None:
    image = photo(45, 51, 1)
    other = {
        "flipped": image[::-1, ::-1].copy()[::-1, ::-1],
        "fortran": np.asfortranarray(image),
        "strided": np.repeat(image, 2, axis=1)[:, ::2],
        "read-only": image.copy(),
    }[layout]
    other.flags.writeable = layout != "read-only"
    wanted, found = down(rescaler, image), down(rescaler, other)
    assert np.array_equal(found.lr, wanted.lr)
    assert np.array_equal(other, image)
    lr = np.asfortranarray(found.lr)
    lr.flags.writeable = False
    packet = dataclasses.replace(found, lr=lr)
    assert np.array_equal(up(rescaler, packet), up(rescaler, wanted))
    assert np.array_equal(packet.lr, wanted.lr)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((8, 8, 3), np.float32), DTypeError), (np.zeros((8, 8, 3), np.int64), DTypeError),
        (np.zeros((8, 8, 3), bool), DTypeError), (np.zeros((8, 8, 3), np.uint16), DTypeError),
        ([[0, 1], [2, 3]], DTypeError), (None, DTypeError), (b"not a path", DTypeError),
        (np.zeros((8, 8, 4), np.uint8), ShapeError), (np.zeros((8, 8, 1), np.uint8), ShapeError),
        (np.zeros((1, 2, 8, 8, 3), np.uint8), ShapeError), (np.zeros(8, np.uint8), ShapeError),
        (np.uint8(3), DTypeError), (np.zeros((3, 8, 8), np.uint8), ShapeError),
        (np.zeros((0, 8, 3), np.uint8), EmptyImageError), (np.zeros((8, 0, 3), np.uint8), EmptyImageError),
        (np.zeros((2, 8, 8, 3), np.uint8), ShapeError), (np.zeros((0, 0), np.uint8), EmptyImageError),
    ],
    ids=lambda value: str(getattr(value, "shape", value)) + str(getattr(value, "dtype", "")),
)  # fmt: skip
def test_arrays_that_are_no_picture_are_refused(rescaler: Rescaler, image: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        rescaler.downscale(image)


@pytest.mark.parametrize("packet", [None, 3, np.zeros((4, 4, 3), np.uint8), [np.zeros((4, 4, 3), np.uint8)], [None]])
def test_what_is_no_packet_is_refused(rescaler: Rescaler, packet: Any) -> None:
    with pytest.raises(ArgumentError, match="give what downscale returned"):
        rescaler.upscale(packet)


def test_max_pixels_is_kept_both_ways(cards: dict[int, ModelCard]) -> None:
    image = photo(20, 30, 1)
    with Rescaler(cards[4], threads=1, max_pixels=600) as exact:
        packet = down(exact, image)
        assert up(exact, packet).shape == (20, 30, 3)
        exact.downscale_batch(np.stack([image] * 3))  # the limit is each picture's
    with Rescaler(cards[4], threads=1, max_pixels=599) as below:
        with pytest.raises(ImageTooLargeError, match="30 x 20 = 600 pixels; at most 599 are allowed"):
            below.downscale(image)
        with pytest.raises(ImageTooLargeError, match="restores to 30 x 20"):
            below.upscale(packet)


@pytest.mark.parametrize(
    ("option", "value"),
    [("threads", 0), ("threads", -1), ("max_pixels", 0), ("memory_limit_mib", 0), ("memory_limit_mib", -5.0),
     ("threads", "2"), ("threads", 2.5), ("threads", True), ("max_pixels", 1e6), ("memory_limit_mib", "64"),
     ("memory_limit_mib", float("nan")), ("backend", "cuda"), ("device", "tpu"), ("device", 0), ("precision", "int8")],
)  # fmt: skip
def test_impossible_options_are_refused_at_once(cards: dict[int, ModelCard], option: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{option} ?is|{option}="):
        Rescaler(cards[4], **{option: value})


def test_too_small_a_memory_limit_names_one_that_works(cards: dict[int, ModelCard]) -> None:
    image = photo(200, 200, 1)
    with Rescaler(cards[4], threads=1, memory_limit_mib=0.05) as rescaler, pytest.raises(OutOfMemoryError) as caught:
        rescaler.downscale(image)
    least = int(str(caught.value).split("takes about ")[1].split()[0])
    with Rescaler(cards[4], threads=1, memory_limit_mib=least) as rescaler:
        assert up(rescaler, down(rescaler, image)).shape == image.shape


@pytest.mark.parametrize(("maker", "restorer"), [("torch", "openvino"), ("openvino", "torch")])
def test_packets_cross_backends(cards: dict[int, ModelCard], maker: str, restorer: str) -> None:
    with (
        Rescaler(cards[4], backend=maker, threads=1) as first,
        Rescaler(cards[4], backend=restorer, threads=1) as second,
    ):
        assert (first.backend, second.backend) == (maker, restorer)
        packet = down(first, photo(90, 70, 1))
        assert_close_pixels(up(second, packet), up(first, packet))


def test_packet_of_another_model_is_refused_with_the_way_out(cards: dict[int, ModelCard], tmp_path: Path) -> None:
    other = make_model(tmp_path, tiny_config(4), name="tiny-x4", seed=9)
    with Rescaler(cards[4], threads=1) as rescaler, Rescaler(other, threads=1) as stranger:
        packet = down(stranger, photo(20, 20, 1))
        with pytest.raises(PacketMismatchError, match=r"Rescaler\.for_packet"):
            rescaler.upscale(packet)


def test_for_packet_finds_the_version_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDFLOW_ZOO", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    places = [("a", 1), ("b", 2), ("a", 3)]
    made = [make_model(tmp_path / place, tiny_config(2), version=n, seed=n) for place, n in places]
    image = photo(20, 20, 1)
    for card in made:
        with Rescaler(card, threads=1) as rescaler:
            packet = down(rescaler, image)
            wanted = up(rescaler, packet)
        with Rescaler.for_packet(packet, threads=1) as found:
            assert found.card.id == card.id
            assert np.array_equal(up(found, packet), wanted)
    assert Rescaler.from_pretrained("tiny").card.version == 3
    assert Rescaler.from_pretrained("tiny@2").card.folder == made[1].folder


def test_for_packet_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Rescaler(make_model(tmp_path / "away", tiny_config(2)), threads=1) as rescaler:
        packet = down(rescaler, photo(20, 20, 1))
    monkeypatch.setenv("BDFLOW_ZOO", str(tmp_path / "zoo"))
    with pytest.raises(UnknownModelError, match="tiny@1"):
        Rescaler.for_packet(packet)
    make_model(tmp_path / "zoo", tiny_config(2), seed=5)
    with pytest.raises(WeightsHashError, match="tiny@1"):
        Rescaler.for_packet(packet)


def test_edited_pictures_are_refused_unless_forced(rescaler: Rescaler) -> None:
    packet = down(rescaler, photo(40, 40, 1))
    lr = packet.lr.copy()
    lr[3, 4, 1] ^= 1
    edited = dataclasses.replace(packet, lr=lr)
    with pytest.raises(EditedPictureError):
        rescaler.upscale(edited)
    assert up(rescaler, edited, force=True).shape == (40, 40, 3)


def test_tampered_headers_are_refused(rescaler: Rescaler, cards: dict[int, ModelCard]) -> None:
    packet = down(rescaler, photo(40, 40, 1))
    header = packet.header
    more_bits = dataclasses.replace(packet, header=dataclasses.replace(header, bits=2))
    with pytest.raises(PacketMismatchError, match=r"2 bits.*scale 4 and 1 bit\b"):
        rescaler.upscale(more_bits)
    no_bits = dataclasses.replace(packet, boundary=None, header=dataclasses.replace(header, bits=0))
    with pytest.raises(PacketMismatchError, match="0 bits"):
        rescaler.upscale(no_bits, force=True)
    other_scale = dataclasses.replace(packet, header=dataclasses.replace(header, scale=2, width=20, height=20))
    with pytest.raises(PacketMismatchError, match="scale 2"):
        rescaler.upscale(other_scale, force=True)


def test_closed_rescaler_says_so(cards: dict[int, ModelCard]) -> None:
    with Rescaler(cards[2], threads=1) as rescaler:
        packet = down(rescaler, photo(9, 9, 1))
    for use in (lambda: rescaler.downscale(photo(9, 9, 1)), lambda: rescaler.upscale(packet), rescaler.warm_up):
        with pytest.raises(ClosedError):
            use()
    rescaler.close()  # twice is fine


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_threads_sharing_a_rescaler_get_what_one_would(cards: dict[int, ModelCard], backend: Backend) -> None:
    images = [photo(40 + 3 * index, 50 - index, index) for index in range(8)]
    with Rescaler(cards[4], backend=backend, threads=1, memory_limit_mib=limit_for(cards[4], (20, 20))) as rescaler:
        wanted = [up(rescaler, down(rescaler, image)) for image in images]
        found: dict[int, np.ndarray] = {}
        start = threading.Barrier(len(images))

        def work(index: int) -> None:
            start.wait()
            found[index] = up(rescaler, down(rescaler, images[index]))

        workers = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert sorted(found) == list(range(len(images)))
    assert all(np.array_equal(found[index], value) for index, value in enumerate(wanted))


def test_warm_up_loads_both_directions(cards: dict[int, ModelCard]) -> None:
    with Rescaler(cards[8], threads=1) as rescaler:
        rescaler.warm_up()
        (worker,) = rescaler._runner.pool.workers
        assert set(worker.engines) == {("openvino", "downscale"), ("openvino", "upscale")}
        rescaler.warm_up(height=13, width=17)


def test_progress_counts_every_tile(cards: dict[int, ModelCard]) -> None:
    card = cards[4]
    image = photo(200, 160, 1)
    limit = limit_for(card, (25, 25))
    rows, columns = tile_size(50, 40, card.interface, memory_limit_mib=limit, backend="openvino")
    halo = halo_of(card.interface, "openvino")
    total = len(spans(50, rows, halo)) * len(spans(40, columns, halo))
    assert total > 4
    calls: list[tuple[int, int]] = []
    wanted = [(done, total) for done in range(1, total + 1)]
    with Rescaler(card, threads=1, memory_limit_mib=limit) as rescaler:
        packet = down(rescaler, image, progress=lambda *counts: calls.append(counts))
        assert calls == wanted
        rescaler.upscale(packet, progress=lambda *counts: calls.append(counts))
        assert calls == 2 * wanted


def test_batches_take_lists_of_any_sizes_and_refuse_what_is_none(rescaler: Rescaler) -> None:
    packets = rescaler.downscale_batch([photo(20, 30, 1), photo(9, 5, 2)])
    assert [image.shape for image in rescaler.upscale_batch(packets)] == [(20, 30, 3), (9, 5, 3)]
    assert rescaler.downscale_batch(np.zeros((0, 8, 8, 3), np.uint8)) == []
    for wrong in (photo(9, 9, 1), "photo.png", None):
        with pytest.raises(ArgumentError, match="downscale_batch got"):
            rescaler.downscale_batch(wrong)


@pytest.mark.parametrize("z", [0.4, True, "0"])
def test_a_z_that_is_no_policy_is_refused_both_ways(rescaler: Rescaler, z: Any) -> None:
    with pytest.raises(ArgumentError, match="ZPolicy"):
        rescaler.downscale(photo(9, 9, 1), z=z)
    packet = down(rescaler, photo(9, 9, 1))
    with pytest.raises(ArgumentError, match="ZPolicy"):
        rescaler.upscale(packet, z=z)


def test_for_packet_takes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = make_model(tmp_path / "zoo", tiny_config(2))
    monkeypatch.setenv("BDFLOW_ZOO", str(tmp_path / "zoo"))
    with Rescaler(card, threads=1) as rescaler:
        write_packet(tmp_path / "small.png", down(rescaler, photo(20, 30, 1)))
    with Rescaler.for_packet(tmp_path / "small.png", threads=1) as found:
        assert found.card.id == card.id
        assert up(found, tmp_path / "small.png").shape == (20, 30, 3)


def test_two_threads_do_not_make_the_engine_prepare_each_tile_anew(cards: dict[int, ModelCard]) -> None:
    """Tiles of two pictures that interleave would compile the graph for the one size and the other in turns."""
    card = cards[4]
    with Rescaler(card, threads=1, memory_limit_mib=limit_for(card, (60, 60))) as shared:
        order: list[int] = []
        sizes = [(400, 700), (500, 600)]
        started = threading.Barrier(len(sizes))

        def work(index: int) -> None:
            started.wait()
            shared.downscale(photo(*sizes[index], index), progress=lambda done, total: order.append(index))

        workers = [threading.Thread(target=work, args=(index,)) for index in range(len(sizes))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(order) > 4
    assert sum(one != other for one, other in itertools.pairwise(order)) == 1


class ShortOfMemory:
    """A real engine behind a limit: larger tiles fail as they do on a GPU that is full (fault injection)."""

    def __init__(self, engine: Any, most_pixels: int) -> None:
        self._engine, self._most_pixels = engine, most_pixels

    def run(self, inputs: Any, **options: Any) -> Any:
        if next(iter(inputs.values()))[0, ..., 0].size > self._most_pixels:
            raise OutOfMemoryError("no room")
        return self._engine.run(inputs, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def test_running_out_of_memory_retries_with_smaller_exact_tiles_and_says_so(
    cards: dict[int, ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo(500, 520, 3)
    with Rescaler(cards[4], threads=1) as roomy:
        wanted = down(roomy, image)

    def short(*args: Any, **options: Any) -> Any:
        return ShortOfMemory(open_engine(*args, **options), 300 * 300)

    monkeypatch.setattr("bdflow_rt.runtime.runner.open_engine", short)
    with Rescaler(cards[4], threads=1) as tight:
        with pytest.warns(UserWarning, match="trying again with smaller tiles"):
            found = down(tight, image)
        assert_close_pixels(found.lr, wanted.lr)
    monkeypatch.setattr(
        "bdflow_rt.runtime.runner.open_engine", lambda *args, **options: ShortOfMemory(open_engine(*args, **options), 0)
    )
    with (
        Rescaler(cards[4], threads=1) as hopeless,
        pytest.warns(UserWarning, match="Memory ran out") as said,
        pytest.raises(OutOfMemoryError, match="smallest exact tile"),
    ):
        hopeless.downscale(image)
    advised = [float(str(one.message).split("memory_limit_mib to ")[1].split()[0]) for one in said]
    assert all(0 < later < earlier for earlier, later in itertools.pairwise(advised))
