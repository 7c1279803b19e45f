"""What users of the command line read: its own options, in plain words, and the exit codes."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bdflow_rt import errors
from bdflow_rt.cli.parser import COMMANDS, exit_codes
from bdflow_rt.cli.words import for_command_line
from bdflow_rt.install import install_extra
from tests.cli.build import bdflow, failed, succeeded
from tests.support import ROOT, photo


def classes() -> list[type[errors.BdflowError]]:
    """Every class of errors."""
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.BdflowError)]


def test_the_help_has_every_exit_code_of_the_errors() -> None:
    listed = {int(line.split()[0]): line for line in exit_codes().splitlines()[1:]}
    assert set(listed) == {kind.exit_code for kind in classes()} | {0, 130, 141, 143}
    for kind in errors.BdflowError.__subclasses__():
        assert str(kind.__doc__).splitlines()[0] in listed[kind.exit_code]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_ends_with_the_exit_codes(command: str) -> None:
    assert succeeded(*command.split(), "--help").out.rstrip().endswith(exit_codes())


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("memory_limit_mib is 0; it must be above 0, or infinite for no limit.",
         "--memory-limit is 0; it must be above 0, or inf for no limit."),
        ("It has 9 pixels. Raise max_pixels to accept it.", "It has 9 pixels. Raise --max-pixels to accept it."),
        ("for example background='white' (--background white).", "for example --background white."),
        ("restore it anyway with force=True (--force).", "restore it anyway with --force."),
        ("z.temperature is -1; it must be more.", "--temperature is -1; it must be more."),
        ("use backend='torch' for device='cuda:1'.", "use --backend torch for --device cuda:1."),
        ("Use precision='fp32'.", "Use --precision fp32."),
        ("The packet was made with a. Use Rescaler.for_packet(packet).",
         "The packet was made with a. Leave --model out: the right one is found by itself."),
        ("Convert the picture to sRGB, or pass icc_profile=None.", "Convert the picture to sRGB."),
        ("Set BDFLOW_DATA to a folder, or give their path.", "Set BDFLOW_DATA to a folder."),
        ("'max_pixels.png' and 'in/quality=5.png' exist; raise max_pixels.",
         "'max_pixels.png' and 'in/quality=5.png' exist; raise --max-pixels."),
        ("name a background colour, its device is a CPU", "name a background colour, its device is a CPU"),
    ],
)  # fmt: skip
def test_arguments_of_python_are_shown_as_options(message: str, shown: str) -> None:
    assert for_command_line(message) == shown


def test_no_option_is_named_that_no_command_has() -> None:
    """What translation says is an option of some command, by its help."""
    from bdflow_rt.cli.parser import build_parser
    from bdflow_rt.cli.words import _FLAGS

    known = set(build_parser(COMMANDS).option_strings())
    assert {flag for flags in _FLAGS.values() for flag in flags.split(" or ")} <= known


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("downscale in.png -o out.png --threads two", "--threads is 'two'; it must be a whole number."),
        ("downscale in.png -o out.png --memory-limit x", "--memory-limit is 'x'; it must be a number."),
        ("downscale in.png -o out.png --precision fp23", "--precision is 'fp23'; did you mean fp32?"),
        ("downscale in.png -o out.png --precision x", "--precision is 'x'; it must be one of auto, fp32, bf16, fp16."),
        ("downscale in.png", "-o/--output is missing."),
        ("downscale", "input, -o/--output are missing."),
        ("downscale in.png -o", "-o/--output needs a value."),
        ("downscale in.png out.png -o out.png", "'out.png' is one argument too many."),
        ("downscale in.png -o out.png --jsn", "There is no option --jsn; did you mean --json?"),
        ("downscale in.png -o out.png --assume-srgb --convert-srgb",
         "--convert-srgb and --assume-srgb contradict each other; give one of them."),
        ("downscale in.png -o out.png --json=1", "--json takes no value, and got '1'."),
        ("upscale in.png -o out.png --t 1", "--t could be --temperature or --timeout or --threads; write it out."),
        ("downscal in.png", "COMMAND is 'downscal'; did you mean downscale?"),
        ("", "COMMAND is missing."),
        ("-v models", "-v goes with --version; commands say all there is by themselves."),
        ("--version -x", "There is no option -x"),
    ],
)  # fmt: skip
def test_what_does_not_parse_is_said_in_plain_words(args: str, words: str) -> None:
    done = bdflow(*args.split())
    assert (done.code, done.out) == (2, "")
    first, second = done.err.splitlines()
    assert first.startswith(f"bdflow: error: {words}")
    assert second.startswith("Try 'bdflow")


def test_help_and_version_load_no_numpy() -> None:
    for options in (["--help"], ["--version"], ["--version", "-v"]):
        code = (
            f"import sys; from bdflow_rt.cli.main import main; main({options})\n"
            "heavy = {'numpy', 'openvino', 'torch', 'PIL', 'cv2'} & set(sys.modules); assert not heavy, heavy"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_the_long_version_has_what_a_report_needs(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDFLOW_CACHE", "~/somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    text = succeeded("--version", "-v").out
    assert text == succeeded("--version", "--verbose").out == succeeded("-v", "--version").out
    for fact in ("Python 3.", "Linux", "numpy ", "openvino ", "bdflow-x4@99, identity ", f"{tmp_path}/somewhere",
                 str(zoo), "telemetry: off (OpenVINO"):  # fmt: skip
        assert fact in text
    assert re.fullmatch(r"bdflow \S+\n", succeeded("--version").out)


def test_advice_to_install_works_from_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert install_extra("train") == "pip install -e '.[train]'"
    monkeypatch.chdir(tmp_path)
    assert install_extra("train") == f"pip install -e '{ROOT}[train]'"


def test_advice_to_install_names_where_a_wheel_came_from(tmp_path: Path) -> None:
    """As pip installs it: a copy of the module beside the record that pip writes (PEP 610)."""
    package, record = tmp_path / "site" / "bdflow_rt", tmp_path / "site" / "bdflow_rt-0.1.0.dist-info"
    package.mkdir(parents=True)
    record.mkdir()
    (package / "__init__.py").touch()
    (package / "install.py").write_text((ROOT / "bdflow_rt" / "install.py").read_text())
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: bdflow-rt\nVersion: 0.1.0\n")
    code = "from bdflow_rt.install import install_extra; print(install_extra('cuda'))"

    def said(url: str | None) -> str:
        if url is not None:
            (record / "direct_url.json").write_text(url)
        command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = [{str(package.parent)!r}]; {code}"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    assert said(None) == "pip install 'bdflow-rt[cuda]'"
    assert said(f'{{"url": "file://{tmp_path}"}}') == f"pip install 'bdflow-rt[cuda] @ file://{tmp_path}'"
    git = '{"url": "https://x.org/a", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'
    assert said(git) == "pip install 'bdflow-rt[cuda] @ git+https://x.org/a@abc'"
    assert said('{"url": "file:///gone/a.whl"}') == "pip install 'bdflow-rt[cuda]'"


def test_export_without_onnx_says_what_to_install(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "onnx" or name.startswith("bdflow_rt.export")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    failed(bdflow("export", "plain", "-o", tmp_path / "made"), 7, "onnx", "pip install", "[export]")


def test_a_folder_of_the_zoo_that_is_missing_is_said_once(
    zoo: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDFLOW_ZOO", f"{zoo}:{tmp_path}/missing")
    done = succeeded("downscale", source, "-o", tmp_path / "lr.png", "--json")
    (line,) = done.err.splitlines()
    assert line.startswith(f"bdflow: note: BDFLOW_ZOO names {tmp_path}/missing, which is not a folder;")
    assert succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png", "-q").err == ""


@pytest.mark.parametrize("variable", ["BDFLOW_ZOO", "BDFLOW_CACHE"])
def test_a_tilde_is_the_home_folder(zoo: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("HOME", str(zoo.parent))
    monkeypatch.setenv(variable, f"~/{zoo.name}")
    assert str(zoo) in succeeded("--version", "-v").out
    assert "note:" not in succeeded("models").err


def test_a_memory_limit_just_above_the_least_says_what_it_costs(zoo: Path, tmp_path: Path) -> None:
    Image.fromarray(photo(307, 311, 5)).save(tmp_path / "hr.png")
    done = bdflow("downscale", tmp_path / "hr.png", "-o", tmp_path / "lr.png", "--memory-limit", "0.6")
    assert done.code == 0, done
    (line,) = (line for line in done.err.splitlines() if "warning" in line)
    found = re.search(
        r"--memory-limit is 0.6, so .* (\d+) tiles that take (\d+) times .*--memory-limit to (\d+) for", line
    )
    assert found, line
    assert int(found[2]) > 4
    succeeded("downscale", tmp_path / "hr.png", "-o", tmp_path / "lr.png", "--memory-limit", found[3], "--overwrite")


@pytest.mark.parametrize("command", ["downscale", "eval", "verify"])
def test_advice_is_an_option_of_the_command(zoo: Path, tmp_path: Path, command: str) -> None:
    """What a transparent picture is answered with can be given to the very command."""
    Image.new("RGBA", (40, 40), (9, 9, 9, 9)).save(tmp_path / "a.png")
    given: dict[str, list[str | Path]] = {
        "downscale": [tmp_path / "a.png", "-o", tmp_path / "b.png"],
        "eval": [tmp_path],
    }
    done = bdflow(command, *given.get(command, ["plain", tmp_path / "a.png"]))
    assert "--background white" in done.err
    assert "background=" not in done.err
    assert "--background" in succeeded(command, "--help").out
