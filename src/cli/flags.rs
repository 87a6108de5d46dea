//! The command line as one source of settings.

use std::ffi::OsString;
use std::path::Path;

use clap::builder::{PathBufValueParser, PossibleValuesParser, StringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, ValueHint};

use super::{ClaimArgs, Cli, Command};
use crate::config::{CliOption, Definition, Flags, SETTINGS, Scope, TextForm};

/// Options of every command, before its name or after it.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// The settings among them.
    #[command(flatten)]
    pub settings: SettingArgs<true>,
    /// Log more (-v: debug, -vv: trace)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Log less (-q: warnings, -qq: errors only)
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Output")]
    pub quiet: u8,
    /// Same as -v
    #[arg(long, global = true, help_heading = "Output")]
    pub debug: bool,
    /// Print JSON, including errors
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

/// Settings of a worker.
pub(crate) type WorkerArgs = SettingArgs<false>;

/// The options of [`SETTINGS`]: those of every command, or those of a worker.
#[derive(Debug, Default)]
pub(crate) struct SettingArgs<const IS_GLOBAL: bool>(pub Flags);

impl<const IS_GLOBAL: bool> SettingArgs<IS_GLOBAL> {
    fn options() -> impl Iterator<Item = (&'static Definition, CliOption)> {
        let settings = SETTINGS.iter().filter_map(|setting| Some((setting, setting.flag?)));
        settings.filter(|(_, flag)| (flag.scope != Scope::Worker) == IS_GLOBAL)
    }
}

impl<const IS_GLOBAL: bool> Args for SettingArgs<IS_GLOBAL> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(Self::options().map(|(setting, flag)| option(setting, flag)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const IS_GLOBAL: bool> FromArgMatches for SettingArgs<IS_GLOBAL> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in Self::options().map(|(setting, _)| setting.name) {
            if let Some(text) = matches.get_one::<OsString>(name) {
                self.0 = std::mem::take(&mut self.0).with(name, text);
            }
        }
        Ok(())
    }
}

fn option(setting: &'static Definition, flag: CliOption) -> Arg {
    // The folder does not matter here: `config` takes the text as it was written.
    let check = move |text: OsString| setting.check(Path::new(""), &text).map(|_| text);
    let text = StringValueParser::new().map(OsString::from);
    let (hint, parser) = match setting.form {
        TextForm::Value => (ValueHint::Unknown, ValueParser::new(text.try_map(check))),
        TextForm::Choice(words) => (ValueHint::Unknown, PossibleValuesParser::new(words).map(OsString::from).into()),
        TextForm::Text if flag.value_name == "URL" => (ValueHint::Url, text.into()),
        TextForm::Text => (ValueHint::Unknown, text.into()),
        TextForm::Path => (ValueHint::FilePath, PathBufValueParser::new().map(OsString::from).try_map(check).into()),
    };
    let (is_global, heading) = match flag.scope {
        Scope::Global => (true, "Settings"),
        Scope::Output => (true, "Output"),
        Scope::Worker => (false, "Worker settings"),
    };
    Arg::new(setting.name)
        .long(flag.long)
        .visible_aliases(flag.alias)
        .value_name(flag.value_name)
        .value_hint(hint)
        .value_parser(parser)
        .help(setting.help.trim())
        .help_heading(heading)
        .global(is_global)
}

impl Cli {
    /// The settings that the command line gives.
    #[must_use]
    pub(crate) fn flags(&self) -> Flags {
        let global = self.global.settings.0.clone();
        let flags = match &self.command {
            Command::Work(args) => global.and(&args.worker.0),
            Command::Config(args) => global.and(&args.worker.0),
            Command::Claim(ClaimArgs { strategy: Some(strategy), .. }) => global.strategy(*strategy),
            _ => global,
        };
        match self.global.log_level() {
            Some(level) => Flags::default().log_level(level.to_owned()).and(&flags),
            None => flags,
        }
    }
}

impl GlobalArgs {
    /// The level that the short options ask for; `--log-level` overrides them. The quieter ones override the louder.
    fn log_level(&self) -> Option<&'static str> {
        match (self.quiet, self.verbose) {
            (0, 0) if self.debug => Some("debug"),
            (0, 0) => None,
            (0, 1) => Some("debug"),
            (0, _) => Some("trace"),
            (1, _) => Some("warn"),
            (_, _) => Some("error"),
        }
    }
}
