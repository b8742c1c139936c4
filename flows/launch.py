"""The command line of a stage that several processes may share: starts them, and tells in one line how they ended."""

import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import options
from flows.command import run_main
from flows.locks import is_first
from flows.room import visible_gpus
from flows.runner import Flow
from pipeline.errors import StudyError
from pipeline.params import Params, load_params

log = logging.getLogger("flows")

ENDING = "STUDY_ENDING"  # names the file in which the first process that fails says why
KILLED = (-4, -6, -7, -9, -11)  # exit codes of a process that could say nothing any more


def main(flow: Flow, module: str) -> None:
    """As `options.main`; where `finetune.processes` asks for several, each runs `module` with this command's arguments.

    Those that `accelerate launch` started by the user's hand are as many as it says.
    """
    if not is_first():
        logging.disable(logging.INFO)  # the first one speaks for all
    if ENDING in os.environ:
        options.main(Launched(**vars(flow)))
    elif "RANK" in os.environ or _processes() == 1:
        options.main(flow)
    else:
        run_main(lambda: _share([module, *sys.argv[1:]], load_params()))


@dataclass(frozen=True)
class Launched(Flow):
    """In one of the processes: why it failed is left to be told by the command that started them."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except BaseException as error:
            _note(error, Path(os.environ[ENDING]))
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the end of this process)
            raise


def _processes() -> int:
    try:
        return load_params().finetune.processes
    except StudyError:
        return 1  # the stage itself says what is wrong


def _share(command: list[str], params: Params) -> None:
    from pipeline.training.launch import launch  # imports torch

    _refuse_cluster(params)
    on_gpus, number = _takes_gpus(params), params.finetune.processes
    log.info("%d processes share this fine-tuning", number)
    with _ending() as ending:
        if failed := launch(command, number, on_gpus):
            _tell(ending, failed, number)


def _refuse_cluster(params: Params) -> None:
    """
    Raises:
        StudyError: the steps are sent elsewhere.
    """
    if params.runner.kind != "local":
        raise StudyError(
            f"finetune.processes: {params.finetune.processes} processes share a fine-tuning on this machine, and "
            f"runner.kind sends it to {params.runner.kind}; set one of them to 1 or local"
        )


def _takes_gpus(params: Params) -> bool:
    """
    Raises:
        StudyError: there are GPUs, and fewer than processes.
    """
    gpus, number = visible_gpus(), params.finetune.processes
    if params.study.device == "cpu" or not gpus:
        return False
    if len(gpus) < number:
        raise StudyError(
            f"finetune.processes: {number}, but {len(gpus)} GPUs are visible and each process needs its own; lower it"
        )
    return True


@contextmanager
def _ending() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ending.json"
        os.environ[ENDING] = str(path)
        try:
            yield path
        finally:
            del os.environ[ENDING]


def _note(error: BaseException, path: Path) -> None:
    """Only the first counts: the others fail because they miss it."""
    if isinstance(error, KeyboardInterrupt):
        return
    told = {"error": str(error), "exit_code": getattr(error, "exit_code", None), "trace": traceback.format_exc()}
    with suppress(OSError), path.open("x", encoding="utf-8") as file:
        json.dump(told, file)


def _tell(ending: Path, failed: list[int], number: int) -> None:
    """
    Raises:
        StudyError: what the user can do something about.
        SystemExit: everything else, after its traceback.
    """
    told = json.loads(ending.read_text(encoding="utf-8")) if ending.exists() else {}
    if told.get("exit_code"):
        error = StudyError(told["error"])
        error.exit_code = told["exit_code"]
        raise error
    if not told or set(failed) & set(KILLED):
        raise StudyError(
            f"one of {number} processes was ended from outside (exit codes {failed}), most likely for want of memory; "
            "run again to go on from the last epoch"
        )
    print(told["trace"], file=sys.stderr)
    sys.exit(1)
