//! Valid and invalid command lines, and the values parsed from them.

use clap::CommandFactory;
use clap::error::ErrorKind;
use serde_json::json;

use super::*;
use crate::config::{self, Config, Flags, LogFormat, Origin, Sources};
use crate::exit::Exit;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::read(std::iter::once("prismq").chain(line.split_whitespace()))
}

fn parsed(line: &str) -> Cli {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refused(line: &str) -> clap::Error {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), Exit::Usage as i32, "{line}");
    error
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_parses() {
    for line in [
        "init",
        "register-type a --version 2.0.0 --schema -",
        "register-type --all",
        "create-task a k=v n:=1 --priority -5 --wait --timeout 1m",
        "create-task a --params - --priority 3",
        "create-task a --params @p.json",
        "create-task a --from - --concurrency 4",
        "claim",
        "claim a b --once --run --no-report --strategy lifo",
        "claim a --timeout 0",
        "complete 7 --result -",
        "complete 7",
        "fail 7 --error -x",
        "progress 7 100 --message half",
        "work",
        "work a b --handle c=wc --drain --exit-after-idle 5s --register",
        "work --poll-interval 1 --max-backoff 2 --max-tasks 0 --strategy priority --concurrency 2",
        "work --claim-timeout 5m --max-attempts 2 --grace-period 0 --max-runs 3",
        "health --timeout 2s",
        "stats --since 1d --by hour --watch",
        "stats --html -",
        "list-types",
        "list-tasks --status failed --type a% --limit 5",
        "show-task 7",
        "explain 7",
        "replay 7",
        "results 7 --type a --failed --since 1h --format csv",
        "results --json",
        "config --concurrency 3",
        "completions zsh",
        "man --dir pages",
    ] {
        parsed(line);
    }
}

#[cfg(feature = "server")]
#[test]
fn serve_has_its_own_settings() {
    let Command::Serve(args) = parsed("serve").command else { panic!("serve") };
    assert_eq!(args.listen, "127.0.0.1:8000".parse().unwrap());
    assert_eq!((args.claim_timeout, args.max_attempts), (None, 3));
    let cli = parsed("serve --listen [::1]:0 --db t.db --claim-timeout 2s --max-attempts 1");
    assert_eq!(cli.flags(), Flags::default());
    let Command::Serve(args) = cli.command else { panic!("serve") };
    assert_eq!((args.claim_timeout, args.max_attempts), (Some(Duration::from_secs(2)), 1));
    parsed("demo");
    parsed("work --embedded");
    refused("serve --listen localhost");
}

#[test]
fn invalid_command_lines_are_refused() {
    for line in [
        "",
        "wurk",
        "register-type",
        "register-type a --all",
        "register-type --all --schema -",
        "create-task",
        "create-task a k",
        "create-task a k=v --params {}",
        "create-task a k=v --from f",
        "create-task a --params {} --from f",
        "create-task a --from f --wait",
        "create-task a --timeout 5",
        "create-task a --concurrency 5",
        "create-task a --from f --concurrency 0",
        "claim --no-report",
        "claim --once --timeout 5",
        "claim --strategy random",
        "complete x",
        "fail 7",
        "progress 7 101",
        "progress 7 -1",
        "work --handle wc",
        "work --poll-interval 0",
        "work --poll-interval -1",
        "work --concurrency 0",
        "work --max-attempts 0",
        "work --max-tasks -1",
        "work --strategy random",
        "list-tasks --limit 0",
        "list-tasks --status done",
        "stats --by month",
        "stats --since x",
        "results --json --format csv",
        "config --log-format xml",
        "completions tcsh",
        "work --status-addr localhost",
        "stats --watch --html f",
        "stats --html f --json",
        "man work",
    ] {
        refused(line);
    }
}

/// Messages of libraries about values, which do not say what to write.
const WORDS_OF_LIBRARIES: [&str; 9] = [
    "invalid digit",
    "invalid float",
    "invalid socket",
    "invalid character",
    "target type",
    "cannot parse",
    "..=",
    "unexpected argument",
    "os error",
];

#[test]
fn errors_of_values_do_not_contain_messages_of_libraries() {
    for command in Cli::command().get_subcommands() {
        let arguments = command.get_arguments().chain(command.get_opts());
        for argument in arguments.filter(|argument| argument.get_action().takes_values()) {
            for value in
                ["x", "1.5", "-1", "-1.5", "", "1e3", "0x1", "50%", "99999999999999999999999999999999999999999999"]
            {
                let before =
                    command.get_positionals().take_while(|it| it.get_id() != argument.get_id()).map(|_| "1".to_owned());
                let option = argument.get_long().map_or_else(|| value.to_owned(), |long| format!("--{long}={value}"));
                let before: Vec<String> = if argument.is_positional() { before.collect() } else { Vec::new() };
                let line = [vec!["prismq".to_owned(), command.get_name().to_owned()], before, vec![option]].concat();
                let Err(error) = Cli::read(&line) else { continue };
                let error = error.to_string();
                let leaked = WORDS_OF_LIBRARIES.iter().find(|words| error.contains(*words));
                assert_eq!(leaked, None, "{line:?}: {error}");
            }
        }
    }
}

#[test]
fn settings_go_before_the_command_or_after_it() {
    let before = parsed("--json --results r.db --worker-id me -v --config c.toml --ideas i.db config");
    let after = parsed("config --json --results r.db --worker-id me -v --config c.toml --ideas i.db");
    for cli in [before, after] {
        assert!(cli.global.json);
        let paths = Flags::default().results("r.db".into()).ideas("i.db".into()).config("c.toml".into());
        assert_eq!(cli.flags(), paths.worker_id("me".into()).log_level("debug".into()));
    }
}

#[test]
fn worker_settings_become_flags() {
    let settings = "--poll-interval 500ms --max-backoff 5m --max-runs 7 --strategy lifo --concurrency 3 \
                    --claim-timeout 60 --max-attempts 2 --grace-period 0 --keep-results 7d --api-url http://h/api --log-format json";
    for command in ["work", "config"] {
        let config = config(&format!("{command} {settings}"));
        assert_eq!(*config.poll_interval, Duration::from_millis(500));
        assert_eq!(*config.max_backoff, Duration::from_secs(300));
        assert_eq!(*config.max_tasks, 7);
        assert_eq!(*config.strategy, Strategy::Lifo);
        assert_eq!(*config.concurrency, 3);
        assert_eq!(*config.claim_timeout, Duration::from_secs(60));
        assert_eq!(*config.max_attempts, 2);
        assert_eq!(*config.grace_period, Duration::ZERO);
        assert_eq!(*config.keep_results, Duration::from_hours(7 * 24));
        assert_eq!(*config.api_url, "http://h/api");
        assert_eq!(*config.log_format, LogFormat::Json);
    }
    assert_eq!(*config("claim --strategy priority").strategy, Strategy::Priority);
    assert_eq!(config("create-task a --from f --concurrency 4").concurrency.origin, Origin::Default);
}

/// Settings from the line, with defaults.
fn config(line: &str) -> Config {
    config::of_flags(Sources { flags: parsed(line).flags(), ..Sources::default() }).unwrap()
}

#[test]
fn log_levels_have_short_forms() {
    for (arguments, level) in [
        ("", None),
        ("-v", Some("debug")),
        ("--debug", Some("debug")),
        ("-vv", Some("trace")),
        ("--debug -vv", Some("trace")),
        ("-q", Some("warn")),
        ("-qq", Some("error")),
        ("-q -v", Some("warn")),
        ("-q --log-level info", Some("info")),
    ] {
        let flags = level.map_or_else(Flags::default, |level| Flags::default().log_level(level.to_owned()));
        assert_eq!(parsed(&format!("work {arguments}")).flags(), flags, "{arguments}");
    }
}

#[test]
fn params_and_handlers_arrive_parsed() {
    let Command::CreateTask(args) = parsed("create-task a text=b n:=[1]").command else { panic!("create-task") };
    let pairs: Vec<_> = args.pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
    assert_eq!(pairs, [("text".to_owned(), json!("b")), ("n".to_owned(), json!([1]))]);
    let Command::Work(args) = parsed("work --handle a=wc --handle b=cat").command else { panic!("work") };
    let handles: Vec<_> = args.handles.into_iter().map(|handle| (handle.task_type, handle.command)).collect();
    assert_eq!(handles, [("a".to_owned(), "wc".to_owned()), ("b".to_owned(), "cat".to_owned())]);
}

#[test]
fn help_shows_exit_codes_and_examples() {
    let help = refused_help("--help");
    for exit in
        [Exit::Done, Exit::Failed, Exit::Usage, Exit::NoTask, Exit::Unreachable, Exit::KeyRefused, Exit::Interrupted]
    {
        let code = (exit as u8).to_string();
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(&code)), "{exit:?} in {help}");
    }
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let help = refused_help(&format!("{name} --help"));
        let (_, examples) = help.split_once("Examples:").expect(name);
        assert!(examples.contains(&format!("prismq {name}")));
    }
}

#[test]
fn help_has_help() {
    assert_eq!(refused_help("help --help"), refused_help("help"));
    assert_eq!(refused_help("help work -h"), refused_help("help work"));
}

fn refused_help(line: &str) -> String {
    let help = parse(line).expect_err(line);
    assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0));
    help.to_string()
}

#[test]
fn every_example_parses() {
    for command in Cli::command().get_subcommands() {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in examples.lines().skip(1).filter(|line| !line.trim().is_empty()) {
            // Two spaces end the command; `>` and `|` are for the shell.
            let typed = line.trim().split("  ").next().unwrap().split(" > ").next().unwrap();
            let typed = typed.split(" | ").find(|part| part.starts_with("prismq")).expect(typed);
            match Cli::read(words(typed)) {
                Ok(cli) => drop(cli),
                Err(error) => panic!("{typed}: {error}"),
            }
        }
    }
}

/// Splits a line as a shell with only single quotes would.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            // The list starts with one word, so there is a last one.
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}
