"""What a whole study costs: wall time, peak memory, and the share that is not work on images and models.

Run by hand, in a checkout whose data/ is empty, on an otherwise idle machine:
    python -m benchmarks.study
It runs `flows.study`, samples the memory of all its processes, and reads from Prefect's database how long the working
tasks took. The rest of the workers' time is orchestration, imports, tracking and waiting.
"""

import argparse
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from flows.room import room_here
from pipeline.params import load_params

WORK = (
    "fetch",
    "index, audit, split, resize",
    "fine-tune",
    "test",
    "attributions",
    "overlays",
    "scores",
    "trust checks",
)
SAMPLE_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=room_here(load_params(), None).workers)
    workers = parser.parse_args().workers
    began, since = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    peak = peak_memory([sys.executable, "-m", "flows.study", "--workers", str(workers)])
    wall = time.monotonic() - began
    seconds = task_seconds(Path(".prefect/prefect.db"), since)
    busy = sum(seconds.get(name, 0) for name in WORK)
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:30} {value:8.1f} s")
    print(f"wall {wall:.0f} s, {workers} workers, peak memory {peak / 2**30:.2f} GiB (resident, summed)")
    idle_share = 1 - busy / (workers * wall)
    print(f"work {busy:.0f} s of the {workers * wall:.0f} s that the workers had: everything else is {idle_share:.0%}")


def peak_memory(command: list[str]) -> int:
    """Bytes resident at the worst moment, summed over all processes of the command; shared pages count each time."""
    process, peak = psutil.Popen(command), 0
    while process.poll() is None:
        peak = max(peak, resident(process))
        time.sleep(SAMPLE_S)
    if process.returncode:
        sys.exit(process.returncode)
    return peak


def resident(process: psutil.Process) -> int:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def task_seconds(database: Path, since: str) -> dict[str, float]:
    """Task name -> summed run time of the tasks that started after `since` (UTC)."""
    query = (
        "select name, sum((julianday(end_time) - julianday(start_time)) * 86400) from task_run "
        "where start_time > ? group by name"
    )
    with sqlite3.connect(database) as history:
        return dict(history.execute(query, (since,)).fetchall())


if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "flows.ui", "stop"], check=True)
    main()
