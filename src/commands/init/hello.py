"""Works a task of the type example.hello, which greets somebody."""

import json
import sys

# {"id": 12, "type": "example.hello", "params": {"name": "Ada"}, "attempt": 1, ...}
task = json.load(sys.stdin)
name = task["params"]["name"].strip()

# Standard error is the log. Where the task fails, its last lines are the reason.
print(f"greeting {name}", file=sys.stderr)
if not name:
    print("there is nobody to greet", file=sys.stderr)
    sys.exit(65)  # wrong params: not to be tried again; 75 would be: try again later

# Standard output is the result.
print(json.dumps({"greeting": f"Hello, {name}!"}))
