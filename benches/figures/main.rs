//! What prismq costs, as figures of the optimized binary, each a ratio within one run if it can be. One command makes the
//! table of `docs/performance.md`:
//!
//! ```sh
//! cargo bench --bench figures                  # all
//! cargo bench --bench figures -- echo idle     # those whose name contains one of these words
//! ```
//!
//! - `PRISMQ_BENCH_BEFORE` names the binary of an earlier build, to compare with. Without it, rows that compare are left
//!   out.
//! - `PRISMQ_BENCH_BINARY` names the binary to measure, instead of building one.
//! - `PRISMQ_BENCH_RUNS` is how often each figure is measured: 5 if it is not set.
//! - `PRISMQ_BENCH_GROWTH` is after how many tasks memory is compared: 1,000,000 if it is not set.

mod latency;
mod machine;
mod rest;
mod row;
mod scene;
mod throughput;

use std::env;

use row::Row;

/// Rows that are measured together.
struct Figure {
    name: &'static str,
    /// Measures them once.
    measure: fn() -> Vec<Row>,
    /// It takes minutes, so it is measured once only.
    is_slow: bool,
}

const fn figure(name: &'static str, measure: fn() -> Vec<Row>) -> Figure {
    Figure { name, measure, is_slow: false }
}

const FIGURES: [Figure; 13] = [
    figure("echo", throughput::echo),
    figure("python", throughput::persistent),
    figure("once", throughput::once),
    figure("slow-server", throughput::slow_server),
    figure("one-task", latency::one_task),
    figure("polling", latency::polling),
    figure("creation", throughput::creation),
    figure("idle-memory", rest::memory),
    figure("idle-cpu", rest::cpu),
    Figure { name: "growth", measure: rest::growth, is_slow: true },
    figure("start", rest::start),
    figure("size", rest::size),
    figure("steps", throughput::steps),
];

fn main() {
    // Cargo adds --bench.
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = env::var("PRISMQ_BENCH_RUNS").map_or(5, |runs| runs.parse().expect("PRISMQ_BENCH_RUNS is a number"));
    scene::build();
    println!("{}\n", machine::describe());
    if scene::binary_before().is_none() {
        println!("PRISMQ_BENCH_BEFORE is not set: comparisons with an earlier build are left out.\n");
    }
    println!("| figure | median | range of {runs} | bar | |\n|---|---|---|---|---|");
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    for Figure { measure, is_slow, .. } in FIGURES.iter().filter(|figure| is_wanted(figure.name)) {
        let runs = if *is_slow { 1 } else { runs };
        row::print(&(0..runs).map(|_| measure()).collect::<Vec<_>>());
    }
}
