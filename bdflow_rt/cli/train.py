"""`bdflow train`: train a model from a configuration and a folder of pictures."""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import re

from bdflow_rt.cli.output import note
from bdflow_rt.errors import ArgumentError
from bdflow_rt.options import MAX_THREADS

EXIT_SIGNALLED = 128
"""Plus the number of the signal, as shells report it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bdflow train`."""
    parser.add_argument("config", metavar="CONFIG", help="a TOML file, or the name of a shipped one such as psnr-x4")
    parser.add_argument(
        "--data", type=pathlib.Path, action="append", required=True, metavar="DIR_OR_TAR",
        help="training pictures, a folder or a .tar; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=pathlib.Path, metavar="RUNDIR", help="folder of the run (default: runs/CONFIG)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in RUNDIR")
    parser.add_argument("--minutes", type=float, metavar="M", help="train for M minutes, not for a number of steps")
    parser.add_argument(
        "--validation",
        type=pathlib.Path,
        metavar="DIR",
        help="pictures to measure the quality on, or a list of held-out originals (.json)",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the CPU to compute with")
    parser.add_argument(
        "--cache", type=pathlib.Path, metavar="DIR", help="folder of the decoded pictures (default: RUNDIR/../cache)"
    )
    parser.add_argument("--name", help="name of the model in RUNDIR/model (default: CONFIG)")
    parser.add_argument("--version", type=int, default=1, metavar="N", help="version of that model (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Train; 0 at the end of the schedule, 128 + the signal's number where one ended the run before."""
    if args.minutes is not None and not (math.isfinite(args.minutes) and args.minutes > 0):
        raise ArgumentError(f"--minutes is {args.minutes}; it must be above 0.")
    if args.threads is not None and not 1 <= args.threads <= MAX_THREADS:
        raise ArgumentError(f"--threads is {args.threads}; it must be 1 to {MAX_THREADS}.")
    # Read by OpenMP and by the libraries beneath torch when they are loaded.
    if args.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    from bdflow_rt.training.config import TrainConfig
    from bdflow_rt.training.runs import train_model

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    stem = pathlib.Path(args.config).stem
    output = args.output or pathlib.Path("runs") / stem
    signalled = train_model(
        TrainConfig.find(args.config),
        data=args.data,
        output=output,
        cache=args.cache or output.parent / "cache",
        name=args.name or re.sub(r"[^a-z0-9._-]", "-", stem.lower()),
        version=args.version,
        minutes=args.minutes,
        resume=args.resume,
        device=args.device,
        validation=args.validation,
        say=note,
    )
    if not signalled:
        return 0
    if os.environ.get("RANK", "0") == "0":
        note(f"stopped by signal {signalled}; go on with the same command and --resume")
    return EXIT_SIGNALLED + signalled
