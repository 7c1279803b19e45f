"""Pictures by way of standard input and output, and of other descriptors: pipes, files, terminals, nothing."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.containers import decode_png, read_packet
from bdflow_rt.evaluate import quality
from tests.cli.build import Done, bdflow, failed, pixels_of, succeeded
from tests.containers.build import encoded, same_packet
from tests.support import ROOT


@contextlib.contextmanager
def descriptor(number: int, target: int) -> Iterator[None]:
    """Inside, a descriptor of this process is another one."""
    kept = os.dup(number)
    os.dup2(target, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def piped(*args: str | Path, data: bytes | Path | None = None) -> tuple[Done, bytes]:
    """A command line with content, or a file, on standard input, and what it wrote to the descriptor of stdout."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output, contextlib.ExitStack() as stack:
        if isinstance(data, bytes):
            source.write(data)
            source.seek(0)
            read, write = os.pipe()
            feeder = subprocess.Popen(["cat"], stdin=source, stdout=write)
            os.close(write)
            stack.enter_context(descriptor(0, read))
            os.close(read)
            stack.callback(feeder.wait)
            stack.callback(feeder.kill)
        elif data is not None:
            file = stack.enter_context(data.open("rb"))
            stack.enter_context(descriptor(0, file.fileno()))
        with descriptor(1, output.fileno()):
            done = bdflow(*args)
        output.seek(0)
        return done, output.read()


def shell(command: str, *args: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A line of bash, in which `bdflow` is the command."""
    line = f'bdflow() {{ "{sys.executable}" -m bdflow_rt "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", line, "bash", *map(str, args)], cwd=ROOT, capture_output=True, check=False, timeout=120
    )


@pytest.fixture
def small(zoo: Path, packet_bytes: bytes, tmp_path: Path) -> Path:
    """What downscale makes of the photograph."""
    (tmp_path / "lr.png").write_bytes(packet_bytes)
    return tmp_path / "lr.png"


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("from_file", [False, True])
def test_input_and_output_are_the_standard_streams(small: Path, source: Path, name: str, from_file: bool) -> None:
    data = source if from_file else source.read_bytes()
    done, written = piped("downscale", name, "-o", name.replace("in", "out").replace("0", "1"), data=data)
    assert (done.code, done.out) == (0, ""), done
    assert written == small.read_bytes()
    assert done.err.startswith("standard output: 65 x 63") or name != "-"


def test_the_whole_way_is_a_pipeline_of_processes(zoo: Path, source: Path, small: Path, tmp_path: Path) -> None:
    succeeded("upscale", small, "-o", tmp_path / "file.png")
    done = shell('bdflow downscale - -o - < "$1" | bdflow upscale - -o - > "$2"', source, tmp_path / "piped.png")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert (tmp_path / "piped.png").read_bytes() == (tmp_path / "file.png").read_bytes()


def test_o_dev_stdout_is_refused_into_a_redirected_file(zoo: Path, source: Path, tmp_path: Path) -> None:
    done = shell('bdflow downscale "$1" -o /dev/stdout > "$2"', source, tmp_path / "out.bin")
    assert done.returncode == 0, done.stderr
    assert read_packet(tmp_path / "out.bin").header.width == 65


def test_process_substitution_is_an_input_and_an_output(small: Path, source: Path, tmp_path: Path) -> None:
    done = shell('bdflow downscale <(cat "$1") -o >(cat > "$2"); wait $!; sleep 0.1', source, tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes() == small.read_bytes()


def test_info_reads_standard_input(small: Path) -> None:
    done, _ = piped("info", "-", "--json", data=small.read_bytes())
    expected = succeeded("info", small, "--json").json
    assert done.json == {**expected, "file": "-"}
    assert piped("info", "-", data=small.read_bytes())[0].out.startswith("standard input: 17 x 16 picture")


@pytest.mark.parametrize("command", ["downscale", "upscale"])
def test_an_empty_standard_input_is_named(zoo: Path, tmp_path: Path, command: str) -> None:
    done, _ = piped(command, "-", "-o", tmp_path / "out.png", data=b"")
    failed(done, 3, "Standard input is empty (0 bytes)")
    assert not (tmp_path / "out.png").exists()


def test_what_is_wrong_with_content_is_said_of_standard_input(small: Path, tmp_path: Path) -> None:
    done, _ = piped("upscale", "-", "-o", "-", data=small.read_bytes()[:-40])
    failed(done, 5, "Standard input is damaged or cut off")
    done, _ = piped("upscale", "-", "-o", "-", data=encoded(Image.new("RGB", (9, 9)), "PNG"))
    failed(done, 5, "Standard input carries no bdflow chunk")
    done, _ = piped("downscale", "-", "-o", "-", data=b"hello")
    failed(done, 3, "Standard input is not a picture")


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-"])
def test_a_closed_standard_input_is_named(zoo: Path, closed: str) -> None:
    done = shell(f"bdflow info - {closed}")
    assert done.returncode == 3
    assert b"Standard input is closed" in done.stderr


def test_a_closed_standard_output_is_named(zoo: Path, source: Path) -> None:
    done = shell('bdflow downscale "$1" -o - >&-', source)
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"Standard output is closed" in done.stderr


@pytest.mark.parametrize("number", [0, 1])
def test_a_terminal_is_neither_read_nor_written(zoo: Path, source: Path, number: int) -> None:
    master, terminal = pty.openpty()
    with descriptor(number, terminal):
        done = bdflow("downscale", source if number else "-", "-o", "-" if number else "/dev/null")
    os.close(master)
    os.close(terminal)
    failed(done, 4 if number else 3, "Standard output is a terminal" if number else "Standard input is a terminal")


def test_a_descriptor_that_is_not_open_is_named(zoo: Path, tmp_path: Path) -> None:
    failed(bdflow("downscale", "/dev/fd/987", "-o", tmp_path / "out.png"), 3, "'/dev/fd/987' is closed")


def test_more_than_any_picture_needs_is_not_read(zoo: Path, source: Path, tmp_path: Path) -> None:
    done = shell('cat "$1" /dev/zero | bdflow downscale - -o "$2" --max-pixels 100', source, tmp_path / "out.png")
    assert done.returncode == 3
    assert b"Standard input has more than" in done.stderr
    assert b"--max-pixels" in done.stderr


@pytest.mark.parametrize("command", ["downscale - -o out.png", "upscale - -o out.png", "info -"])
def test_what_is_no_picture_and_never_ends_is_read_for_a_gigabyte(zoo: Path, command: str) -> None:
    done = shell(f"ulimit -v 4000000; timeout 60 yes | bdflow {command}; echo ${{PIPESTATUS[1]}}")
    assert done.stdout == b"3\n"
    assert b"Standard input is not a picture: its first bytes are 79 0a" in done.stderr


def test_an_empty_name_is_taken_for_the_current_folder(zoo: Path, source: Path, small: Path) -> None:
    for args in (("downscale", "", "-o", "out.png"), ("upscale", small, "-o", ""), ("info", "")):
        failed(bdflow(*args), 2, "The name of a file is empty")


def test_a_full_device_is_said_to_leave_no_partial_file(small: Path) -> None:
    done = bdflow("upscale", small, "-o", "/dev/full")
    failed(done, 4, "'/dev/full' is a pipe or device", "No space left")
    assert "partial file" not in done.err


@pytest.mark.parametrize("command", ["downscale", "upscale"])
def test_json_is_appended_to_the_png_on_stdout(small: Path, command: str) -> None:
    for name in ("-", "/dev/stdout", "/dev/fd/1"):
        done, written = piped(command, small, "-o", name, "--json")
        failed(done, 2, "--json", "standard output")
        assert written == b""


def test_a_full_disk_behind_stdout_is_an_error_of_the_output(zoo: Path, source: Path) -> None:
    with open("/dev/full", "wb") as full, descriptor(1, full.fileno()):
        done = bdflow("downscale", source, "-o", "-")
    failed(done, 4, "Standard output could not be written whole (No space left")


def test_a_reader_that_has_gone_ends_it_in_silence(zoo: Path, source: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with descriptor(1, write):
        done = bdflow("downscale", source, "-o", "-", "-q")
    os.close(write)
    assert (done.code, done.out, done.err) == (141, "", "")


def test_an_input_on_standard_input_is_not_written_over(zoo: Path, source: Path) -> None:
    before = source.read_bytes()
    done, _ = piped("downscale", "-", "-o", source, "--overwrite", data=source)
    failed(done, 4, "same file as the input standard input")
    assert source.read_bytes() == before


def test_a_file_called_dash_is_one_with_its_folder(
    zoo: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(source.read_bytes())
    succeeded("downscale", "./-", "-o", "lr.png")
    assert read_packet("lr.png").header.width == 65


class TestFormatsOfWhatIsRestored:
    """--format and --quality."""

    @pytest.mark.parametrize(
        ("options", "kind"),
        [((), "PNG"), (("--format", "webp"), "WEBP"), (("--format", "jpg", "--quality", "80"), "JPEG"),
         (("--format", "ppm"), "PPM"), (("--format", "tif"), "TIFF"), (("--format", "bmp"), "BMP")],
    )  # fmt: skip
    def test_stdout_has_the_format_that_is_asked_for(
        self, small: Path, tmp_path: Path, options: tuple[str, ...], kind: str
    ) -> None:
        done, written = piped("upscale", small, "-o", "-", *options)
        assert done.code == 0, done
        (tmp_path / "out").write_bytes(written)
        with Image.open(tmp_path / "out") as image:
            assert (image.format, image.size) == (kind, (65, 63))

    def test_a_device_and_a_name_without_a_suffix_take_a_format(self, small: Path, tmp_path: Path) -> None:
        succeeded("upscale", small, "-o", "/dev/null")
        succeeded("upscale", small, "-o", tmp_path / "out", "--format", "webp")
        with Image.open(tmp_path / "out") as image:
            assert image.format == "WEBP"

    @pytest.mark.parametrize(("name", "format_name"), [("out.png", "jpg"), ("out.gif", "png"), ("out.jpeg", "webp")])
    def test_a_format_that_contradicts_the_suffix_is_refused(
        self, small: Path, tmp_path: Path, name: str, format_name: str
    ) -> None:
        failed(bdflow("upscale", small, "-o", tmp_path / name, "--format", format_name), 2, format_name, name)
        succeeded("upscale", small, "-o", tmp_path / "out.jpeg", "--format", "jpg")

    def test_quality_is_that_of_jpeg_and_makes_webp_lossy(self, small: Path, tmp_path: Path) -> None:
        sizes: dict[str, list[int]] = {}
        for suffix in ("jpg", "webp"):
            for level in ("10", None) if suffix == "jpg" else ("10", "90", None):
                options = () if level is None else ("--quality", level)
                path = tmp_path / f"{level}.{suffix}"
                succeeded("upscale", small, "-o", path, *options)
                sizes.setdefault(suffix, []).append(path.stat().st_size)
        assert all(found == sorted(set(found)) for found in sizes.values())
        succeeded("upscale", small, "-o", tmp_path / "out.png")
        exact: npt.NDArray[np.uint8] = pixels_of(tmp_path / "out.png")
        assert np.array_equal(pixels_of(tmp_path / "None.webp"), exact)
        assert not np.array_equal(pixels_of(tmp_path / "90.webp"), exact)
        with Image.open(tmp_path / "10.jpg") as image:
            assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("name", "quality", "words"),
        [("out.png", "90", ["--quality is 90", ".jpg", ".webp"]), ("out.tif", "1", ["--quality is 1", "TIFF"]),
         ("out.jpg", "0", ["--quality is 0", "1 to 100"]), ("out.webp", "101", ["--quality is 101"])],
    )  # fmt: skip
    def test_a_quality_that_no_format_has_is_refused(
        self, small: Path, tmp_path: Path, name: str, quality: str, words: list[str]
    ) -> None:
        failed(bdflow("upscale", small, "-o", tmp_path / name, "--quality", quality), 2, *words)
        assert not (tmp_path / name).exists()


def test_the_packet_on_stdout_is_that_of_the_file(small: Path, source: Path) -> None:
    _, written = piped("downscale", source, "-o", "-", "-q")
    assert same_packet(decode_png(written), read_packet(small))


@pytest.mark.parametrize(
    ("options", "expected"), [([], "keep"), (["--assume-srgb"], "assume"), (["--convert-srgb"], "convert")]
)
@pytest.mark.parametrize("command", ["downscale", "eval"])
def test_colours_are_those_that_are_asked_for(
    zoo: Path, source: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: list[str], expected: str
) -> None:
    from bdflow_rt import containers
    from bdflow_rt.containers import image

    asked: list[Any] = []

    def listening(*args: Any, **given: Any) -> Any:
        asked.append(given.get("colours"))
        return image.read_picture(*args, **given)

    for module in (containers, quality):
        monkeypatch.setattr(module, "read_picture", listening)
    given: list[str | Path] = [source, "-o", "/dev/null"] if command == "downscale" else [source.parent]
    succeeded(command, *given, *options)
    assert asked[0] == expected


def test_a_pipe_that_does_not_wait_is_waited_for(zoo: Path, source: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    data = source.read_bytes()
    command = [sys.executable, "-m", "bdflow_rt", "downscale", "-", "-o", str(tmp_path / "lr.png")]
    with subprocess.Popen(command, stdin=read, stderr=subprocess.PIPE, cwd=ROOT) as process:
        os.close(read)
        for part in (data[:100], data[100:]):
            time.sleep(2)  # in which it begins to read
            os.write(write, part)
        os.close(write)
        assert process.wait(timeout=120) == 0, process.stderr and process.stderr.read()
    assert read_packet(tmp_path / "lr.png").header.width == 65
