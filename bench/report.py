"""Writes the measured tables of README.md from the JSON files in bench/results; nothing there is typed by hand.

python -m bdflow_rt.bench.report            # rewrite the tables
python -m bdflow_rt.bench.report --check    # say whether they are up to date
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"


def read(name: str) -> dict[str, Any]:
    """One result file of bench/results."""
    result: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return result


def quality_table() -> list[str]:
    """PSNR, SSIM and bytes of every model on every set that was measured (`quality/MODEL-SET.json`)."""
    lines = [
        "| model | set | PSNR-Y | bicubic | SSIM | LR to bicubic | LR file | of it boundary |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted((RESULTS / "quality").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        m = result["means"]
        lines.append(
            f"| {result['model']} | {result['folder']} | **{m['psnr_y']:.2f}** dB | {m['bicubic_psnr_y']:.2f} dB | "
            f"{m['ssim_y']:.4f} | {m['lr_psnr']:.2f} dB | {m['file_bytes']:,.0f} B | {m['chunk_bytes']:,.0f} B |"
        )
    return lines


def latency_table() -> list[str]:
    """Down and up of one picture per engine (`latency/*.json`)."""
    lines = ["| model | HR size | engine | down | up | cores |", "|---|---|---|---|---|---|"]
    for path in sorted((RESULTS / "latency").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        width, height = result["size"]
        for name, timed in result["engines"].items():
            down, up = timed["downscale"]["median_ms"], timed["upscale"]["median_ms"]
            lines.append(
                f"| {result['model']} | {width} x {height} | {name} | {down:.0f} ms | {up:.0f} ms | {result['cores']} |"
            )
    return lines


def bits_table() -> list[str]:
    """What a boundary map gains and what its bytes would buy elsewhere (`bits.json`)."""
    result = read("bits.json")
    of_run = {(run["set"], run["scale"], run["iterations"], run["bits"]): run for run in result["runs"]}
    lines = [
        "| scale | iterations | set | PSNR-Y, 0 bits | with a map | gain | bytes | worth | wins |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in sorted(result["verdicts"], key=lambda one: (one["scale"], one["iterations"], one["set"])):
        bare, run = (of_run[one["set"], one["scale"], one["iterations"], bits] for bits in (0, one["bits"]))
        cells = (
            f"x{one['scale']}",
            f"{one['iterations']:,}",
            one["set"],
            f"{bare['psnr_y']:.2f} dB",
            f"{run['psnr_y']:.2f} dB ({one['bits']} bit)",
            f"{one['gain_db']:+.2f} dB",
            f"{100 * (one['bytes_ratio'] - 1):+.1f} %",
            f"{one['bytes_worth_db']:.2f} dB",
            "yes" if one["wins_per_byte"] else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


TABLES = {"quality": quality_table, "latency": latency_table, "bits": bits_table}


def render(text: str) -> str:
    """The text with every `<!-- table: NAME -->` block filled from the results."""
    for name, make in TABLES.items():
        block = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        table = "\n".join(make())
        text = block.sub(lambda match, filled=table: f"{match[1]}{filled}\n{match[2]}", text)  # type: ignore[misc]
    return text


def main() -> int:
    """Rewrite README.md, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a table is out of date")
    args = parser.parse_args()
    old = README.read_text(encoding="utf-8")
    new = render(old)
    if args.check:
        return int(old != new)
    README.write_text(new, encoding="utf-8")
    sys.stdout.write("README.md is up to date.\n" if old == new else "README.md was rewritten.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
