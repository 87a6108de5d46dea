//! `completions`: prints a script that lets a shell complete command lines, and answers that script at each Tab.
//!
//! The script contains no words itself. It calls `prismq` with the words typed so far and sets a variable. The answer is
//! the commands, options and files that fit, and task types: those in `prismq.toml`, and those of the TaskManager if it
//! answers at once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory, FromArgMatches};
use clap_complete::env::Shells;
use clap_complete::{ArgValueCandidates, CompleteEnv, CompletionCandidate};

use super::setup::Setup;
use crate::cli::{Cli, CompletionsArgs, GlobalArgs};
use crate::config::Flags;
use crate::exit::{Exit, UserError};
use crate::output::print_text;

/// Set by the script, to the name of its shell.
const ASKS: &str = "PRISMQ_COMPLETE";

/// Maximum time to wait for the TaskManager after Tab.
const PATIENCE: Duration = Duration::from_millis(300);

/// Placeholders of arguments that are task types.
const TYPE_NAMES: [&str; 3] = ["TYPE", "NAME", "PATTERN"];

/// `prismq completions`
pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let shells = Shells::builtins();
    let name = args.shell.to_string();
    let shell = shells.completer(&name).ok_or_else(|| UserError::usage(format!("no completions for {name}")))?;
    let mut script = Vec::new();
    shell.write_registration(ASKS, "prismq", "prismq", "prismq", &mut script)?;
    print_text(&script)?;
    Ok(Exit::Done)
}

/// Answers a shell's script; false if none has called. Errors are not printed: the user is typing.
pub(crate) fn answer() -> bool {
    let words: Vec<OsString> = std::env::args_os().collect();
    let start = words.iter().position(|word| word == "--");
    let (Some(start), Some(_)) = (start, std::env::var_os(ASKS)) else { return false };
    let folder = std::env::current_dir().ok();
    let factory = || with_task_types(Cli::command(), &words[start + 1..]);
    CompleteEnv::with_factory(factory).var(ASKS).try_complete(words.clone(), folder.as_deref()).unwrap_or(true)
}

fn with_task_types(command: Command, typed: &[OsString]) -> Command {
    let typed = typed.to_vec();
    let candidates = ArgValueCandidates::new(move || task_types(&typed));
    let is_type = |arg: &Arg| arg.get_value_names().is_some_and(|names| TYPE_NAMES.contains(&names[0].as_str()));
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| if is_type(&arg) { arg.add(candidates.clone()) } else { arg })
    })
}

fn task_types(typed: &[OsString]) -> Vec<CompletionCandidate> {
    let Ok(setup) = Setup::with(settings(typed), false) else { return Vec::new() };
    let mut names: BTreeSet<String> = setup.config.task_types.iter().map(|it| it.name.clone()).collect();
    if let Some(known) = setup.single_try_client(PATIENCE).ok().and_then(|client| client.task_types().ok()) {
        names.extend(known.into_iter().map(|it| it.name));
    }
    // The shell inserts them as they are, and the name of a type might contain `$(…)`.
    let is_plain = |name: &String| name.chars().all(|c| c.is_alphanumeric() || "._-:/".contains(c));
    names.into_iter().filter(is_plain).map(CompletionCandidate::new).collect()
}

/// The settings in a command line that is not finished.
fn settings(typed: &[OsString]) -> Flags {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(typed);
    let global = matches.ok().and_then(|matches| GlobalArgs::from_arg_matches(&matches).ok());
    global.map_or_else(Flags::default, |global| global.settings.0.only(&["config", "api_url"]))
}
