"""Counts the words of a text: a process for each task."""

import json
import os
import sys

task = json.load(sys.stdin)
text = task["params"].get("text")
if not isinstance(text, str):
    print("params.text is missing or not text", file=sys.stderr)
    sys.exit(65)  # bad params: do not retry

with open(int(os.environ["PRISMQ_PROGRESS_FD"]), "w") as progress:
    print('{"progress":50,"message":"read"}', file=progress)
print(json.dumps({"words": len(text.split())}))
