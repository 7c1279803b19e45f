"""`bdflow doctor`: what is installed here, what would run, and what is wrong."""

from __future__ import annotations

import argparse
from typing import Any

from bdflow_rt.cli.diagnosis.report import collect
from bdflow_rt.cli.output import print_json, print_text
from bdflow_rt.errors import BackendError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bdflow doctor`."""
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the report; 0 if pictures can be rescaled here, 7 if a backend or a sound model is missing."""
    report = collect()
    if args.json:
        print_json(report)
    else:
        print_text("\n".join(_lines(report)))
    return 0 if report["usable"] else BackendError.exit_code


def _lines(report: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for section, content in report.items():
        if section in ("schema", "problems", "usable", "packages"):
            continue
        lines += [section, *_indented(content)]
    lines += ["packages", *_package_lines(report["packages"])]
    lines.append("problems" if report["problems"] else "problems: none")
    for problem in report["problems"]:
        lines += [f"  - {problem['what']}", f"    fix: {problem['fix']}"]
    lines.append("bdflow can run here." if report["usable"] else "bdflow cannot run here.")
    return lines


def _indented(content: Any, depth: int = 1) -> list[str]:
    margin = "  " * depth
    if isinstance(content, dict):
        lines = []
        for key, value in content.items():
            if (isinstance(value, dict) and value) or _is_records(value):
                lines += [f"{margin}{key}:", *_indented(value, depth + 1)]
            else:
                lines.append(f"{margin}{key}: {_shown(value)}")
        return lines
    lines = []
    for item in content:
        first, *rest = _indented(item, depth + 1)
        lines += [f"{margin}- {first.lstrip()}", *rest]
    return lines


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and item for item in value)


def _shown(value: Any) -> str:
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(_shown, value)) if isinstance(value, list) else str(value)


def _package_lines(packages: dict[str, Any]) -> list[str]:
    if "error" in packages:
        return _indented(packages)
    lines = []
    for name, package in packages.items():
        installed = ", ".join(f"{dist} {version}" for dist, version in package["installed"].items())
        state = package["error"] or package["imported"] or ("MISSING" if package["required"] else "-")
        lines.append(f"  {name:<14} {state}" + (f"  ({installed})" if installed else ""))
    return lines
