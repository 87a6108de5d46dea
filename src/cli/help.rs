//! Help texts: the frame around the list of commands, and each command's examples, in which two spaces separate a
//! command from its description.

/// The options of every command are in the help of each; here they would hide the commands.
pub(super) const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}

Commands:
{subcommands}{after-help}";

pub(super) const MORE: &str = "\
See `prismq COMMAND --help` for options and examples, `prismq --help` for exit codes.";

pub(super) const EXIT_CODES: &str = "\
Options: --help, --version. Every command accepts the settings --config,
--api-url, --worker-id, --results and --ideas, and the output options --json,
--verbose, --quiet, --log-level and --log-format; see `prismq COMMAND --help`.

Exit codes:
    0  done
    1  failed
    2  wrong usage or settings
    3  no task to claim
    4  the TaskManager could not be reached
    5  the TaskManager refused the key
  130  interrupted

Durations: 10 (seconds), 500ms, 5m, 1h30m, 7d.";

pub(super) const INIT: &str = "\
Examples:
  prismq init";

pub(super) const REGISTER_TYPE: &str = "\
Examples:
  prismq register-type example.count                         as configured in prismq.toml
  prismq register-type --all                                 every type in prismq.toml
  prismq register-type example.any --schema '{\"type\":\"object\"}'
  prismq register-type example.count --schema count.json --version 1.1.0";

pub(super) const CREATE_TASK: &str = "\
Examples:
  prismq create-task example.count text='three small words'
  prismq create-task example.search query=ideas max_results:=5 --wait
  prismq create-task example.search --params @params.json --priority 10
  prismq create-task example.search --from many.jsonl > ids.txt";

pub(super) const CLAIM: &str = "\
Examples:
  prismq claim example.count               wait for a task, print it, keep it claimed
  prismq claim example.count --once        try once; exit code 3 if there is none
  prismq claim example.count --run         run it here and report the result";

pub(super) const COMPLETE: &str = "\
Examples:
  prismq complete 12
  prismq complete 12 --result '{\"words\":3}'
  jq .answer found.json | prismq complete 12 --result -";

pub(super) const FAIL: &str = "\
Examples:
  prismq fail 12 --error 'page not found'";

pub(super) const PROGRESS: &str = "\
Examples:
  prismq progress 12 40 --message 'page 2 of 5'";

pub(super) const WORK: &str = "\
Examples:
  prismq work                                     the types in prismq.toml
  prismq work --handle 'example.count=wc -w'      a shell command, no file needed
  prismq work example.count --concurrency 8 --drain";

pub(super) const HEALTH: &str = "\
Examples:
  prismq health                            exit code 0 if healthy, else 1
  prismq health --timeout 2s --json";

pub(super) const STATS: &str = "\
Examples:
  prismq stats --by hour --since 1d
  prismq stats --watch                     refresh until Ctrl-C
  prismq stats --html stats.html";

pub(super) const LIST_TYPES: &str = "\
Examples:
  prismq list-types
  prismq list-types --json | jq -r .name";

pub(super) const LIST_TASKS: &str = "\
Examples:
  prismq list-tasks --status failed --limit 10
  prismq list-tasks --type example.% --json | jq .id";

pub(super) const SHOW_TASK: &str = "\
Examples:
  prismq show-task 12
  prismq show-task 12 --json | jq .result";

pub(super) const EXPLAIN: &str = "\
Examples:
  prismq explain 12";

pub(super) const REPLAY: &str = "\
Examples:
  prismq replay 12";

pub(super) const RESULTS: &str = "\
Examples:
  prismq results --failed --since 1h
  prismq results 12 --json | jq .data
  prismq results --type example.count --format csv > results.csv";

#[cfg(feature = "server")]
pub(super) const SERVE: &str = "\
Examples:
  prismq serve
  prismq serve --listen 127.0.0.1:9000 --db tasks.db --keep 7d
  prismq serve --fault drop=0.1,latency=0.5:200ms  to test a client";

#[cfg(feature = "server")]
pub(super) const DEMO: &str = "\
Examples:
  prismq demo";

pub(super) const CONFIG: &str = "\
Examples:
  prismq config                            every setting and its source
  prismq config --concurrency 8 --json";

pub(super) const COMPLETIONS: &str = "\
Examples:
  prismq completions bash > ~/.local/share/bash-completion/completions/prismq
  prismq completions zsh > ~/.zfunc/_prismq     with ~/.zfunc in fpath, before compinit
  prismq completions fish > ~/.config/fish/completions/prismq.fish";

pub(super) const MAN: &str = "\
Examples:
  prismq man --dir ~/.local/share/man/man1
  prismq man | man -l -";
