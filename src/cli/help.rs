//! What `prismq --help` shows around the list of commands.

/// The options of every command are in the help of each, and would hide the commands here.
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
    1  it failed
    2  wrong usage or settings
    3  no task to claim
    4  the TaskManager could not be reached
    5  the TaskManager refused the key
  130  interrupted

Durations: 10 (seconds), 500ms, 5m, 1h30m, 7d.";
