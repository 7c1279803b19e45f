"""Quality of models on folders of pictures, through files and, if wanted, a lossy codec on the LR picture.

    python -m bdflow_rt.bench.quality --folder Set14 --model bdflow-x2-fast --through jpeg:75 --output DIR

`bdflow eval` prints the same for one model and folder.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.evaluate.codecs import parse_through
from bdflow_rt.evaluate.environment import result_name
from bdflow_rt.evaluate.pictures import open_pictures
from bdflow_rt.evaluate.quality import evaluate
from bdflow_rt.rescaler import Rescaler


def main() -> None:
    """Measure every model on every folder through every codec, and write a JSON file for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=pathlib.Path, action="append", required=True,
        help="of pictures, or a list of held-out originals (.json); repeat",
    )  # fmt: skip
    parser.add_argument("--model", action="append", required=True, help="name or folder of a model; repeat")
    parser.add_argument("--through", action="append", metavar="jpeg:Q", help="lossy codec on the LR picture; repeat")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder of the results")
    args = parser.parse_args()
    codecs = [None] if args.through is None else [parse_through(text) for text in args.through]
    for model in args.model:
        with Rescaler.from_pretrained(model) as rescaler:
            for place in args.folder:
                name = place.name.removesuffix(".json")
                with open_pictures(place) as pictures:
                    for codec in codecs:
                        result = {"folder": name, **evaluate(rescaler, pictures, codec=codec)}
                        suffix = f"-{result['through'].replace(':', '-')}" if codec else ""
                        write_result(args.output / f"{result_name(rescaler.card)}-{name}{suffix}.json", result)


if __name__ == "__main__":
    sys.exit(run_command("quality", main))
