"""Trains many small variants on equal budgets and writes down what each is worth.

    python -m bdflow_rt.bench.search bench/search.toml --data photos/ --validation Set5 --validation Set14

The TOML file holds `[base]`, a training configuration, and `[[trial]]` tables: a name, a group, and `[trial.change]`
with what differs from the base. All trials see the same crops in the same order for the same number of iterations, so
their figures depend on nothing that the machine does meanwhile; only `step_ms` does. A trial that was measured with the
same configuration, data and sets is not trained again, and a broken one goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.errors import ArgumentError, DivergedError, TrainingConfigError, UnreadableFileError
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.training.config import TrainConfig, check_keys, read_toml
from bdflow_rt.training.data import PicturePool
from bdflow_rt.training.trainer import CHECKPOINT_FILE, Trainer
from bdflow_rt.training.validate import read_folder, validate

REFERENCE_SIZE = 128
"""Side of the HR picture that MACs are counted for, as in the paper's Table 2."""

Pictures = dict[str, list[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Trial:
    """One variant: where it stands in the tables, and everything it is trained with."""

    name: str
    group: str
    config: TrainConfig


def read_trials(path: pathlib.Path) -> list[Trial]:
    """The trials of a TOML file, in its order.

    Raises:
        TrainingConfigError: it cannot be read, a key is missing or unknown, or two trials share a name.
    """
    try:
        data = read_toml(path)
        check_keys(str(path), data, {"base", "trial"})
        trials = [_trial(path, one, data["base"]) for one in data["trial"]]
    except (TypeError, AttributeError) as error:
        raise TrainingConfigError(f"{path} cannot be read as a list of trials: {error}") from None
    except KeyError as error:
        raise TrainingConfigError(
            f"{path} lacks {error}; it needs [base], and name and group in each [[trial]]."
        ) from None
    names = [trial.name for trial in trials]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TrainingConfigError(f"{path} has two trials called {min(twice)!r}; each needs a name of its own.")
    return trials


def _trial(path: pathlib.Path, table: dict[str, Any], base: dict[str, Any]) -> Trial:
    # A key that is misspelt would otherwise make a second base, and a wrong row of the tables.
    check_keys(str(path), table, {"name", "group", "change"})
    name, group = table["name"], table["group"]
    # The name becomes that of a folder.
    if not (isinstance(name, str) and re.fullmatch(r"[\w.-]*\w", name) and isinstance(group, str)):
        raise TrainingConfigError(
            f"{path} has a trial called {name!r} in the group {group!r}; both must be text, and the name letters, "
            "digits and any of . _ - alone."
        )
    return Trial(name, group, TrainConfig.from_dict(_merged(base, table.get("change", {}))))


def run_folder(trial: Trial, runs: pathlib.Path) -> pathlib.Path:
    """A folder of its own for every configuration: what was trained with another one must not be gone on with."""
    digest = hashlib.sha256(json.dumps(trial.config.to_dict(), sort_keys=True).encode()).hexdigest()
    return runs / f"{trial.name}-{digest[:8]}"


def train_trial(trial: Trial, pool: PicturePool, pictures: Pictures, *, runs: pathlib.Path) -> dict[str, Any]:
    """Train one variant to its end and measure its averaged weights.

    Returns:
        Plain JSON types: the configuration, its size, milliseconds of CPU time per step (None where the run had ended
        before), how often it diverged and went back, and per set the figures of `validate`; with Z = 0, and where it
        was trained with a temperature, with Z of that temperature as well. No sets where it diverged for good.
    """
    folder = run_folder(trial, runs)
    resume = (folder / CHECKPOINT_FILE).exists()
    run = Trainer(trial.config, pool, folder, resume=resume, say=_say)
    if any(run.data.get(key) != value for key, value in pool.describe().items()) or "before" in run.data:
        raise ArgumentError(
            f"{folder} was trained on other pictures, {run.data}. Choose another --runs, or remove that folder."
        )
    first, before = run.step, time.process_time()
    try:
        run.train()
    except DivergedError as error:
        _say(str(error))
        pictures = {}
    spent = time.process_time() - before
    model = trial.config.model
    temperatures = sorted({0.0, trial.config.temperature})
    return {
        "name": trial.name,
        "group": trial.group,
        "config": trial.config.to_dict(),
        "data": run.data,
        "parameters": model.parameters(),
        "macs_128x128": model.macs(REFERENCE_SIZE, REFERENCE_SIZE),
        "iterations": run.step,
        "setbacks": run.setbacks,
        "step_ms": 1000 * spent / (run.step - first) if run.step > first else None,
        "sets": {
            f"{name}{f', Z at {temperature:g}' if temperature else ''}": _figures(run, of_set, temperature=temperature)
            for name, of_set in pictures.items()
            for temperature in temperatures
        },
    }


def _figures(run: Trainer, pictures: list[NDArray[np.uint8]], **options: Any) -> dict[str, float]:
    measured = validate(run.averaged, pictures, step=run.step, **options)
    return {"psnr_y": round(measured.psnr_y, 4), "lr_psnr": round(measured.lr_psnr, 4)}


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The base with a change: tables are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in change.items():
        inner = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if inner else value
    return merged


def _same(entry: dict[str, Any], trial: Trial, pool: PicturePool, pictures: Pictures) -> bool:
    """Whether a trial was trained so and measured on these sets; one that diverged was measured on none."""
    measured = {name.partition(", Z at ")[0] for name in entry["sets"]}
    return bool(
        entry["config"] == json.loads(json.dumps(trial.config.to_dict()))
        and entry["data"] == pool.describe()
        and (not measured or measured >= set(pictures))
    )


def _read_done(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The trials of an earlier result by name; none where there is no such file."""
    if not path.exists():
        return {}
    try:
        return {entry["name"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))["trials"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UnreadableFileError(
            f"'{path}' is no result of a search ({type(error).__name__}: {error}); choose another --output."
        ) from None


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    """Train what is missing; the result is written anew after every trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=pathlib.Path, help="TOML file")
    parser.add_argument("--data", type=pathlib.Path, action="append", required=True, help="folder or .tar; repeat")
    parser.add_argument("--validation", type=pathlib.Path, action="append", required=True, help="folder; repeat")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/search"))
    parser.add_argument("--output", type=pathlib.Path, help="default: NAME.json of NAME.toml")
    args = parser.parse_args()
    trials, output = read_trials(args.trials), args.output or pathlib.Path(f"{args.trials.stem}.json")
    pool = PicturePool(args.data, cache=args.runs.parent / "cache")
    pictures = {folder.name: read_folder(folder) for folder in args.validation}
    if len(pictures) < len(args.validation):
        raise ArgumentError("Two folders of --validation have the same name, under which their figures are kept.")
    done = _read_done(output)
    for trial in trials:
        if trial.name in done and _same(done[trial.name], trial, pool, pictures):
            continue
        entry = train_trial(trial, pool, pictures, runs=args.runs)
        done[trial.name] = {**environment(), **entry}
        _say(f"{trial.name}: {entry['sets']}")
        kept = [done[one.name] for one in trials if one.name in done]
        write_result(output, {"trials": kept})


if __name__ == "__main__":
    sys.exit(run_command("search", main))
