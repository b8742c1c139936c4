"""`make ui` and `make ui-stop`: Prefect, MLflow, and a worker that does what is started from Prefect's pages.

All are started in the background, their addresses printed, and left up.
"""

import argparse
import json
import sys
from datetime import UTC, datetime

import psutil

from flows.command import run_main
from flows.processes import STOP_TIMEOUT_S, Note, end, keep, noted, process_of, spawn
from flows.servers import SERVERS, Server, elsewhere, fetched, found_up, one_at_a_time, page_of, start, stop, when_ready

WORKER, POOL = "worker", "study"


def start_all() -> None:
    for server in SERVERS.values():
        print(f"{server.title:8} {_address(server)}", flush=True)
    if not elsewhere(SERVERS["prefect"]):
        start_worker()
        print("worker   does what you start there: Deployments, study, Run")
    print("`make ui-stop` stops all; their logs are in .servers/")


def stop_all() -> None:
    if _end_worker():
        print("worker stopped")
    for server in SERVERS.values():
        if stop(server):
            print(f"{server.title} stopped")


def _address(server: Server) -> str:
    """Where the server's pages are: elsewhere if its variable says so, else on this machine, started if need be."""
    if pages := elsewhere(server):
        return f"{pages} ({server.elsewhere} is set)"
    with one_at_a_time():
        note = found_up(server) or start(server, server.port)
        keep(server.name, note.model_copy(update={"owner": None}))  # one of a study stays up after it
    return note.url


def start_worker() -> None:
    """Anew where one is up, unless it is at work: params.yaml may offer other choices since."""
    if _runs_of_worker():
        return
    end(WORKER)
    api, began = SERVERS["prefect"].api, datetime.now(UTC)
    address = {"PREFECT_API_URL": page_of("prefect") + api}
    process = spawn(WORKER, [sys.executable, "-m", "flows.deployments"], address)
    note = Note(**process_of(process.pid).model_dump())
    when_ready(WORKER, "the worker", process, note, lambda: _worker_is_up(address["PREFECT_API_URL"], began))


def _end_worker() -> bool:
    """First the runs that it does: each ends its stages and tells Prefect; the worker would kill them at once."""
    runs = _runs_of_worker()
    for run in runs:
        run.terminate()
    psutil.wait_procs(runs, STOP_TIMEOUT_S)
    return end(WORKER)


def _runs_of_worker() -> list[psutil.Process]:
    worker = (note := noted(WORKER)) and note.found()
    return worker.children() if worker else []


def _worker_is_up(api: str, since: datetime) -> bool:
    workers = json.loads(fetched(f"{api}/work_pools/{POOL}/workers/filter", b"{}") or b"[]")
    return any(datetime.fromisoformat(each["last_heartbeat_time"]) >= since for each in workers)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.ui", description="Start or stop what `make ui` starts.")
    parser.add_argument("command", choices=["start", "stop"])
    run_main({"start": start_all, "stop": stop_all}[parser.parse_args().command])


if __name__ == "__main__":
    main()
