//! `completions`: what a shell needs to complete `prismq`'s command line.

use clap::CommandFactory;
use clap_complete::generate;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Exit;
use crate::output::buffered;

/// `prismq completions`
pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "prismq", &mut script);
    std::io::Write::write_all(&mut buffered(), &script)?;
    Ok(Exit::Done)
}
