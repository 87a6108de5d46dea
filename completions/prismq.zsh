#compdef prismq

autoload -U is-at-least

_prismq() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_prismq_commands" \
"*::: :->prismq" \
&& ret=0
    case $state in
    (prismq)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:prismq-command-$line[1]:"
        case $line[1] in
            (init)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(register-type)
_arguments "${_arguments_options[@]}" : \
'--version=[Its version \[default\: the configuration'\''s, else 1.0.0\]]:VERSION:_default' \
'--schema=[The JSON Schema of its params\: a file, - for standard input, or the JSON itself]:FILE|-|JSON:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'(--version --schema)--all[Every type in the configuration]' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::name -- The type'\''s name:_default' \
&& ret=0
;;
(create-task)
_arguments "${_arguments_options[@]}" : \
'()--params=[Its params as one JSON object\: the JSON itself, @FILE, or - for standard input]:JSON|@FILE|-:_default' \
'--priority=[Higher goes first, where the worker'\''s strategy is priority]:N:_default' \
'--timeout=[Wait no longer than this]:DURATION:_default' \
'(--params --wait)--from=[Create a task for each line, a JSON object, of this file or of - (standard input)]:FILE|-:_files' \
'--concurrency=[How many requests to send at once]:N:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'--wait[Wait for its end and print its result; exit code 1 if it failed]' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':task_type -- The task'\''s type:_default' \
'*::pairs -- Its params\: KEY=TEXT is text, KEY\:=JSON is any JSON:_default' \
&& ret=0
;;
(claim)
_arguments "${_arguments_options[@]}" : \
'--strategy=[Which of the waiting tasks comes first \[default\: fifo\]]:STRATEGY:(fifo lifo priority)' \
'(--once)--timeout=[Wait for a task no longer than this]:DURATION:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'--once[Try once; exit code 3 where there is no task]' \
'--run[Work the task here with its handler, and report what comes of it]' \
'--no-report[Leave the task claimed after it was run]' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'*::types -- The types to claim from \[default\: the configured ones\]:_default' \
&& ret=0
;;
(complete)
_arguments "${_arguments_options[@]}" : \
'--result=[What came of it\: the JSON itself, @FILE, or - for standard input]:JSON|@FILE|-:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- The task'\''s id:_default' \
&& ret=0
;;
(fail)
_arguments "${_arguments_options[@]}" : \
'--error=[Why it failed]:TEXT:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- The task'\''s id:_default' \
&& ret=0
;;
(progress)
_arguments "${_arguments_options[@]}" : \
'--message=[What it is doing]:TEXT:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- The task'\''s id:_default' \
':percent -- How far it is, from 0 to 100:_default' \
&& ret=0
;;
(work)
_arguments "${_arguments_options[@]}" : \
'*--handle=[Work this type with this command, which sh runs]:TYPE=CMD:_default' \
'--exit-after-idle=[End after so long without a task]:DURATION:_default' \
'--poll-interval=[The time between two polls while there is nothing to do \[default\: 10s\]]:DURATION:_default' \
'--max-backoff=[The longest time between two polls, after many that found nothing \[default\: 60s\]]:DURATION:_default' \
'--max-tasks=[End after so many tasks; 0 is never \[default\: 0\]]:N:_default' \
'--max-runs=[End after so many tasks; 0 is never \[default\: 0\]]:N:_default' \
'--strategy=[Which of the waiting tasks comes first \[default\: fifo\]]:STRATEGY:(fifo lifo priority)' \
'--concurrency=[How many tasks to work at once \[default\: 1\]]:N:_default' \
'--claim-timeout=[How long the TaskManager lets a worker keep a task \[default\: 300s\]]:DURATION:_default' \
'--max-attempts=[Fail a task unrun that was handed out more often than this \[default\: 5\]]:N:_default' \
'--grace-period=[How long handlers may go on after the first signal \[default\: 30s\]]:DURATION:_default' \
'--keep-results=[How long results stay in the results file once they are reported; 0 is for ever \[default\: 0\]]:DURATION:_default' \
'--status-addr=[Show health, metrics and a page on this address, such as 127.0.0.1\:9090]:ADDRESS:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'--drain[End when nothing is left to do]' \
'--register[Register the configured types first]' \
'--embedded[Start the embedded TaskManager in the same process]' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'*::types -- The types to work \[default\: the configured ones\]:_default' \
&& ret=0
;;
(health)
_arguments "${_arguments_options[@]}" : \
'--timeout=[Wait for the TaskManager, and for what --external asks, no longer than this]:DURATION:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'--external[Ask other services as well\: YouTube, whether it accepts the key (one unit of the quota)]' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(stats)
_arguments "${_arguments_options[@]}" : \
'--since=[Only what ended in this time up to now]:DURATION:_default' \
'--by=[One row for each]:BY:(type worker hour day)' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(list-types)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(list-tasks)
_arguments "${_arguments_options[@]}" : \
'--status=[Only those of this status]:STATUS:(pending claimed completed failed)' \
'--type=[Only those whose type is like this; % stands for any text]:PATTERN:_default' \
'--limit=[At most so many]:N:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(show-task)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- The task'\''s id:_default' \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- The task'\''s id:_default' \
&& ret=0
;;
(replay)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':id -- The task'\''s id:_default' \
&& ret=0
;;
(results)
_arguments "${_arguments_options[@]}" : \
'--type=[Only those of this type]:TYPE:_default' \
'--since=[Only what ended in this time up to now]:DURATION:_default' \
'(--json)--format=[How to print them \[default\: table; jsonl with --json\]]:FORMAT:(table jsonl csv)' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'--failed[Only failures]' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::id -- Only those of this task:_default' \
&& ret=0
;;
(serve)
_arguments "${_arguments_options[@]}" : \
'--listen=[The address to listen on; one that others can reach needs an API key]:ADDRESS:PORT:_default' \
'--db=[The file that holds its tasks]:FILE:_files' \
'--claim-timeout=[How long a worker may keep a task]:DURATION:_default' \
'--max-attempts=[How often a task is handed out before a failure is its end]:N:_default' \
'--keep=[How long to keep tasks that have completed or failed \[default\: for ever\]]:DURATION:_default' \
'*--fault=[Fail on purpose, to try clients\: drop, reset, deadlock, html, ratelimit, latency=RATE\:DURATION, published, seed=N]:KIND=RATE,...:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(demo)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
'--poll-interval=[The time between two polls while there is nothing to do \[default\: 10s\]]:DURATION:_default' \
'--max-backoff=[The longest time between two polls, after many that found nothing \[default\: 60s\]]:DURATION:_default' \
'--max-tasks=[End after so many tasks; 0 is never \[default\: 0\]]:N:_default' \
'--max-runs=[End after so many tasks; 0 is never \[default\: 0\]]:N:_default' \
'--strategy=[Which of the waiting tasks comes first \[default\: fifo\]]:STRATEGY:(fifo lifo priority)' \
'--concurrency=[How many tasks to work at once \[default\: 1\]]:N:_default' \
'--claim-timeout=[How long the TaskManager lets a worker keep a task \[default\: 300s\]]:DURATION:_default' \
'--max-attempts=[Fail a task unrun that was handed out more often than this \[default\: 5\]]:N:_default' \
'--grace-period=[How long handlers may go on after the first signal \[default\: 30s\]]:DURATION:_default' \
'--keep-results=[How long results stay in the results file once they are reported; 0 is for ever \[default\: 0\]]:DURATION:_default' \
'--status-addr=[Show health, metrics and a page on this address, such as 127.0.0.1\:9090]:ADDRESS:_default' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
':shell -- The shell:(bash elvish fish powershell zsh)' \
&& ret=0
;;
(man)
_arguments "${_arguments_options[@]}" : \
'--dir=[Write the page of every command into this folder instead]:FOLDER:_files' \
'--config=[The configuration file \[default\: ./prismq.toml, else the one in your configuration folder\]]:FILE:_files' \
'--api-url=[Where the TaskManager is; it ends in /api \[default\: port 8000 of this machine\]]:URL:_default' \
'--worker-id=[Who this worker is \[default\: the host'\''s name and eight hex digits\]]:ID:_default' \
'--results=[The results file \[default\: results.db in your data folder\]]:FILE:_files' \
'--ideas=[The database of ideas \[default\: the results file\]]:FILE:_files' \
'--log-format=[How a line of the log looks \[default\: text\]]:FORMAT:(text json)' \
'--log-level=[What is logged\: a level, and MODULE=LEVEL by commas \[default\: info\]]:LEVEL:_default' \
'*-v[Log more\: -v debug, -vv trace]' \
'*--verbose[Log more\: -v debug, -vv trace]' \
'*-q[Log less\: -q warnings, -qq errors]' \
'*--quiet[Log less\: -q warnings, -qq errors]' \
'--debug[The same as -v]' \
'--json[Print JSON, and errors as JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_prismq__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:prismq-help-command-$line[1]:"
        case $line[1] in
            (init)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(register-type)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(create-task)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(claim)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(complete)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(fail)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(progress)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(work)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(health)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(stats)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(list-types)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(list-tasks)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(show-task)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(replay)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(results)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(serve)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(demo)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(config)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(man)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_prismq_commands] )) ||
_prismq_commands() {
    local commands; commands=(
'init:Write a first prismq.toml, .env and handler into this folder; nothing is overwritten' \
'register-type:Register or update a task type' \
'create-task:Create a task and print its id, or many from a file' \
'claim:Wait for a task, claim it and print it' \
'complete:Report a claimed task as completed' \
'fail:Report a claimed task as failed' \
'progress:Report how far a claimed task is' \
'work:Work tasks until told to stop' \
'health:Check the TaskManager, the key, the types, the handlers and the results file' \
'stats:Show what this machine'\''s workers have done\: counts, success rate, durations' \
'list-types:List the task types that the TaskManager knows' \
'list-tasks:List the tasks that the TaskManager holds, newest first' \
'show-task:Show a task as the TaskManager holds it' \
'explain:Tell the story of a task\: who claimed it when, how each attempt ended, how it was reported' \
'replay:Run a task'\''s handler once more, here, without telling anybody' \
'results:Show or export what the results file holds' \
'serve:Run the embedded TaskManager by itself' \
'demo:See it all at work on this machine, without any settings' \
'config:Show every setting in force, and where it came from' \
'completions:Print the completions for a shell' \
'man:Print the man page, or write one for each command' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'prismq commands' commands "$@"
}
(( $+functions[_prismq__subcmd__claim_commands] )) ||
_prismq__subcmd__claim_commands() {
    local commands; commands=()
    _describe -t commands 'prismq claim commands' commands "$@"
}
(( $+functions[_prismq__subcmd__complete_commands] )) ||
_prismq__subcmd__complete_commands() {
    local commands; commands=()
    _describe -t commands 'prismq complete commands' commands "$@"
}
(( $+functions[_prismq__subcmd__completions_commands] )) ||
_prismq__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'prismq completions commands' commands "$@"
}
(( $+functions[_prismq__subcmd__config_commands] )) ||
_prismq__subcmd__config_commands() {
    local commands; commands=()
    _describe -t commands 'prismq config commands' commands "$@"
}
(( $+functions[_prismq__subcmd__create-task_commands] )) ||
_prismq__subcmd__create-task_commands() {
    local commands; commands=()
    _describe -t commands 'prismq create-task commands' commands "$@"
}
(( $+functions[_prismq__subcmd__demo_commands] )) ||
_prismq__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'prismq demo commands' commands "$@"
}
(( $+functions[_prismq__subcmd__explain_commands] )) ||
_prismq__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'prismq explain commands' commands "$@"
}
(( $+functions[_prismq__subcmd__fail_commands] )) ||
_prismq__subcmd__fail_commands() {
    local commands; commands=()
    _describe -t commands 'prismq fail commands' commands "$@"
}
(( $+functions[_prismq__subcmd__health_commands] )) ||
_prismq__subcmd__health_commands() {
    local commands; commands=()
    _describe -t commands 'prismq health commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help_commands] )) ||
_prismq__subcmd__help_commands() {
    local commands; commands=(
'init:Write a first prismq.toml, .env and handler into this folder; nothing is overwritten' \
'register-type:Register or update a task type' \
'create-task:Create a task and print its id, or many from a file' \
'claim:Wait for a task, claim it and print it' \
'complete:Report a claimed task as completed' \
'fail:Report a claimed task as failed' \
'progress:Report how far a claimed task is' \
'work:Work tasks until told to stop' \
'health:Check the TaskManager, the key, the types, the handlers and the results file' \
'stats:Show what this machine'\''s workers have done\: counts, success rate, durations' \
'list-types:List the task types that the TaskManager knows' \
'list-tasks:List the tasks that the TaskManager holds, newest first' \
'show-task:Show a task as the TaskManager holds it' \
'explain:Tell the story of a task\: who claimed it when, how each attempt ended, how it was reported' \
'replay:Run a task'\''s handler once more, here, without telling anybody' \
'results:Show or export what the results file holds' \
'serve:Run the embedded TaskManager by itself' \
'demo:See it all at work on this machine, without any settings' \
'config:Show every setting in force, and where it came from' \
'completions:Print the completions for a shell' \
'man:Print the man page, or write one for each command' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'prismq help commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__claim_commands] )) ||
_prismq__subcmd__help__subcmd__claim_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help claim commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__complete_commands] )) ||
_prismq__subcmd__help__subcmd__complete_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help complete commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__completions_commands] )) ||
_prismq__subcmd__help__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help completions commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__config_commands] )) ||
_prismq__subcmd__help__subcmd__config_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help config commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__create-task_commands] )) ||
_prismq__subcmd__help__subcmd__create-task_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help create-task commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__demo_commands] )) ||
_prismq__subcmd__help__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help demo commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__explain_commands] )) ||
_prismq__subcmd__help__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help explain commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__fail_commands] )) ||
_prismq__subcmd__help__subcmd__fail_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help fail commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__health_commands] )) ||
_prismq__subcmd__help__subcmd__health_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help health commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__help_commands] )) ||
_prismq__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help help commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__init_commands] )) ||
_prismq__subcmd__help__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help init commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__list-tasks_commands] )) ||
_prismq__subcmd__help__subcmd__list-tasks_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help list-tasks commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__list-types_commands] )) ||
_prismq__subcmd__help__subcmd__list-types_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help list-types commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__man_commands] )) ||
_prismq__subcmd__help__subcmd__man_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help man commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__progress_commands] )) ||
_prismq__subcmd__help__subcmd__progress_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help progress commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__register-type_commands] )) ||
_prismq__subcmd__help__subcmd__register-type_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help register-type commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__replay_commands] )) ||
_prismq__subcmd__help__subcmd__replay_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help replay commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__results_commands] )) ||
_prismq__subcmd__help__subcmd__results_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help results commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__serve_commands] )) ||
_prismq__subcmd__help__subcmd__serve_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help serve commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__show-task_commands] )) ||
_prismq__subcmd__help__subcmd__show-task_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help show-task commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__stats_commands] )) ||
_prismq__subcmd__help__subcmd__stats_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help stats commands' commands "$@"
}
(( $+functions[_prismq__subcmd__help__subcmd__work_commands] )) ||
_prismq__subcmd__help__subcmd__work_commands() {
    local commands; commands=()
    _describe -t commands 'prismq help work commands' commands "$@"
}
(( $+functions[_prismq__subcmd__init_commands] )) ||
_prismq__subcmd__init_commands() {
    local commands; commands=()
    _describe -t commands 'prismq init commands' commands "$@"
}
(( $+functions[_prismq__subcmd__list-tasks_commands] )) ||
_prismq__subcmd__list-tasks_commands() {
    local commands; commands=()
    _describe -t commands 'prismq list-tasks commands' commands "$@"
}
(( $+functions[_prismq__subcmd__list-types_commands] )) ||
_prismq__subcmd__list-types_commands() {
    local commands; commands=()
    _describe -t commands 'prismq list-types commands' commands "$@"
}
(( $+functions[_prismq__subcmd__man_commands] )) ||
_prismq__subcmd__man_commands() {
    local commands; commands=()
    _describe -t commands 'prismq man commands' commands "$@"
}
(( $+functions[_prismq__subcmd__progress_commands] )) ||
_prismq__subcmd__progress_commands() {
    local commands; commands=()
    _describe -t commands 'prismq progress commands' commands "$@"
}
(( $+functions[_prismq__subcmd__register-type_commands] )) ||
_prismq__subcmd__register-type_commands() {
    local commands; commands=()
    _describe -t commands 'prismq register-type commands' commands "$@"
}
(( $+functions[_prismq__subcmd__replay_commands] )) ||
_prismq__subcmd__replay_commands() {
    local commands; commands=()
    _describe -t commands 'prismq replay commands' commands "$@"
}
(( $+functions[_prismq__subcmd__results_commands] )) ||
_prismq__subcmd__results_commands() {
    local commands; commands=()
    _describe -t commands 'prismq results commands' commands "$@"
}
(( $+functions[_prismq__subcmd__serve_commands] )) ||
_prismq__subcmd__serve_commands() {
    local commands; commands=()
    _describe -t commands 'prismq serve commands' commands "$@"
}
(( $+functions[_prismq__subcmd__show-task_commands] )) ||
_prismq__subcmd__show-task_commands() {
    local commands; commands=()
    _describe -t commands 'prismq show-task commands' commands "$@"
}
(( $+functions[_prismq__subcmd__stats_commands] )) ||
_prismq__subcmd__stats_commands() {
    local commands; commands=()
    _describe -t commands 'prismq stats commands' commands "$@"
}
(( $+functions[_prismq__subcmd__work_commands] )) ||
_prismq__subcmd__work_commands() {
    local commands; commands=()
    _describe -t commands 'prismq work commands' commands "$@"
}

if [ "$funcstack[1]" = "_prismq" ]; then
    _prismq "$@"
else
    compdef _prismq prismq
fi
