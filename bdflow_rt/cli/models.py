"""`bdflow models`: what can be used here."""

from __future__ import annotations

import argparse
import dataclasses

from bdflow_rt.cli.output import note, print_json, print_text, table
from bdflow_rt.zoo import DEFAULT_MODEL, list_models, list_problems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    models = list_models()
    for problem in list_problems():
        note(str(problem))
    if args.json:
        print_json([dataclasses.asdict(model) for model in models])
        return 0
    rows = [("model", "scale", "parameters", "MACs at 128x128", "bits", "weights", "commercial use")]
    rows += [
        (
            m.name, f"x{m.scale}", f"{m.parameters:,}", f"{m.macs_128x128:,}", str(m.bits),
            f"{m.status}, {m.licence}" if m.shipped else "none", m.commercial or "",
        )
        for m in models
    ]  # fmt: skip
    print_text(f"{table(rows)}\nThe default is {DEFAULT_MODEL}; a bare name means the newest version.")
    return 0
