//! A worker with a handler of its own, which counts words: `cargo run --example count`.

use prismq::{Claim, ErrorType, Outcome, Run, Worker};
use serde_json::json;

fn count(claim: &Claim, _: &Run<'_>) -> Outcome {
    match claim.task.params["text"].as_str() {
        Some(text) => Outcome::success(json!({"words": text.split_whitespace().count()})),
        None => Outcome::failure(ErrorType::Validation, "no text to count"),
    }
}

fn main() -> anyhow::Result<()> {
    let worker = Worker::builder().from_environment().handler("example.count", count);
    let worker = worker.register().concurrency(8).log_to_stderr().install_signal_handlers().build()?;
    worker.run()?;
    Ok(())
}
