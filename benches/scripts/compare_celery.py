#!/usr/bin/env python3
"""Compares prismq with Celery, on this machine, in one run.

    cargo build --profile dist
    python3 benches/scripts/compare_celery.py [--tasks N] [--runs N] [--prismq FILE]

Needs redis-server (on Debian: apt-get install redis-server) and Python 3.9 or newer. Celery (5.6 or newer) is installed
from PyPI into target/bench-scripts, which also has all data; nothing else on this machine changes.

Both do the same: N tasks are created, then the worker is started, and each task is a call of a Python function that
returns its params. Both are measured in the same way: tasks per second, from the time at which the first tenth of the
results (warm-up) was recorded to the time of the last. The times are the workers' own: `date_done` of the results in
Redis, and `reported_at` in the results file. They alternate; the table shows each run and the medians.

- Celery: prefork, 2 processes, late acks, 64 tasks prefetched, results in Redis. Redis has its append-only file, which
  it syncs once a second (`appendfsync everysec`, its default), and makes no snapshots.
- prismq: `work --concurrency 16` with a persistent handler, against `serve`, which syncs each change before it answers.

Neither logs single tasks: Celery's default level is WARNING, and prismq gets `--quiet`. CPU time is that of the worker
with its processes, and of Redis or `serve`, without the creation of the tasks.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys

from scene import FOLDER, PERSISTENT, PRISMQ, Process, Scene, new_folder, task_params, wait_for

PYTHON = FOLDER / "venv" / "bin" / "python"


def main():
    options = arguments()
    if not shutil.which("redis-server"):
        sys.exit("redis-server is missing; on Debian: apt-get install redis-server")
    if not options.prismq.exists():
        sys.exit(f"{options.prismq} is missing; build it: cargo build --profile dist")
    if pathlib.Path(sys.prefix) != PYTHON.parents[1]:
        install_celery()
        os.execv(PYTHON, [PYTHON, *sys.argv])

    print_versions(options.prismq)
    print("| run | Celery, tasks/s | prismq, tasks/s | ratio | Celery, CPU ms per task | prismq, CPU ms per task |")
    print("|---|---|---|---|---|---|")
    runs = []
    with start_redis() as redis:
        for number in range(1, options.runs + 1):
            celery, prismq = measure_celery(redis, options.tasks), measure_prismq(options.prismq, options.tasks)
            runs.append((celery[0], prismq[0], prismq[0] / celery[0], celery[1], prismq[1]))
            print_row(number, runs[-1])
    print_row("median", [statistics.median(column) for column in zip(*runs)])


def arguments():
    parser = argparse.ArgumentParser(description="Compares prismq with Celery.")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prismq", type=pathlib.Path, default=PRISMQ)
    return parser.parse_args()


def install_celery():
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PYTHON.parents[1]], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "celery[redis]>=5.6"], check=True)


def print_versions(prismq):
    import celery

    redis = output_of("redis-server", "--version").split("v=")[1].split()[0]
    python, prismq = sys.version.split()[0], output_of(prismq, "--version")
    print(f"Celery {celery.__version__}, Redis {redis}, Python {python}, {prismq}; {os.cpu_count()} cores; ", end="")
    print(f"load before: {os.getloadavg()[0]:.2f}\n")


def print_row(name, values):
    celery, prismq, ratio, celery_cpu, prismq_cpu = values
    print(f"| {name} | {celery:.0f} | {prismq:.0f} | {ratio:.2f} | {celery_cpu:.3f} | {prismq_cpu:.3f} |", flush=True)


def start_redis():
    import redis

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = new_folder("redis")
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", folder]
    server = Process([*command, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""], folder)
    server.client = redis.Redis(port=port)
    os.environ["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
    wait_for(lambda: answers(server.client))
    return server


def answers(client):
    import redis

    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def measure_celery(redis, count):
    """Returns tasks per second, and milliseconds of CPU time per task."""
    from celery_tasks import app, echo

    redis.client.flushall()
    params = [task_params(n) for n in range(count)]
    with app.producer_or_acquire() as producer:
        ids = [echo.apply_async([each], producer=producer).id for each in params]
    before = redis.cpu_time()
    command = [PYTHON, "-m", "celery", "--app", "celery_tasks", "worker", "--pool", "prefork", "--concurrency", "2"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]  # what it does not need here
    here = pathlib.Path(__file__).parent
    with Process(command, new_folder("celery"), PYTHONPATH=here) as worker:
        wait_for(lambda: redis.client.llen("celery") + redis.client.hlen("unacked") == 0)
        cpu_time = worker.cpu_time() + redis.cpu_time() - before
    results = [json.loads(redis.client.get(f"celery-task-meta-{task}")) for task in ids]
    assert [result["result"] for result in results] == params, "Celery returned other results"
    return per_second([result["date_done"] for result in results]), cpu_time * 1000 / count


def measure_prismq(prismq, count):
    """Returns tasks per second, and milliseconds of CPU time per task."""
    with Scene(prismq, PERSISTENT, count) as scene:
        before = scene.server.cpu_time()
        with scene.worker(16) as worker:
            scene.wait_until_reported()
            cpu_time = worker.cpu_time() + scene.server.cpu_time() - before
        rows = scene.query("SELECT data, reported_at FROM results")
    results = sorted((json.loads(data) for data, _ in rows), key=lambda data: data["n"])
    assert results == [task_params(n) for n in range(count)], "prismq returned other results"
    return per_second([reported_at for _, reported_at in rows]), cpu_time * 1000 / count


def per_second(times):
    """Returns the rate of the results that were recorded after the first tenth."""
    times = sorted(datetime.datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() for time in times)
    warm_up = len(times) // 10
    return (len(times) - warm_up) / (times[-1] - times[warm_up - 1])


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
