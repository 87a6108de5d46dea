"""Handles tasks of the type example.hello: prints a greeting."""

import json
import sys

# {"id": 12, "type": "example.hello", "params": {"name": "Ada"}, "attempt": 1, ...}
task = json.load(sys.stdin)
name = task["params"]["name"].strip()

# Standard error is the log; if the task fails, its last lines are the error message.
print(f"greeting {name}", file=sys.stderr)
if not name:
    print("name is empty", file=sys.stderr)
    sys.exit(65)  # invalid params: not retried (75 would be: retry later)

# Standard output is the result.
print(json.dumps({"greeting": f"Hello, {name}!"}))
