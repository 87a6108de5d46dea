//! Usage errors in one line: clap's errors in this program's words.

use std::error::Error as _;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use crate::config::{did_you_mean, is_near};
use crate::exit::UserError;

/// Maximum characters of a wrong argument shown in its error.
const MAX_SHOWN: usize = 100;

/// Options that need another one, of which clap names only the latter.
const NEEDS: [(&str, &str); 3] = [("--timeout", "--wait"), ("--concurrency", "--from"), ("--no-report", "--run")];

/// Returns what is wrong with the command line `arguments`, and what to do about it.
pub(crate) fn usage_error(error: &clap::Error, arguments: impl IntoIterator<Item = String>) -> UserError {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let problem = UserError::usage(problem(error, &arguments));
    let hint = suggestion(error).unwrap_or_else(|| {
        let command = Cli::command();
        let mut names = arguments.iter().filter(|argument| command.find_subcommand(argument).is_some());
        names.next().map_or_else(|| "see `prismq --help`".to_owned(), |name| format!("see `prismq {name} --help`"))
    });
    problem.hint(hint)
}

fn problem(error: &clap::Error, arguments: &[String]) -> String {
    let argument = names(error, ContextKind::InvalidArg).join(", ");
    let value = shortened(&texts(error, ContextKind::InvalidValue).concat());
    match error.kind() {
        ErrorKind::ValueValidation => {
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            if reason.contains(&format!("{value:?}")) || reason.contains(&format!(", not {value}")) {
                format!("{argument}: {reason}")
            } else {
                format!("invalid value '{value}' for {argument}: {reason}")
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{argument} needs a value"),
        ErrorKind::InvalidValue => format!("invalid value '{value}' for {argument}"),
        ErrorKind::UnknownArgument if argument.starts_with('-') => format!("unknown option {}", shortened(&argument)),
        ErrorKind::UnknownArgument => format!("too many arguments: {}", shortened(&argument)),
        ErrorKind::InvalidSubcommand => {
            format!("unknown command {}", shortened(&texts(error, ContextKind::InvalidSubcommand).concat()))
        }
        ErrorKind::MissingSubcommand => "no command given".to_owned(),
        ErrorKind::MissingRequiredArgument => match needed_by(&argument, arguments) {
            Some(option) => format!("{option} needs {argument}"),
            None => format!("missing argument: {argument}"),
        },
        ErrorKind::ArgumentConflict => match names(error, ContextKind::PriorArg).join(", ") {
            other if other == argument => format!("{argument} is given twice"),
            other => format!("{argument} cannot be used with {other}"),
        },
        ErrorKind::TooManyValues => format!("{argument} takes no value, not '{value}'"),
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        _ => {
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
        }
    }
}

/// Returns the option on the command line that needs the missing one.
fn needed_by(missing: &str, arguments: &[String]) -> Option<&'static str> {
    let is_given = |option: &str| arguments.iter().any(|it| it.split('=').next() == Some(option));
    NEEDS.into_iter().find(|(option, needed)| *needed == missing && is_given(option)).map(|(option, _)| option)
}

/// Returns a suggestion.
fn suggestion(error: &clap::Error) -> Option<String> {
    let known = texts(error, ContextKind::ValidValue);
    let value = texts(error, ContextKind::InvalidValue).concat();
    if !known.is_empty() {
        return Some(did_you_mean(&value, &known.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let argument = names(error, ContextKind::SuggestedArg).into_iter().next();
    let wrong = texts(error, ContextKind::InvalidSubcommand).concat();
    let mut commands = texts(error, ContextKind::SuggestedSubcommand).into_iter();
    let near = argument.or_else(|| commands.find(|known| is_near(&wrong, known)))?;
    Some(format!("did you mean `{near}`?"))
}

/// Returns the bare names of arguments: `--limit` for `--limit <N>`, `TYPE` for `[TYPE]...`.
fn names(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    let name = |text: String| {
        let name = if text.starts_with('-') { text.split(' ').next().unwrap_or_default() } else { &text };
        name.trim_end_matches("...").trim_matches(['<', '>', '[', ']']).to_owned()
    };
    texts(error, kind).into_iter().map(name).collect()
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn shortened(text: &str) -> String {
    text.char_indices().nth(MAX_SHOWN).map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_errors_are_one_line_in_our_words() {
        for (line, expected) in [
            ("wrok", "unknown command wrok; did you mean `work`?"),
            ("zzz", "unknown command zzz; see `prismq --help`"),
            ("work --nonsense", "unknown option --nonsense; see `prismq work --help`"),
            ("work --drian", "unknown option --drian; did you mean `--drain`?"),
            ("work -z", "unknown option -z; see `prismq work --help`"),
            ("show-task 1 2", "too many arguments: 2; see `prismq show-task --help`"),
            ("show-task", "missing argument: ID; see `prismq show-task --help`"),
            ("progress", "missing argument: ID, PERCENT; see `prismq progress --help`"),
            ("fail 1", "missing argument: --error; see `prismq fail --help`"),
            ("register-type", "missing argument: NAME; see `prismq register-type --help`"),
            ("create-task a --timeout 5", "--timeout needs --wait; see `prismq create-task --help`"),
            ("create-task a --concurrency=5", "--concurrency needs --from; see `prismq create-task --help`"),
            ("claim --no-report", "--no-report needs --run; see `prismq claim --help`"),
            ("list-tasks --limit", "--limit needs a value; see `prismq list-tasks --help`"),
            ("work --drain=x", "--drain takes no value, not 'x'; see `prismq work --help`"),
            ("stats --by minute", "invalid value 'minute' for --by; use one of: type, worker, hour, day"),
            ("stats --by hours", "invalid value 'hours' for --by; did you mean `hour`?"),
            (
                "list-tasks --limit 0",
                "--limit: must be between 1 and 4294967295, not 0; \
                 see `prismq list-tasks --help`",
            ),
            (
                "show-task x",
                "ID: \"x\" is not a whole number; it must be between 0 and 9223372036854775807; \
                 see `prismq show-task --help`",
            ),
            (
                "stats --since 0",
                "invalid value '0' for --since: must be more than 0, such as 10 (seconds), 500ms or 5m; \
                 see `prismq stats --help`",
            ),
            (
                "work --max-tasks -1",
                "--max-tasks: must be between 0 and 18446744073709551615, not -1 (0: no limit); see `prismq work --help`",
            ),
            (
                "create-task a b",
                "invalid value 'b' for KEY=TEXT|KEY:=JSON: write KEY=TEXT or KEY:=JSON; see `prismq create-task --help`",
            ),
            (
                "create-task a b=c --params {}",
                "KEY=TEXT|KEY:=JSON cannot be used with --params; see `prismq create-task --help`",
            ),
            ("stats --since 1 --since 2", "--since is given twice; see `prismq stats --help`"),
        ] {
            let arguments: Vec<String> = std::iter::once("prismq").chain(line.split(' ')).map(str::to_owned).collect();
            let error = usage_error(&Cli::read(&arguments).unwrap_err(), arguments);
            assert_eq!(format!("{}; {}", error.message, error.hint.unwrap()), expected, "{line}");
        }
    }
}
