"""Which backend runs, and why not the others, from a report alone: no probing here."""

from __future__ import annotations

from typing import Any

from bdflow_rt.cli.diagnosis.compiled import MODULES
from bdflow_rt.cli.diagnosis.gpu import mend_cuda
from bdflow_rt.cli.diagnosis.probe import pip, pip_extra
from bdflow_rt.engines.cache_entry import was_built_for
from bdflow_rt.zoo import DEFAULT_MODEL

Report = dict[str, Any]

RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Of TensorRT-RTX 1.7; a version that is installed says itself which it knows."""
OLDEST_CAPABILITY = "7.5"
"""Of TensorRT 10.13 and later."""
DRIVER = "sudo ubuntu-drivers install  # in a container: start it with --gpus all"


def explain_backends(report: Report) -> dict[str, dict[str, Any]]:
    """For every backend: `state` (chosen, ready or missing), `why`, and `fix`, one command, or None.

    "chosen" is what "auto" takes; "ready" runs when it is asked for by name.
    """
    chosen = report["backend"].get("backend")
    listed = report["backend"].get("backends", {})
    explained: dict[str, dict[str, Any]] = {}
    for name, backend in listed.items():
        if name == chosen:
            explained[name] = _state("chosen", report["backend"]["reason"])
        elif not backend["available"]:
            explained[name] = _state("missing", "not installed", _install(report, name))
        elif fault := (report["packages"].get(name.replace("-", "_")) or {}).get("error"):
            explained[name] = _state(
                "missing", f"does not import: {fault}", f"{_install(report, name)} --force-reinstall"
            )
        elif name in MODULES:
            explained[name] = _flavour(report, name)
        elif fault := _fault_of_run(report, name):
            explained[name] = _state("missing", f"does not run the default model: {fault}", pip(f"install -U {name}"))
        else:
            explained[name] = _state("ready", _second_best(report, name))
    return explained


def supports(report: Report, flavour: str, capability: str) -> bool:
    """Whether a flavour runs on GPUs of a compute capability such as "8.9"."""
    if flavour == "tensorrt":
        return _numbers(capability) >= _numbers(OLDEST_CAPABILITY)
    found = report["flavours"].get(flavour, {})
    return capability in (found.get("compute_capabilities") or RTX_CAPABILITIES)


def _flavour(report: Report, name: str) -> dict[str, Any]:
    found = report["flavours"].get(name, {})
    if fault := found.get("error") or found.get("problem"):
        return _state("missing", fault, pip_extra(name, "--upgrade"))
    gpus, driver = report["gpu"]["nvidia_smi"].get("gpus") or [], report["gpu"]["libcuda"]
    if not driver.get("found"):
        why = driver.get("error") or driver.get("reason")
        return _state("missing", f"no NVIDIA driver: {why}", DRIVER)
    if driver["status"] != "ok" or not driver["devices"]:
        return _state("missing", f"the driver shows no GPU: {driver['status']}", mend_cuda(report["environment"]))
    fitting = [gpu for gpu in gpus if supports(report, name, gpu["compute_cap"])]
    if gpus and not fitting:
        other = next((other for other in MODULES if supports(report, other, gpus[0]["compute_cap"])), None)
        shown = f"{gpus[0]['name']} has compute capability {gpus[0]['compute_cap']}, which {name} does not support"
        return _state("missing", shown, _install(report, other) if other else None)
    if not report["packages"]["cupy"]["imported"]:
        return _state("missing", "CuPy is not installed or does not import", pip_extra("cuda"))
    build = f"bdflow build {DEFAULT_MODEL} --flavour {name} --profile 1080p"
    built = [one for one in report["caches"].get("engines", {}).get("built", []) if one["flavour"] == name]
    current = [one for one in built if one["flavour_version"] == found.get("version")]
    if not current:
        others = ", ".join(sorted({one["flavour_version"] for one in built}))
        return _state("missing", f"no engine is cached for it{f', only for version {others}' if others else ''}", build)
    here = [one for one in current if not gpus or any(_is_for(one, gpu) for gpu in gpus)]
    if not here:
        others = ", ".join(sorted({one["gpu"] for one in current}))
        return _state("missing", f"no engine is cached for {gpus[0]['name']}, only for {others}", build)
    names = ", ".join(sorted(f"{one['direction']} of {one['model']}" for one in here))
    return _state("ready", f"runs with --backend {name}, never by itself. Engines: {names}")


def _fault_of_run(report: Report, name: str) -> str | None:
    run = report["runs"].get(name) or {}
    fault: str | None = run.get("error") or run.get("problem")
    return fault


def _install(report: Report, name: str) -> str:
    return pip(report["backend"]["backends"][name]["install"].removeprefix("pip "))


def _is_for(engine: dict[str, str], gpu: dict[str, str]) -> bool:
    return was_built_for(
        engine["gpu"], engine["compute_capability"], gpu=gpu["name"], compute_capability=gpu["compute_cap"]
    )


def _second_best(report: Report, name: str) -> str:
    if name != "torch":
        return "runs with --backend openvino"
    if "+cpu" in (report["packages"]["torch"]["imported"] or ""):
        return "slower on a CPU than openvino; this build of PyTorch knows no GPU"
    return "slower on a CPU than openvino; --device cuda runs it on a GPU"


def _state(state: str, why: str, fix: str | None = None) -> dict[str, Any]:
    return {"state": state, "why": why, "fix": fix}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
