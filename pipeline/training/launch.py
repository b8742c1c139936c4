"""Starts the processes that share one training on this machine, by `accelerate launch` without the command line."""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any

import psutil

LOOPBACK = "127.0.0.1"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def launch(command: Sequence[str], processes: int, on_gpus: bool) -> list[int]:
    """Runs so many processes of a Python module with its arguments; all are ended as soon as one fails.

    Args:
        on_gpus: each takes a GPU of its own.

    Returns:
        The exit codes of those that failed; minus the signal where one ended it.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Accelerate's `--multi_gpu` means several processes without MPI, whatever they compute on.
    options = ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    options += ["--num_processes", str(processes), "--main_process_ip", LOOPBACK, "--main_process_port", "0"]
    os.environ.update(_environment(on_gpus))
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    logging.disable(logging.CRITICAL)  # who failed is told by the caller, in a line
    try:
        launch_command(launch_command_parser().parse_args([*options, "--module", *command]))
    except ChildFailedError as error:
        return [failure.exitcode for failure in error.failures.values()]
    except SignalException as error:  # torch took the signal, ended the others, and hands it on
        _restore(handlers)
        signal.raise_signal(error.sigval)
    finally:
        _restore(handlers)
        logging.disable(logging.NOTSET)
    return []


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _environment(on_gpus: bool) -> dict[str, str]:
    nearby = next(name for name, all_of in psutil.net_if_addrs().items() if LOOPBACK in (one.address for one in all_of))
    return {
        "ACCELERATE_USE_CPU": str(not on_gpus).lower(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # of libraries; torch's own follow study.threads
        "GLOO_SOCKET_IFNAME": nearby,
        "NCCL_SOCKET_IFNAME": nearby,
    }
