# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_prismq_global_optspecs
    string join \n config= api-url= worker-id= results= ideas= log-format= log-level= v/verbose q/quiet debug json h/help V/version
end

function __fish_prismq_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_prismq_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_prismq_using_subcommand
    set -l cmd (__fish_prismq_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c prismq -n "__fish_prismq_needs_command" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_needs_command" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_needs_command" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_needs_command" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_needs_command" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_needs_command" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_needs_command" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_needs_command" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_needs_command" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_needs_command" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_needs_command" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_needs_command" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_needs_command" -s V -l version -d 'Print version'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "init" -d 'Write a first prismq.toml, .env and handler into this folder; nothing is overwritten'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "register-type" -d 'Register or update a task type'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "create-task" -d 'Create a task and print its id, or many from a file'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "claim" -d 'Wait for a task, claim it and print it'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "complete" -d 'Report a claimed task as completed'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "fail" -d 'Report a claimed task as failed'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "progress" -d 'Report how far a claimed task is'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "work" -d 'Work tasks until told to stop'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "health" -d 'Check the TaskManager, the key, the types, the handlers and the results file'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "stats" -d 'Show what this machine\'s workers have done: counts, success rate, durations'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "list-types" -d 'List the task types that the TaskManager knows'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "list-tasks" -d 'List the tasks that the TaskManager holds, newest first'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "show-task" -d 'Show a task as the TaskManager holds it'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "explain" -d 'Tell the story of a task: who claimed it when, how each attempt ended, how it was reported'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "replay" -d 'Run a task\'s handler once more, here, without telling anybody'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "results" -d 'Show or export what the results file holds'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "serve" -d 'Run the embedded TaskManager by itself'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "demo" -d 'See it all at work on this machine, without any settings'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "config" -d 'Show every setting in force, and where it came from'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "completions" -d 'Print the completions for a shell'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "man" -d 'Print the man page, or write one for each command'
complete -c prismq -n "__fish_prismq_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c prismq -n "__fish_prismq_using_subcommand init" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand init" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand init" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand init" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand init" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand init" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand init" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand init" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand init" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand init" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand init" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand init" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l version -d 'Its version [default: the configuration\'s, else 1.0.0]' -r
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l schema -d 'The JSON Schema of its params: a file, - for standard input, or the JSON itself' -r
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l all -d 'Every type in the configuration'
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand register-type" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l params -d 'Its params as one JSON object: the JSON itself, @FILE, or - for standard input' -r
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l priority -d 'Higher goes first, where the worker\'s strategy is priority' -r
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l timeout -d 'Wait no longer than this' -r
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l from -d 'Create a task for each line, a JSON object, of this file or of - (standard input)' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l concurrency -d 'How many requests to send at once' -r
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l wait -d 'Wait for its end and print its result; exit code 1 if it failed'
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand create-task" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l strategy -d 'Which of the waiting tasks comes first [default: fifo]' -r -f -a "fifo\t''
lifo\t''
priority\t''"
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l timeout -d 'Wait for a task no longer than this' -r
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l once -d 'Try once; exit code 3 where there is no task'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l run -d 'Work the task here with its handler, and report what comes of it'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l no-report -d 'Leave the task claimed after it was run'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand claim" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l result -d 'What came of it: the JSON itself, @FILE, or - for standard input' -r
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand complete" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand complete" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand complete" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand complete" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l error -d 'Why it failed' -r
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand fail" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand fail" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand fail" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand fail" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l message -d 'What it is doing' -r
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand progress" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand progress" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand progress" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand progress" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand work" -l handle -d 'Work this type with this command, which sh runs' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l exit-after-idle -d 'End after so long without a task' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l poll-interval -d 'The time between two polls while there is nothing to do [default: 10s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l max-backoff -d 'The longest time between two polls, after many that found nothing [default: 60s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l max-tasks -l max-runs -d 'End after so many tasks; 0 is never [default: 0]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l strategy -d 'Which of the waiting tasks comes first [default: fifo]' -r -f -a "fifo\t''
lifo\t''
priority\t''"
complete -c prismq -n "__fish_prismq_using_subcommand work" -l concurrency -d 'How many tasks to work at once [default: 1]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l claim-timeout -d 'How long the TaskManager lets a worker keep a task [default: 300s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l max-attempts -d 'Fail a task unrun that was handed out more often than this [default: 5]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l grace-period -d 'How long handlers may go on after the first signal [default: 30s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l keep-results -d 'How long results stay in the results file once they are reported; 0 is for ever [default: 0]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l status-addr -d 'Show health, metrics and a page on this address, such as 127.0.0.1:9090' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand work" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand work" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand work" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand work" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand work" -l drain -d 'End when nothing is left to do'
complete -c prismq -n "__fish_prismq_using_subcommand work" -l register -d 'Register the configured types first'
complete -c prismq -n "__fish_prismq_using_subcommand work" -l embedded -d 'Start the embedded TaskManager in the same process'
complete -c prismq -n "__fish_prismq_using_subcommand work" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand work" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand work" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand work" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand work" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand health" -l timeout -d 'Wait for the TaskManager, and for what --external asks, no longer than this' -r
complete -c prismq -n "__fish_prismq_using_subcommand health" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand health" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand health" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand health" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand health" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand health" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand health" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand health" -l external -d 'Ask other services as well: YouTube, whether it accepts the key (one unit of the quota)'
complete -c prismq -n "__fish_prismq_using_subcommand health" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand health" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand health" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand health" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand health" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l since -d 'Only what ended in this time up to now' -r
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l by -d 'One row for each' -r -f -a "type\t''
worker\t''
hour\t''
day\t''"
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand stats" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand stats" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand stats" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand stats" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand list-types" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l status -d 'Only those of this status' -r -f -a "pending\t''
claimed\t''
completed\t''
failed\t''"
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l type -d 'Only those whose type is like this; % stands for any text' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l limit -d 'At most so many' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand list-tasks" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand show-task" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand explain" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand explain" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand explain" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand explain" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand replay" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand replay" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand replay" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand replay" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand results" -l type -d 'Only those of this type' -r
complete -c prismq -n "__fish_prismq_using_subcommand results" -l since -d 'Only what ended in this time up to now' -r
complete -c prismq -n "__fish_prismq_using_subcommand results" -l format -d 'How to print them [default: table; jsonl with --json]' -r -f -a "table\t''
jsonl\t''
csv\t''"
complete -c prismq -n "__fish_prismq_using_subcommand results" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand results" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand results" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand results" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand results" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand results" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand results" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand results" -l failed -d 'Only failures'
complete -c prismq -n "__fish_prismq_using_subcommand results" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand results" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand results" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand results" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand results" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l listen -d 'The address to listen on; one that others can reach needs an API key' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l db -d 'The file that holds its tasks' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l claim-timeout -d 'How long a worker may keep a task' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l max-attempts -d 'How often a task is handed out before a failure is its end' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l keep -d 'How long to keep tasks that have completed or failed [default: for ever]' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l fault -d 'Fail on purpose, to try clients: drop, reset, deadlock, html, ratelimit, latency=RATE:DURATION, published, seed=N' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand serve" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand serve" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand serve" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand serve" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand demo" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand demo" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand demo" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand demo" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand config" -l poll-interval -d 'The time between two polls while there is nothing to do [default: 10s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l max-backoff -d 'The longest time between two polls, after many that found nothing [default: 60s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l max-tasks -l max-runs -d 'End after so many tasks; 0 is never [default: 0]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l strategy -d 'Which of the waiting tasks comes first [default: fifo]' -r -f -a "fifo\t''
lifo\t''
priority\t''"
complete -c prismq -n "__fish_prismq_using_subcommand config" -l concurrency -d 'How many tasks to work at once [default: 1]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l claim-timeout -d 'How long the TaskManager lets a worker keep a task [default: 300s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l max-attempts -d 'Fail a task unrun that was handed out more often than this [default: 5]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l grace-period -d 'How long handlers may go on after the first signal [default: 30s]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l keep-results -d 'How long results stay in the results file once they are reported; 0 is for ever [default: 0]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l status-addr -d 'Show health, metrics and a page on this address, such as 127.0.0.1:9090' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand config" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand config" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand config" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand config" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand config" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand config" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand config" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand config" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand config" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand completions" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand completions" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand completions" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand completions" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand man" -l dir -d 'Write the page of every command into this folder instead' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand man" -l config -d 'The configuration file [default: ./prismq.toml, else the one in your configuration folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand man" -l api-url -d 'Where the TaskManager is; it ends in /api [default: port 8000 of this machine]' -r
complete -c prismq -n "__fish_prismq_using_subcommand man" -l worker-id -d 'Who this worker is [default: the host\'s name and eight hex digits]' -r
complete -c prismq -n "__fish_prismq_using_subcommand man" -l results -d 'The results file [default: results.db in your data folder]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand man" -l ideas -d 'The database of ideas [default: the results file]' -r -F
complete -c prismq -n "__fish_prismq_using_subcommand man" -l log-format -d 'How a line of the log looks [default: text]' -r -f -a "text\t''
json\t''"
complete -c prismq -n "__fish_prismq_using_subcommand man" -l log-level -d 'What is logged: a level, and MODULE=LEVEL by commas [default: info]' -r
complete -c prismq -n "__fish_prismq_using_subcommand man" -s v -l verbose -d 'Log more: -v debug, -vv trace'
complete -c prismq -n "__fish_prismq_using_subcommand man" -s q -l quiet -d 'Log less: -q warnings, -qq errors'
complete -c prismq -n "__fish_prismq_using_subcommand man" -l debug -d 'The same as -v'
complete -c prismq -n "__fish_prismq_using_subcommand man" -l json -d 'Print JSON, and errors as JSON'
complete -c prismq -n "__fish_prismq_using_subcommand man" -s h -l help -d 'Print help'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "init" -d 'Write a first prismq.toml, .env and handler into this folder; nothing is overwritten'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "register-type" -d 'Register or update a task type'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "create-task" -d 'Create a task and print its id, or many from a file'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "claim" -d 'Wait for a task, claim it and print it'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "complete" -d 'Report a claimed task as completed'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "fail" -d 'Report a claimed task as failed'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "progress" -d 'Report how far a claimed task is'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "work" -d 'Work tasks until told to stop'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "health" -d 'Check the TaskManager, the key, the types, the handlers and the results file'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "stats" -d 'Show what this machine\'s workers have done: counts, success rate, durations'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "list-types" -d 'List the task types that the TaskManager knows'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "list-tasks" -d 'List the tasks that the TaskManager holds, newest first'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "show-task" -d 'Show a task as the TaskManager holds it'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "explain" -d 'Tell the story of a task: who claimed it when, how each attempt ended, how it was reported'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "replay" -d 'Run a task\'s handler once more, here, without telling anybody'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "results" -d 'Show or export what the results file holds'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "serve" -d 'Run the embedded TaskManager by itself'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "demo" -d 'See it all at work on this machine, without any settings'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "config" -d 'Show every setting in force, and where it came from'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "completions" -d 'Print the completions for a shell'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "man" -d 'Print the man page, or write one for each command'
complete -c prismq -n "__fish_prismq_using_subcommand help; and not __fish_seen_subcommand_from init register-type create-task claim complete fail progress work health stats list-types list-tasks show-task explain replay results serve demo config completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
