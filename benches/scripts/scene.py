"""A TaskManager and a worker in a folder of their own, and what they cost."""

import atexit
import functools
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "target" / "bench-scripts"
PRISMQ = FOLDER.parent / "dist" / "prismq"
ECHO = 'handler = "echo"'
PERSISTENT = f"""mode = "persistent"
exec = ["{sys.executable}", "-u", "-c", '''
import sys, json
for line in sys.stdin:
    task = json.loads(line)
    print(json.dumps({{"id": task["id"], "success": True, "data": task["params"]}}), flush=True)
''']
"""


class Process:
    """A program that runs in a folder, and writes to `out` and `log` there, until the block is left."""

    def __init__(self, command, folder, **environment):
        env = {**os.environ, **{name: str(value) for name, value in environment.items()}}
        with open(folder / "out", "w") as out, open(folder / "log", "w") as log:
            command = [str(part) for part in command]
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def cpu_time(self):
        """Returns the CPU time of the process and of its children so far, in seconds."""
        return sum(cpu_time(pid) for pid in with_children(self.process.pid))


class Scene:
    """A TaskManager, and tasks that wait for a worker. `under` is a command that runs prismq, such as strace."""

    def __init__(self, prismq, handler, count, under=()):
        self.prismq, self.count = prismq, count
        self.folder, self.worker_folder = new_folder("server"), new_folder("worker")
        (self.worker_folder / "prismq.toml").write_text(
            f'[[task_type]]\nname = "echo"\nschema = {{ type = "object" }}\n{handler}\n'
        )
        lines = [json.dumps(task_params(n)) + "\n" for n in range(count)]
        (self.worker_folder / "tasks.jsonl").write_text("".join(lines))
        serve = [prismq, "serve", "--listen", "127.0.0.1:0", "--db", "tasks.db"]
        self.server = Process([*under, *serve], self.folder)

    def __enter__(self):
        self.url = wait_for(lambda: (self.folder / "out").read_text().strip())
        self.prismq_command("register-type", "--all")
        self.prismq_command("create-task", "echo", "--from", "tasks.jsonl")
        return self

    def __exit__(self, *_):
        self.server.__exit__()

    def prismq_command(self, *arguments):
        environment = {**os.environ, "TASKMANAGER_API_URL": self.url}
        command = [self.prismq, "--quiet", *arguments]
        subprocess.run(command, cwd=self.worker_folder, env=environment, stdout=subprocess.DEVNULL, check=True)

    def worker(self, slots, under=()):
        """Starts a worker that logs warnings only."""
        command = [*under, self.prismq, "work", "--quiet", "--concurrency", slots, "--results", "results.db"]
        return Process(command, self.worker_folder, TASKMANAGER_API_URL=self.url)

    def wait_until_reported(self):
        wait_for(lambda: self.reported() == self.count)

    def reported(self):
        sql = """SELECT (SELECT coalesce(max(rowid), 0) FROM results)
                 - (SELECT count(*) FROM results WHERE reported_at IS NULL)"""
        try:
            return self.query(sql)[0][0]
        except sqlite3.OperationalError:  # the worker has yet to make the file, or its table
            return 0

    def query(self, sql):
        database = sqlite3.connect(f"file:{self.worker_folder}/results.db?mode=ro", uri=True)
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()


def task_params(n):
    return {"n": n, "text": "three small words"}


def new_folder(name):
    folder = folder_of_this_run() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@functools.cache
def folder_of_this_run():
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=FOLDER))
    atexit.register(shutil.rmtree, folder)
    return folder


def wait_for(condition):
    """Returns the first value of the condition that is true."""
    deadline = time.monotonic() + 600
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


def with_children(pid):
    threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return [pid] + [each for child in children for each in with_children(child)]


def cpu_time(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
