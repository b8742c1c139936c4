"""Serves a dataset's promoted model on this machine's loopback: `python -m flows.serve --dataset busi`.

The protocol is that of `mlflow models serve`; see `pipeline.serving.application` for what is added to it.
"""

import argparse
import logging

from flows.command import run_main
from flows.servers import HOST
from pipeline.params import load_params

log = logging.getLogger("flows")

PORT = 5001


def serve(dataset: str, alias: str, version: int | None, host: str, port: int) -> None:
    """Serve a registered version, the champion by default, until it is stopped."""
    from pipeline.serving.application import find_served, listen, load_served, run  # torch is slow to import

    found = find_served(dataset, alias, version)
    with listen(host, port) as listener:
        served = load_served(found)
        log.info("serving %s at http://%s:%d/invocations", served, host, port)
        run(served, listener)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=serve.__doc__)
    parser.add_argument("--dataset", required=True, choices=tuple(load_params().datasets))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--alias", default="champion")
    which.add_argument("--version", type=int)
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=PORT)
    run_main(lambda: serve(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
