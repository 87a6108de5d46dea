//! `man`: generates man pages from the same definition as `--help`.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::{Man, generate_to};

use crate::cli::{Cli, ManArgs};
use crate::exit::{Exit, UserError};
use crate::output::print_text;
use crate::text_file;

/// `prismq man`
pub(super) fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    match &args.dir {
        Some(folder) => write_all(folder)?,
        None => print()?,
    }
    Ok(Exit::Done)
}

/// Prints the page of the program.
fn print() -> anyhow::Result<()> {
    let mut page = Vec::new();
    // The `help` command has no page.
    Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
    Ok(print_text(&page)?)
}

/// Writes the page of the program and one for each subcommand.
fn write_all(folder: &Path) -> Result<(), UserError> {
    let written = fs::create_dir_all(folder).and_then(|()| generate_to(Cli::command(), folder));
    written.map_err(|error| {
        UserError::usage(format!("--dir: cannot write to {}: {}", folder.display(), text_file::unwritable(&error)))
    })
}
