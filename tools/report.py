"""Writes the measured tables of the pages from the JSON files in bench/results; nothing there is typed by hand.

python -m tools.report            # rewrite the tables
python -m tools.report --check    # name the pages that are out of date, and exit 1 where there are some
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from collections.abc import Callable

from tools import report_models, report_quality, report_rate, report_speed, report_temporal, report_training
from tools.measured import ROOT

Tables = dict[str, Callable[[], list[str]]]
DOCS = ROOT / "docs"
PAGES: dict[pathlib.Path, Tables] = {
    ROOT / "README.md": {
        "models": report_models.which_table,
    },
    DOCS / "start" / "models.md": {"models": report_models.which_table},
    DOCS / "models" / "index.md": {
        "models": report_models.which_table,
        "model-terms": report_models.terms,
    },
    DOCS / "reference" / "kernels.md": {
        "kernel-speed": report_speed.kernels_table,
        "kernel-mask": report_speed.mask_table,
        "kernel-spills": report_speed.spills,
        "kernel-resources": report_speed.resources_table,
    },
    DOCS / "results" / "quality.md": {
        "quality": report_quality.quality_table,
        "structure": report_quality.structure_table,
        "gap": report_quality.gap_table,
        "perception": report_quality.perception_table,
        "refined": report_quality.refined_table,
        "smooth": report_quality.smooth_table,
        "graphics": report_quality.graphics_table,
        "faces": report_quality.faces_table,
    },
    DOCS / "results" / "speed.md": {
        "latency": report_speed.latency_table,
        "command": report_speed.command_table,
        "refine-speed": report_speed.refine_table,
        "gpu-latency": report_speed.gpu_latency_table,
        "engines": report_speed.engines_table,
    },
    DOCS / "results" / "rate-distortion.md": {
        "rate-settings": report_rate.settings,
        "rate-verdict": report_rate.verdict,
        "rate": report_rate.rate_table,
        "both-pictures": report_rate.both_pictures_table,
    },
    DOCS / "results" / "video.md": {
        "temporal-verdict": report_temporal.verdict,
        "temporal-differences": report_temporal.differences_table,
        "temporal-flicker": report_temporal.flicker_table,
    },
    DOCS / "research" / "quality.md": {
        "macs": report_quality.macs_table,
        "base": report_training.base_settings,
        "ablation-boundary": report_training.search_table("boundary"),
        "ablation-z": report_training.search_table("z"),
    },
    DOCS / "research" / "training.md": {
        "base": report_training.base_settings,
        "search-optimiser": report_training.search_table("optimiser"),
        "search-structure": report_training.search_table("structure"),
        "search-loss": report_training.search_table("loss"),
        "robustness-settings": report_training.robustness_settings,
        "robustness": report_training.robustness_table,
    },
}
"""Page -> its tables by name; a table whose block a page does not have is left out."""


def render(text: str, tables: Tables) -> str:
    """The text with the `<!-- table: NAME -->` block of every table filled from the results."""
    for name, make in tables.items():
        start, end = re.escape(f"<!-- table: {name} -->\n"), re.escape("<!-- end -->")
        table = "\n".join(make())
        text = re.sub(f"({start}).*?({end})", lambda found, new=table: f"{found[1]}{new}\n{found[2]}", text, flags=re.S)  # type: ignore[misc]
    return text


def _title(page: pathlib.Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name


def main() -> int:
    """Rewrite the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a table is out of date")
    args = parser.parse_args()
    stale = 0
    for page, tables in PAGES.items():
        old = page.read_text(encoding="utf-8")
        new = render(old, tables)
        stale += old != new
        changed = "is out of date" if args.check else "was rewritten"
        sys.stdout.write(f"{_title(page)} {'is up to date' if old == new else changed}.\n")
        if not args.check:
            page.write_text(new, encoding="utf-8")
    return int(args.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
