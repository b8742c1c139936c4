"""The command line of a stage: an option for each argument of its function."""

import argparse
import inspect
from contextlib import nullcontext
from typing import Any, get_args

from flows.command import run_main
from flows.durations import slug, timed
from flows.locks import alone, ended_with_starter, is_first
from flows.runner import Flow
from pipeline.params import load_params


def main(flow: Flow) -> None:
    """Command line of a stage: an option per argument of its function, a flag if bool, required if without default."""
    run_main(lambda: _run_stage(flow, vars(_parser(flow).parse_args())))


def _run_stage(flow: Flow, arguments: dict[str, Any]) -> None:
    names = "-".join(str(value) for value in arguments.values() if not isinstance(value, bool | None))
    stage, is_whole = f"{flow.name} {names}".rstrip(), is_first() and True not in arguments.values()  # a flag: a part
    with ended_with_starter(), alone(slug(stage)), timed(stage) if is_whole else nullcontext():
        flow(**arguments)


def _parser(flow: Flow) -> argparse.ArgumentParser:
    params = load_params()
    known = {"dataset": tuple(params.datasets), "model": tuple(params.models)}
    parser = argparse.ArgumentParser(prog=f"python -m flows.{flow.name}", description=inspect.getdoc(flow.function))
    for name, argument in inspect.signature(flow.function).parameters.items():
        if argument.annotation is bool:
            parser.add_argument(f"--{name}", action="store_true")
            continue
        required = argument.default is argument.empty
        parser.add_argument(
            f"--{name}",
            required=required,
            default=None if required else argument.default,
            type=int if int in (argument.annotation, *get_args(argument.annotation)) else str,
            choices=known.get(name),
        )
    return parser
