"""The command line of a stage: an option for each argument of its function."""

import argparse
import inspect
from contextlib import nullcontext
from typing import Any, get_args

from flows.command import run_main
from flows.durations import timed
from flows.runner import Flow
from pipeline.params import load_params


def main(flow: Flow) -> None:
    """Command line of a stage: an option per argument of its function, a flag if bool, required if without default."""
    run_main(lambda: _run_stage(flow, vars(_parser(flow).parse_args())))


def _run_stage(flow: Flow, arguments: dict[str, Any]) -> None:
    told = {name: value for name, value in arguments.items() if value not in (None, False)}
    names = "-".join(name if value is True else str(value) for name, value in told.items())
    with nullcontext() if True in told.values() else timed(f"{flow.name} {names}".rstrip()):  # a flag: not the stage
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
