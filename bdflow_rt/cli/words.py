"""Messages of the API as users of the command line read them: its options instead of arguments of Python.

The one place where the two are brought together: errors name arguments, as programs need them.
"""

from __future__ import annotations

import re

_FLAGS = {
    "memory_limit_mib": "--memory-limit",
    "max_pixels": "--max-pixels",
    "workspace_mib": "--workspace-mib",
    "optimization_level": "--optimization-level",
    "version_compatible": "--version-compatible",
    "hardware_compatible": "--hardware-compatible",
    "background": "--background",
    "backend": "--backend",
    "codec": "--codec",
    "colours": "--assume-srgb or --convert-srgb",
    "crf": "--crf",
    "device": "--device",
    "duration": "--duration",
    "force": "--force",
    "lr_codec": "--lr-codec",
    "lr_preset": "--lr-preset",
    "pixel_format": "--pix-fmt",
    "frames": "--frames",
    "precision": "--precision",
    "preset": "--preset",
    "quality": "--quality",
    "refine": "--refine",
    "seed": "--seed",
    "start": "--start",
    "temperature": "--temperature",
    "threads": "--threads",
    "timeout": "--timeout",
    "when_full": "--when-full",
    "z.seed": "--seed",
    "z.temperature": "--temperature",
}
"""Arguments of the API, and the options that set them."""
_NAMES = "|".join(re.escape(name) for name in sorted(_FLAGS, key=len, reverse=True))
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # force=True (--force): the message knows both worlds.
    (re.compile(r"\b\w+=\S+ \((--[^)]+)\)"), r"\1"),
    (
        re.compile(r"\bUse (?:Rescaler\.for_packet\(packet\)|VideoRescaler\.for_video\(path\))\."),
        "Leave --model out: the right one is found by itself.",
    ),
    (re.compile(r", or pass icc_profile=None"), ""),
    (re.compile(r"\bresume and overwrite are both given\b"), "--resume and --overwrite are both given"),
    (re.compile(r", or give their path(?=\.)"), ""),
    (re.compile(r"\bmake the Rescaler with\b"), "use"),
    (re.compile(r"\bBuild from the graph that build_half_graph makes"), "Please report this"),
    (re.compile(r"\bThis Rescaler\b"), "The model"),
    (re.compile(r"\bor infinite for no limit\b"), "or inf for no limit"),
)
_AS_SUBJECT = re.compile(rf"(?:^|(?<=\. )|(?<=\())({_NAMES})(?= is )")
_AS_VALUE = re.compile(rf"\b({_NAMES})='?([\w.:-]+)'?")
_QUOTED = re.compile(r"(?<![=\w])'[^']*'(?!\w)")
"""What was given, the names of files above all; not the values of arguments, as in colours='assume'."""
_ANYWHERE = re.compile(rf"(?<![\w-])({'|'.join(name for name in _FLAGS if '_' in name)})\b")


def for_command_line(message: str) -> str:
    """A message of an error or a warning in one line, with the options of the command line."""
    text = " ".join(message.split())
    given = _QUOTED.findall(text)
    text = _QUOTED.sub("\0", text)
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    text = _AS_SUBJECT.sub(lambda found: _FLAGS[found[1]], text)
    text = _AS_VALUE.sub(lambda found: f"{_FLAGS[found[1]]} {found[2]}", text)
    text = _ANYWHERE.sub(lambda found: _FLAGS[found[1]], text)
    return re.sub("\0", lambda _: given.pop(0), text)
