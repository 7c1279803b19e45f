"""The tables about rate and distortion: models beside codecs at the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bdflow_rt.cli.output import markdown
from tools.measured import read

RIVALS = ("jpeg", "webp", "avif")
MEASURES = {"psnr_y": ("PSNR-Y", " dB", 1), "lpips": ("LPIPS", "", -1)}
"""Key -> name, unit, and -1 where less is better."""
FORMS = {"png": "PNG packet", "webp_lossless": "lossless WebP + map"}


def rate_table() -> list[str]:
    """Every model's files beside the codecs' at the same bytes: PSNR-Y and LPIPS (`rate_distortion.json`)."""
    result = read("rate_distortion.json")
    titles = [result["codecs"][key]["title"] for key in RIVALS]
    rows = []
    for one, name, model, form in _stored(result):
        stored = model["forms"][form]
        rivals = (_scores(stored["same_bytes"][key]) for key in RIVALS)
        size, rate = f"{stored['bytes']:,.0f}", f"{stored['bits_per_pixel']:.2f}"
        rows.append([one["folder"], name, FORMS[form], size, rate, _scores(model), *rivals])
    return markdown(["set", "model", "LR as", "bytes", "bits per HR pixel", "ours", *titles], rows)


def verdict() -> list[str]:
    """Who wins at equal bytes, how often and by how much; and what lossless WebP saves (`rate_distortion.json`)."""
    result = read("rate_distortion.json")
    rows = [(model, model["forms"][form]) for *_, model, form in _stored(result)]
    measures = [measure for measure in MEASURES if all(model[measure] is not None for model, _ in rows)]
    lines = []
    for key in RIVALS:
        told = [_gains(rows, key, measure) for measure in measures]
        lines.append(f"- Against {result['codecs'][key]['title']}, ours has {' and '.join(told)}.")
    for measure in measures:
        winners = [_winner(model, stored, measure) for model, stored in rows]
        counted = sorted({key: winners.count(key) for key in winners}.items(), key=lambda item: -item[1])
        titles = {"ours": "ours", **{key: one["title"] for key, one in result["codecs"].items()}}
        told = [f"{titles[key]} in {count}" for key, count in counted]
        lines.append(f"- Best of all by {MEASURES[measure][0]}: {', '.join(told)} of {len(rows)} rows.")
    packets, webps = ([m["forms"][form]["bytes"] for *_, m, of in _stored(result) if of == form] for form in FORMS)
    saved = [100 * (1 - webp / packet) for webp, packet in zip(webps, packets, strict=True)]
    lines.append(
        f"- The same LR and map take {min(saved):.0f} to {max(saved):.0f} % fewer bytes as lossless WebP than as the "
        "PNG packet."
    )
    return lines


def both_pictures_table() -> list[str]:
    """What a small and a large picture of our quality take without us: PNG of the bicubic LR, and a codec's HR."""
    result = read("rate_distortion.json")
    rows = []
    for one, name, model, form in _stored(result):
        if form == "png":
            packet, small = model["forms"][form]["bytes"], model["small_png_bytes"]
            both = (_both(model["as_good"][key], small, packet) for key in RIVALS)
            rows.append([one["folder"], name, f"{packet:,.0f}{_lpips(model)}", f"{small:,.0f}", *both])
    titles = (f"with {result['codecs'][key]['title']}" for key in RIVALS)
    return markdown(["set", "model", "packet", "PNG of the bicubic LR", *titles], rows)


def _both(found: dict[str, Any] | None, small: float, packet: float) -> str:
    if found is None:
        return "-"
    whole = small + found["bytes"]
    return f"{whole:,.0f} ({100 * (whole / packet - 1):+.0f} %){_lpips(found)}"


def _lpips(one: dict[str, Any]) -> str:
    return "" if one["lpips"] is None else f", {one['lpips']:.3f}"


def settings() -> list[str]:
    """Settings and versions of the codecs, and whether LPIPS was measured (`rate_distortion.json`)."""
    result = read("rate_distortion.json")
    codecs = [
        f"{one['title']} ({one['settings']}; {result['codecs'][key]['version']})"
        for key, one in result["codecs"].items()
        if key in RIVALS
    ]
    lpips = "LPIPS is of AlexNet, version 0.1." if result["lpips"] else "LPIPS was not measured."
    return [f"Codecs by Pillow {result['versions']['pillow']}: {', '.join(codecs)}. {lpips}"]


def _stored(result: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, Any], str]]:
    """Set, model's name, model and form of every file that was compared."""
    for one in result["sets"]:
        for name, model in one["models"].items():
            for form in FORMS:
                yield one, name, model, form


def _gains(rows: list[tuple[Any, Any]], key: str, measure: str) -> str:
    """In how many rows a measure of ours is better than a codec's, and the span of ours less theirs."""
    title, unit, sign = MEASURES[measure]
    rivals = [(model[measure], stored["same_bytes"][key]) for model, stored in rows]
    gains = [ours - theirs[measure] for ours, theirs in rivals if theirs and theirs[measure] is not None]
    if not gains:
        return f"no {title} to compare with"
    wins = sum(sign * gain > 0 for gain in gains)
    span = f"{min(gains):+.{2 if unit else 3}f} to {max(gains):+.{2 if unit else 3}f}{unit}"
    return f"the better {title} in {wins} of {len(gains)} rows ({span})"


def _winner(model: dict[str, Any], stored: dict[str, Any], measure: str) -> str:
    """Who is best in a row: "ours" or a codec's key."""
    sign = MEASURES[measure][2]
    scores = {key: one[measure] for key, one in stored["same_bytes"].items() if one and one[measure] is not None}
    scores["ours"] = model[measure]
    return max(scores, key=lambda key: sign * scores[key])


def _scores(scores: dict[str, Any] | None) -> str:
    """PSNR-Y and, where measured, LPIPS; "-" where no quality of the codec was small enough."""
    if scores is None or scores["psnr_y"] is None:
        return "-"
    lpips = scores["lpips"]
    return f"{scores['psnr_y']:.2f} dB" + ("" if lpips is None else f", {lpips:.4f}")
