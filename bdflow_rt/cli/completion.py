"""`bdflow completion SHELL`: a script that completes commands, options, their values, models and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from bdflow_rt.cli.output import print_text
from bdflow_rt.cli.parser import COMMANDS, build_parser
from bdflow_rt.errors import BackendUnavailableError

SHELLS = ("bash", "zsh", "fish")
_FILES = {"input", "output", "pictures", "config", "data", "validation", "cache"}
_FOLDERS = {"folder"}
"""Arguments that are names of files or folders."""
_MODELS = {"model", "what"}
_INSTALLED = {
    "bash": "~/.local/share/bash-completion/completions/bdflow",
    "zsh": "a folder of $fpath, as _bdflow",
    "fish": "~/.config/fish/completions/bdflow.fish",
}

_WHOLE_WORDS = """
# "@" ends a word for bash, which offers names of hosts behind it; here a model's version is behind it.
_bdflow() {
  local words=() word index last at=0
  for index in "${!COMP_WORDS[@]}"; do
    word=${COMP_WORDS[index]}
    last=$(( ${#words[@]} - 1 ))
    if (( index > 1 )) && [[ $word == @* || ${words[last]} == *@ ]]; then
      words[last]+=$word
    else
      words+=("$word")
    fi
    (( index == COMP_CWORD )) && at=$(( ${#words[@]} - 1 ))
  done
  local COMP_WORDS=("${words[@]}") COMP_CWORD=$at before=${words[at]%"$2"}
  _shtab_bdflow "$@"
  [[ $2 == @* ]] && compopt +o bashdefault +o filenames 2>/dev/null
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
"""
"""What completes in bash: the function that shtab writes, given whole words."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = "; ".join(f"{shell}: {place}" for shell, place in _INSTALLED.items())
    parser.add_argument("shell", choices=SHELLS, help=f"which the script is for. Save it as: {where}")


def run(args: argparse.Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise BackendUnavailableError("Scripts for shells are written by shtab: pip install 'shtab>=1.13'") from error
    parser = build_parser(COMMANDS)
    models = _model_names()
    for action in _actions(parser):
        _complete(action, models, shtab)
    script = shtab.complete(parser, args.shell, preamble=_preamble(models).get(args.shell, "")).rstrip("\n")
    if args.shell == "bash":
        script = script.replace("-F _shtab_bdflow bdflow", "-F _bdflow bdflow")
    print_text(script)
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments and options, those of commands too."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _complete(action: Any, models: list[str], shtab: Any) -> None:
    """Say what the values of an argument are, where they are no plain choice."""
    if action.choices or action.nargs == 0:
        return
    if action.dest in _MODELS:
        action.complete = {
            "bash": "_bdflow_models",
            "zsh": "_bdflow_models",
            "fish": f"(printf '%s\\n' {' '.join(models)}; __fish_complete_directories (commandline -ct))",
        }
    elif action.dest in _FOLDERS:
        action.complete = shtab.DIRECTORY
    elif action.dest in _FILES:
        action.complete = shtab.FILE
    elif action.dest == "backend":
        from bdflow_rt.engines.backends import BACKENDS

        action.choices = ["auto", *BACKENDS]


def _preamble(models: list[str]) -> dict[str, str]:
    """Functions of the shells that complete a model: by name, or the folder it is in."""
    names = " ".join(models)
    return {
        "bash": f'_bdflow_models() {{\n  compgen -W "{names}" -- "$1"\n  compgen -d -- "$1"\n}}\n{_WHOLE_WORDS}',
        "zsh": f"_bdflow_models() {{\n  compadd -- {names}\n  _files -/\n}}",
    }


def _model_names() -> list[str]:
    """Models that can be used here, with and without their version; names that a shell need not quote."""
    from bdflow_rt.zoo import list_models

    found = [model.name for model in list_models() if model.shipped]
    return sorted({*found, *(name.partition("@")[0] for name in found)})
