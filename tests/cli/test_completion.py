"""`bdflow completion`: scripts that real shells take, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bdflow_rt.cli.parser import COMMANDS
from tests.cli.build import bdflow, succeeded

CASES = {
    "": {"downscale", "upscale", "completion"},
    "down": {"downscale"},
    "cache ": {"ls", "rm", "verify"},
    "downscale --conv": {"--convert-srgb"},
    "downscale --precision ": {"auto", "fp32", "bf16", "fp16"},
    "upscale --format w": {"webp"},
    "export tiny": {"tiny-x2", "tiny-x2@1"},
    "downscale -m tiny": {"tiny-x2", "tiny-x2@1"},
    "downscale pho": {"photo.png"},
    "completion ": {"bash", "zsh", "fish"},
}
"""What is typed after `bdflow`, and words that are offered for it."""


@pytest.fixture
def folder(zoo: Path, tmp_path: Path) -> Path:
    """A folder with a picture and the scripts."""
    (tmp_path / "photo.png").touch()
    for shell in ("bash", "zsh", "fish"):
        (tmp_path / f"script.{shell}").write_text(succeeded("completion", shell).out)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_every_command_and_its_options_are_in_every_script(folder: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = (folder / f"script.{shell}").read_text()
        assert [name for name in (*COMMANDS, "no-clobber", "convert-srgb", "tiny-x2") if name not in script] == []


def test_bash_offers_what_fits(folder: Path) -> None:
    lines = ["source script.bash"]
    for typed in CASES:
        words = ["bdflow", *typed.split(" ")]
        lines += [
            f"COMP_WORDS=({' '.join(word or repr('') for word in words)}); COMP_CWORD={len(words) - 1}",
            f"COMPREPLY=(); $(complete -p bdflow | sed 's/.*-F //; s/ .*//') bdflow '{words[-1]}' '{words[-2]}'",
            'echo "${COMPREPLY[*]}"',
        ]
    # A function called in $(...) would lose COMPREPLY: its name is looked up first.
    text = "\n".join(lines).replace("$(complete -p bdflow | sed 's/.*-F //; s/ .*//')", "$F")
    name = "F=$(complete -p bdflow | sed 's/.*-F //; s/ .*//')"
    out = run(["bash", "-c", text.replace("source script.bash", f"source script.bash; {name}")], folder)
    for (typed, expected), line in zip(CASES.items(), out.split("\n"), strict=False):
        assert expected <= set(line.split()), typed
    assert "upscale" not in out.split("\n")[1].split()


BASH = """
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.environ.update(TERM="dumb", HOSTFILE="hosts")
    os.execvp("bash", ["bash", "--norc", "-i"])
def send(line):
    os.write(terminal, line.encode())
    seen = b""
    while b"END" not in seen:
        seen += os.read(terminal, 65536)
    return seen.decode(errors="replace")
send("source script.bash; bdflow() { printf '<%s>' \\"$@\\"; echo E''ND; }; echo E''ND\\n")
for typed in sys.argv[1:]:
    print(send(f"bdflow {typed}\\t\\t\\n"), "---")
"""
"""Types words with a tab behind them at bash, where the command prints its arguments."""


def test_bash_offers_names_of_hosts_behind_the_at_sign_of_a_version(folder: Path) -> None:
    (folder / "hosts").write_text("127.0.0.1 some-host\n")
    (folder / "photo@2x.png").touch()
    expected = {
        "export tiny-x2@": "<export><tiny-x2@1>",
        "downscale -m tiny-x2@": "<downscale><-m><tiny-x2@1>",
        "downscale no-file@": "<downscale><no-file@>",
        "downscale photo@": "<downscale><photo@2x.png>",
        "downscale photo@2x.png --conv": "<downscale><photo@2x.png><--convert-srgb>",
    }
    blocks = run([sys.executable, "-c", BASH, *expected], folder).split("---\n")
    assert [words for words, block in zip(expected.values(), blocks, strict=False) if f"{words}END" not in block] == []
    assert "some-host" not in "".join(blocks)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_offers_what_fits(folder: Path) -> None:
    asked = "\n".join(f"complete -C 'bdflow {typed}'; echo ---" for typed in CASES)
    out = run(["fish", "--no-config", "-c", f"source script.fish\n{asked}"], folder)
    for (typed, expected), block in zip(CASES.items(), out.split("---\n"), strict=False):
        assert expected <= {line.split("\t")[0] for line in block.splitlines()}, typed


ZSH = """
import os, pty, sys, time
child, terminal = pty.fork()
if child == 0:
    os.environ.update(TERM="dumb", PS1="READY ", ZDOTDIR="/nonexistent")
    os.execvp("zsh", ["zsh", "-f", "-i"])
def read_until(word):
    seen = b""
    while word not in seen:
        seen += os.read(terminal, 65536)
    return seen
def send(line):
    os.write(terminal, line.encode())
send("unsetopt zle_bracketed_paste; LISTMAX=9999; PS1='READY '; autoload -Uz compinit && compinit -u -D\\n")
send('eval "$(cat script.zsh)"\\n')
send("zstyle ':completion:*' list-prompt ''; bindkey '^I' list-choices; echo be''gun\\n")
read_until(b"begun")
for typed in sys.argv[1:]:
    send(f"bdflow {typed}\\t")
    time.sleep(0.4)
    send("\\x15echo do''ne\\n")
    sys.stdout.write(read_until(b"done").decode(errors="replace") + "\\n---\\n")
send("exit\\n")
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_offers_what_fits(folder: Path) -> None:
    several = {typed: words for typed, words in CASES.items() if len(words) > 1}
    out = run([sys.executable, "-c", ZSH, *several], folder)
    for (typed, expected), block in zip(several.items(), out.split("---\n"), strict=False):
        assert [word for word in expected if word not in block] == [], (typed, block)


def test_a_shell_without_a_script_is_refused() -> None:
    done = bdflow("completion", "tcsh")
    assert (done.code, done.out) == (2, "")
    assert "bash, zsh, fish" in done.err
