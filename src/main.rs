//! The `prismq` binary: maps the result of [`prismq::run`] to an exit code.

fn main() -> std::process::ExitCode {
    prismq::run().into()
}
