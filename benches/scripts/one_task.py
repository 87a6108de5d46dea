#!/usr/bin/env python3
"""Counts what one task costs, step by step: system calls, thread switches and instructions.

    cargo build --profile dist
    python3 benches/scripts/one_task.py [--before FILE] [--prismq FILE] [--slots N ...]

Needs strace and valgrind. Each count is the difference between a run with many `echo` tasks and one with few, so the
start and the end of the programs do not count. Worker and TaskManager are counted in runs of their own. A program under
strace or valgrind is slow, so the other side has more time to collect batches than usual: with many slots, the counts
of calls are lower than without it. Thread switches are those that the kernel counts, without strace.
"""

import argparse
import pathlib
import re

from scene import ECHO, PRISMQ, Scene, wait_for

FEW, MANY = 200, 1200
SYSCALLS = ["pwrite64", "fdatasync", "fcntl", "futex", "sendto", "recvfrom", "writev"]
SIDES = ["worker", "server"]


def main():
    options = arguments()
    builds = [("before", options.before)] if options.before else []
    columns = [(name, build, slots) for slots in options.slots for name, build in [*builds, ("now", options.prismq)]]
    header = [f"{name}, {slots} slot{'s'[: slots > 1]}" for name, _, slots in columns]
    print("| for one task | " + " | ".join(header) + " |\n|" + "---|" * (len(header) + 1))
    for name, count in counters():
        values = [per_task(count, build, slots) for _, build, slots in columns]
        for row in values[0]:
            cells = " | ".join(f"{value[row]:,.0f}" if value[row] > 1000 else f"{value[row]:.2f}" for value in values)
            print(f"| {name}: {row} | {cells} |", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description="Counts what one task costs.")
    parser.add_argument("--before", type=pathlib.Path)
    parser.add_argument("--prismq", type=pathlib.Path, default=PRISMQ)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 32])
    return parser.parse_args()


def counters():
    for side in SIDES:
        yield side, lambda *run, side=side: count_syscalls(side, *run)
        yield side, lambda *run, side=side: count_switches(side, *run)
        yield side, lambda *run, side=side: count_instructions(side, *run)


def per_task(count, build, slots):
    few, many = count(build, slots, FEW), count(build, slots, MANY)
    return {row: (many[row] - few[row]) / (MANY - FEW) for row in many}


def count_syscalls(side, build, slots, tasks):
    def counts(folder):
        wait_for(lambda: "total" in (folder / "counts").read_text())  # strace writes it after the program has ended
        text = (folder / "counts").read_text()
        rows = (line.split() for line in text.splitlines())
        calls = {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit()}
        named = {name: calls.get(name, 0) for name in SYSCALLS}
        return {"all system calls": calls["total"], **named}

    return run(side, build, slots, tasks, ["strace", "-D", "-f", "-c", "-o", "counts"], counts)


def count_instructions(side, build, slots, tasks):
    def counts(folder):
        found = re.search(r"I\s+refs:\s+([\d,]+)", (folder / "log").read_text())
        return {"instructions": int(found[1].replace(",", ""))}

    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    return run(side, build, slots, tasks, valgrind, counts)


def count_switches(side, build, slots, tasks):
    with Scene(build, ECHO, tasks) as scene:
        pid = scene.server.process.pid
        before = switches(pid)
        with scene.worker(slots) as worker:
            scene.wait_until_reported()
            if side == "server":
                return {"thread switches": switches(pid) - before}
            return {"thread switches": switches(worker.process.pid)}


def switches(pid):
    """Returns how often threads of the process waited or were made to wait."""
    statuses = [path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(count) for status in statuses for count in re.findall(r"ctxt_switches:\s+(\d+)", status))


def run(side, build, slots, tasks, under, counts):
    """Runs one side under a program that counts. Returns what that has counted when it ends."""
    with Scene(build, ECHO, tasks, under if side == "server" else ()) as scene:
        with scene.worker(slots, under if side == "worker" else ()):
            scene.wait_until_reported()
    return counts(scene.folder if side == "server" else scene.worker_folder)


if __name__ == "__main__":
    main()
