# Handles tasks of the type example.hello: prints a greeting.

# {"id":12,"type":"example.hello","params":{"name":"Ada"},"attempt":1,...}
# If jq is installed, prefer: name=$(jq -r .params.name)
name=$(sed -n 's/.*"params":{"name":"\([^"\\]*\)".*/\1/p')

# Standard error is the log; if the task fails, its last lines are the error message.
echo "greeting $name" >&2
if [ -z "$name" ]; then
    echo "name is empty" >&2
    exit 65 # invalid params: not retried (75 would be: retry later)
fi

# Standard output is the result.
printf '{"greeting":"Hello, %s!"}\n' "$name"
