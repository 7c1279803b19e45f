"""Text subtitles as bytes: SubRip, WebVTT, and MP4's timed text (3GPP TS 26.245), read and written.

What all of them can say is kept: the text, and which of it is bold, italic or underlined. Anything else, such as
colours, is named as lost.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

LOST_STYLE = (
    "Subtitles go along as text, with what of it is bold, italic or underlined; their colours, fonts and places stay "
    "behind."
)
LITERAL_TAGS = "Subtitles have tags such as <i> in their text, which players take for style from here on."
DAMAGED = "Some subtitles are damaged; what can be read of their text goes along."
TOO_LONG = "A subtitle has more than the 65,535 bytes that one may have in MP4; its end stays behind."
TOO_LATE = "A subtitle is shown more than 24 days after the beginning, and stays behind from then on."
NO_END = "Some subtitles have no end; they are shown for three seconds."
TOO_MANY = "More than 16 subtitles of one track are shown at the same time; those beyond stay behind."

_FACES = {"b": 1, "i": 2, "u": 4}
"""Tag -> flag of a style record (TS 26.245, 5.15)."""
_SUBRIP_TAG = re.compile(
    r"<(?P<end>/?)\s*(?P<name>b|i|u|s|strike|font|span|br)\b[^<>]*>"
    r"|\{(?:\\[^{}]*|[CFPSY]:[^{}]*|/?[biu])\}",  # tags of ASS and of MicroDVD, and SubRip's own other form
    re.IGNORECASE,
)
_WEBVTT_TAG = re.compile(r"<(?P<end>/?)(?P<name>[a-z]*)[^<>]*>")
_BYTE_ORDER_MARKS = (b"\xfe\xff", b"\xff\xfe")
_MAX_BYTES = 0xFFFF
_BOX_BYTES, _RECORD_BYTES = 8, 12
_BOXES_WITHOUT_STYLE = (b"encd", b"twrp")
"""The encoding of the text, and whether long lines are broken, which players of text do."""
_DESCRIBED_STYLE = slice(22, 30)
"""Where a sample description has font, face, size and colour of its text."""
_STYLE = b"\0\1%c\x10\xff\xff\xff\xff"
"""Font, face, size and colour of a style record: those of the sample description that FFmpeg writes, but the face."""
_MOST_AT_ONCE = 16


class Piece(NamedTuple):
    """A part of a text, and its face: bits for bold (1), italic (2) and underlined (4)."""

    text: str
    face: int = 0


@dataclass(frozen=True)
class Text:
    """What a subtitle says.

    Attributes:
        pieces: its text in order, with a line feed between lines.
        notices: what of the subtitle is not in it, in sentences for people.
    """

    pieces: tuple[Piece, ...] = ()
    notices: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to be seen."""
        return any(not piece.text.isspace() for piece in self.pieces)


@dataclass(frozen=True)
class Cue:
    """A text that is shown from `start` to `end`, in milliseconds."""

    start: int
    end: int
    text: Text


def read_timed_text(payload: bytes, description: bytes = b"") -> Text:
    """A sample of MP4's timed text; `description` is its track's. A sample that only fills a gap has no text."""
    size = int.from_bytes(payload[:2], "big")
    text, is_whole = _decoded(payload[2 : 2 + size])
    records, is_plain, has_whole_boxes = _style_records(payload[2 + size :])
    pieces, at, style = [], 0, description[_DESCRIBED_STYLE]
    for start, end, face, record in records:
        if not at <= start <= end <= len(text):
            is_whole = False
            continue
        pieces += [Piece(text[at:start]), Piece(text[start:end], face & 7)]
        is_plain = is_plain and (len(style) < len(record) or record[:2] + record[3:] == style[:2] + style[3:])
        at = end
    pieces.append(Piece(text[at:]))
    is_sound = is_whole and has_whole_boxes and len(payload) >= 2 + size and len(payload) >= 2
    tags = LITERAL_TAGS if _SUBRIP_TAG.search(text) else ""
    return _text(pieces, "" if is_sound else DAMAGED, "" if is_plain else LOST_STYLE, tags)


def read_subrip(payload: bytes) -> Text:
    """A subtitle of Matroska's S_TEXT/UTF8."""
    text, is_sound = _decoded(payload)
    return _from_tagged(text, _SUBRIP_TAG, is_sound=is_sound)


def read_webvtt(payload: bytes) -> Text:
    """The text of a cue of WebVTT."""
    text, is_sound = _decoded(payload)
    marked = _from_tagged(text, _WEBVTT_TAG, is_sound=is_sound)
    return Text(tuple(Piece(html.unescape(piece.text), piece.face) for piece in marked.pieces), marked.notices)


def write_timed_text(text: Text) -> bytes:
    """A sample of MP4's timed text, cut at a character where it is too long."""
    data, records, at = bytearray(), [], 0
    for piece in text.pieces:
        kept = piece.text.encode("utf-8")[: _MAX_BYTES - len(data)].decode("utf-8", "ignore")
        data += kept.encode("utf-8")
        if piece.face and kept:
            records.append(at.to_bytes(2, "big") + (at + len(kept)).to_bytes(2, "big") + _STYLE % piece.face)
        at += len(kept)
        if kept != piece.text:
            break
    box = b""
    if records:
        body = b"styl" + len(records).to_bytes(2, "big") + b"".join(records)
        box = (4 + len(body)).to_bytes(4, "big") + body
    return len(data).to_bytes(2, "big") + bytes(data) + box


def write_subrip(text: Text) -> bytes:
    """A subtitle of Matroska's S_TEXT/UTF8."""
    return "".join(_tagged(piece.text, piece.face) for piece in text.pieces).encode("utf-8")


def write_webvtt(text: Text) -> bytes:
    """The text of a cue of WebVTT, where an empty line would be its end."""
    escaped = "".join(_tagged(html.escape(piece.text, quote=False), piece.face) for piece in text.pieces)
    return re.sub(r"\n{2,}", "\n", escaped).encode("utf-8")


def is_too_long(text: Text) -> bool:
    """Whether `write_timed_text` cuts it."""
    return sum(len(piece.text.encode("utf-8")) for piece in text.pieces) > _MAX_BYTES


def one_at_a_time(cues: Iterable[Cue]) -> Iterator[Cue]:
    """The same lines at the same times, from cues that follow one another, as MP4 has them.

    Where several are shown at once, their texts become one, the earlier one above.

    Args:
        cues: ascending by their start.
    """
    shown: list[Cue] = []
    now = 0
    for cue in [*cues, None]:
        while shown and (cue is None or now < cue.start):
            ends = [one.end for one in shown]
            end = min(ends if cue is None else [*ends, cue.start])
            yield Cue(now, end, _joined(shown))
            now = end
            shown = [one for one in shown if one.end > now]
        if cue is None:
            return
        now = cue.start
        if len(shown) < _MOST_AT_ONCE:
            shown.append(cue)
        elif TOO_MANY not in shown[-1].text.notices:
            last = shown[-1].text
            shown[-1] = replace(shown[-1], text=replace(last, notices=(*last.notices, TOO_MANY)))


def _joined(cues: list[Cue]) -> Text:
    """The lines of several cues."""
    pieces = [piece for cue in cues for piece in (*cue.text.pieces, Piece("\n"))][:-1]
    return Text(tuple(pieces), tuple(notice for cue in cues for notice in cue.text.notices))


def _decoded(data: bytes) -> tuple[str, bool]:
    """Text of bytes in UTF-8, or UTF-16 with a byte order mark; and whether all of it can be decoded."""
    encoding = "utf-16" if data.startswith(_BYTE_ORDER_MARKS) else "utf-8-sig"
    try:
        return data.decode(encoding), True
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), False


def _style_records(boxes: bytes) -> tuple[list[tuple[int, int, int, bytes]], bool, bool]:
    """Start, end, face and style of each style record; whether no other style is there; whether the boxes are sound."""
    records: list[tuple[int, int, int, bytes]] = []
    is_plain = True
    while any(boxes):  # some writers end the list with zeros
        length, kind = int.from_bytes(boxes[:4], "big"), boxes[4:_BOX_BYTES]
        if not _BOX_BYTES <= length <= len(boxes):
            return records, is_plain, False
        body, boxes = boxes[_BOX_BYTES:length], boxes[length:]
        if kind != b"styl":
            is_plain = is_plain and kind in _BOXES_WITHOUT_STYLE
            continue
        count = int.from_bytes(body[:2], "big")
        if len(body) != 2 + count * _RECORD_BYTES:
            return records, is_plain, False
        for at in range(2, len(body), _RECORD_BYTES):
            start, end = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
            records.append((start, end, body[at + 6], body[at + 4 : at + _RECORD_BYTES]))
    return records, is_plain, True


def _from_tagged(text: str, pattern: re.Pattern[str], *, is_sound: bool) -> Text:
    """Pieces of a text with tags; those of other style than `_FACES` are left out, and named."""
    pieces, at, face, is_plain = [], 0, 0, True
    for match in pattern.finditer(text):
        pieces.append(Piece(text[at : match.start()], face))
        at = match.end()
        name = (match["name"] or "").lower()
        if name == "br":
            pieces.append(Piece("\n", face))
        elif name in _FACES:
            face = face & ~_FACES[name] if match["end"] else face | _FACES[name]
        else:
            is_plain = False
    pieces.append(Piece(text[at:], face))
    return _text(pieces, "" if is_sound else DAMAGED, "" if is_plain else LOST_STYLE)


def _text(pieces: list[Piece], *notices: str) -> Text:
    """A text of pieces that are not empty, with the line ends and without the zeros that some writers have."""
    kept: list[Piece] = []
    for text, face in pieces:
        clean = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
        if clean and kept and kept[-1].face == face:
            kept[-1] = Piece(kept[-1].text + clean, face)
        elif clean:
            kept.append(Piece(clean, face))
    while kept and kept[-1].text.endswith("\n"):
        last = kept.pop()
        if stripped := last.text.rstrip("\n"):
            kept.append(Piece(stripped, last.face))
    return Text(tuple(kept), tuple(notice for notice in notices if notice))


def _tagged(text: str, face: int) -> str:
    names = [name for name, flag in _FACES.items() if face & flag]
    return "".join(f"<{name}>" for name in names) + text + "".join(f"</{name}>" for name in reversed(names))
