"""`bdflow cache`: the engines that were built for this machine."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from typing import Any

from bdflow_rt.cli.output import note, print_json, print_text, table
from bdflow_rt.errors import ArgumentError, BackendError

_COLUMNS = ("key", "model", "direction", "kind", "flavour", "profile", "gpu", "MiB", "last used", "state")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in (
        ("ls", "list the engines, the one used last first"),
        ("rm", "remove engines"),
        ("verify", "compare every engine with the SHA-256 noted when it was built"),
    ):
        action = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        action.add_argument("--json", action="store_true", help="print JSON, a list with one item per engine")
        if name == "rm":
            action.add_argument("which", nargs="*", metavar="KEY|MODEL", help="beginnings of keys, or models")
            action.add_argument("--all", action="store_true", help="remove every engine")


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.engines.cache import EngineCache

    cache = EngineCache(log=note)
    if args.action == "rm":
        if args.all == bool(args.which):
            raise ArgumentError("Say which engines to remove: either keys or models, or --all.")
        entries = cache.remove_all() if args.all else cache.remove(args.which)
    else:
        entries = cache.list() if args.action == "ls" else cache.verify()
    records = [_record(entry) for entry in entries]
    if args.json:
        print_json(records)
    elif records:
        print_text(_table(records))
    damaged = [record for record in records if record["problem"]]
    if not args.json:
        removed = "removed " if args.action == "rm" else ""
        size = sum(record["size_bytes"] for record in records) / 2**20
        note(f"{removed}{len(records)} engine{'s' * (len(records) != 1)}, {size:.1f} MiB in {cache.folder}")
        for record in damaged:
            note(f"damaged: {record['key'][:12]}: {record['problem']}; it is built anew when it is next asked for")
    return BackendError.exit_code if damaged and args.action == "verify" else 0


def _record(entry: Any) -> dict[str, Any]:
    from bdflow_rt.engines.cache_entry import as_record

    known = {}
    if entry.sidecar is not None:
        used = datetime.fromtimestamp(entry.last_used_ns // 10**9, timezone.utc)
        known = {**as_record(entry.sidecar), "last_used": used.isoformat()}
    place = {"key": entry.digest, "path": str(entry.path), "size_bytes": entry.size_bytes, "problem": entry.problem}
    return {**place, **known}


def _table(records: list[dict[str, Any]]) -> str:
    rows = [_COLUMNS]
    for record in records:
        texts = (str(record.get(name, "?")) for name in ("model", "direction", "kind", "flavour", "profile", "gpu"))
        size, used = f"{record['size_bytes'] / 2**20:.1f}", str(record.get("last_used", "?"))[:16]
        rows.append((record["key"][:12], *texts, size, used, "damaged" if record["problem"] else "sound"))
    return table(rows)
