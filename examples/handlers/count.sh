#!/usr/bin/env bash
# Counts the words of a text: a process for each task. Needs jq to read JSON.
set -euo pipefail

if ! text=$(jq --exit-status --raw-output '.params.text | strings'); then
    echo "params.text is missing or not text" >&2
    exit 65 # bad params: do not retry
fi
echo '{"progress":50,"message":"read"}' >&"$PRISMQ_PROGRESS_FD"
echo "{\"words\":$(wc -w <<<"$text")}"
