//! What prismq costs, as figures of the release binary, each a ratio within one run where it can be. One command makes
//! the table of `docs/performance.md`:
//!
//! ```sh
//! cargo bench --bench figures            # all figures
//! cargo bench --bench figures -- idle    # those whose name holds `idle`
//! cargo bench --bench figures -- steps   # where the time of one task goes
//! ```
//!
//! `PRISMQ_BENCH_RUNS` is how often each is measured: 5 where it is not set.

mod latency;
mod machine;
mod rest;
mod scene;
mod throughput;

use std::env;

/// One line of the table.
struct Figure {
    name: &'static str,
    /// What it is to be at least or at most.
    bar: Bar,
    /// Measures it once.
    measure: fn() -> f64,
}

enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

const FIGURES: [Figure; 14] = [
    Figure {
        name: "echo, 8 slots: tasks/s over bare claim-and-complete pairs",
        bar: Bar::AtLeast(0.7),
        measure: throughput::echo,
    },
    Figure {
        name: "persistent Python, 8 slots: tasks/s over bare claim-and-complete pairs",
        bar: Bar::AtLeast(0.5),
        measure: throughput::persistent,
    },
    Figure {
        name: "persistent Python, 8 slots: tasks/s",
        bar: Bar::AtLeast(2500.0),
        measure: throughput::persistent_per_second,
    },
    Figure {
        name: "once, /bin/true, 8 slots: tasks/s over a bare loop that spawns it",
        bar: Bar::AtLeast(0.7),
        measure: throughput::once,
    },
    Figure {
        name: "server that takes 20 ms a call, 16 slots: tasks/s over 16 / 40 ms",
        bar: Bar::AtLeast(0.95),
        measure: throughput::slow_server,
    },
    Figure {
        name: "create-task --from: tasks/s over those without batches",
        bar: Bar::AtLeast(3.0),
        measure: throughput::creation,
    },
    Figure {
        name: "idle, server cannot wait: creation to handler's start over the poll interval, median of 11",
        bar: Bar::AtMost(0.55),
        measure: latency::polling,
    },
    Figure {
        name: "idle, server can wait: creation to handler's start, ms, median of 21",
        bar: Bar::AtMost(10.0),
        measure: latency::waiting,
    },
    Figure { name: "idle, 16 slots: resident memory, MB", bar: Bar::AtMost(12.0), measure: rest::memory },
    Figure { name: "idle, --poll-interval 1: CPU, ms a minute", bar: Bar::AtMost(60.0), measure: rest::cpu },
    Figure {
        name: "idle, --poll-interval 1, server cannot wait: CPU, ms a minute",
        bar: Bar::AtMost(60.0),
        measure: rest::cpu_polling,
    },
    Figure {
        name: "resident memory at 8 slots after 100,000 tasks over after 1,000",
        bar: Bar::AtMost(1.2),
        measure: rest::growth,
    },
    Figure { name: "prismq --version less /bin/true, ms, medians of 50", bar: Bar::AtMost(5.0), measure: rest::start },
    Figure { name: "the stripped binary, MB", bar: Bar::AtMost(12.0), measure: rest::size },
];

fn main() {
    // Cargo adds --bench.
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = env::var("PRISMQ_BENCH_RUNS").map_or(5, |runs| runs.parse().expect("PRISMQ_BENCH_RUNS is a number"));
    scene::build();
    println!("{}\n", machine::describe());
    println!("| figure | median | least to most of {runs} | bar | |\n|---|---|---|---|---|");
    for figure in &FIGURES {
        if wanted.is_empty() || wanted.iter().any(|part| figure.name.contains(part.as_str())) {
            figure.print(runs);
        }
    }
    if wanted.is_empty() || wanted.iter().any(|part| part == "steps") {
        print_steps(runs);
    }
}

/// Where the time of one task goes.
fn print_steps(runs: usize) {
    println!("\n| one at a time | µs, median | least to most of {runs} |\n|---|---|---|");
    let all: Vec<_> = (0..runs).map(|_| throughput::steps()).collect();
    for (step, (name, _)) in all[0].iter().enumerate() {
        let (least, median, most) = spread(all.iter().map(|steps| steps[step].1).collect());
        println!("| {name} | {} | {} to {} |", short(median), short(least), short(most));
    }
}

/// The least, the median and the most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

impl Figure {
    fn print(&self, runs: usize) {
        let (least, median, most) = spread((0..runs).map(|_| (self.measure)()).collect());
        let (bar, is_met) = match self.bar {
            Bar::AtLeast(bar) => (format!("≥ {bar}"), median >= bar),
            Bar::AtMost(bar) => (format!("≤ {bar}"), median <= bar),
        };
        let met = if is_met { "met" } else { "missed" };
        println!("| {} | {} | {} to {} | {bar} | {met} |", self.name, short(median), short(least), short(most));
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
