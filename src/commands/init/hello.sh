# Works a task of the type example.hello, which greets somebody.

# {"id":12,"type":"example.hello","params":{"name":"Ada"},"attempt":1,...}
# Where there is jq, this is better: name=$(jq -r .params.name)
name=$(sed -n 's/.*"params":{"name":"\([^"\\]*\)".*/\1/p')

# Standard error is the log. Where the task fails, its last lines are the reason.
echo "greeting $name" >&2
if [ -z "$name" ]; then
    echo "there is nobody to greet" >&2
    exit 65 # wrong params: not to be tried again; 75 would be: try again later
fi

# Standard output is the result.
printf '{"greeting":"Hello, %s!"}\n' "$name"
