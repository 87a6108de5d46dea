"""Counts the words of texts: one process runs many tasks."""

import json
import sys

answers = sys.stdout
sys.stdout = sys.stderr  # what libraries print goes to the log, not among the answers


def answer(task, **fields):
    print(json.dumps({"id": task["id"], **fields}), file=answers, flush=True)


# Load here, once, what is slow to load.
for line in sys.stdin:
    task = json.loads(line)
    text = task["params"].get("text")
    if not isinstance(text, str):
        answer(task, success=False, error="params.text is missing or not text", error_type="validation")
        continue
    answer(task, progress=50, message="read")
    answer(task, success=True, data={"words": len(text.split())})
