//! `completions`: what a shell needs to complete `prismq`'s command line.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::generate;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Exit;
use crate::output::{buffered, on_stdout};

/// `prismq completions`
pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "prismq", &mut script);
    let mut out = buffered();
    on_stdout(out.write_all(&script).and_then(|()| out.flush()))?;
    Ok(Exit::Done)
}
