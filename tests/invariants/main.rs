//! The whole system at random: a seed makes a plan (types, tasks with scripted attempts, workers with their slots, faults,
//! kills, outages, pauses at the failpoints); real workers work it against a real TaskManager; and then everything that
//! each of them says must agree, and nothing may be stuck, lost, or done twice.
//!
//! Threads meet in another order each time, so a seed repeats a plan, not a run. `PRISMQ_PLAN_SEED=7` runs the plan of
//! that seed again and again, `PRISMQ_PLANS=10000` sets how many plans are run, `PRISMQ_PLANS_AT_ONCE` how many at a
//! time, `PRISMQ_CHAOS_TASKS` and `PRISMQ_CHAOS_KILLS` the size of the largest.
#![cfg(feature = "server")]

mod check;
mod plan;
mod run;
#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plan::Plan;

/// Plans that run at the same time: they mostly wait.
const AT_ONCE: u64 = 12;
/// How long a failing plan is made smaller.
const SHRINK_FOR: Duration = Duration::from_secs(60);
/// A smaller plan that may fail is tried so often.
const TRIES: usize = 5;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a whole number")))
}

/// Runs a plan, and says what does not hold.
fn attempt(plan: &Plan) -> Result<(), String> {
    let found = run::run(plan)?;
    check::check(plan, &found).map_err(|broken| format!("{broken}\n{}", found.log))
}

/// The smallest plan that was found to fail, and how.
fn shrink(mut plan: Plan, mut broken: String) -> (Plan, String) {
    let start = Instant::now();
    let mut smaller = plan.smaller();
    while let Some(candidate) = smaller.pop().filter(|_| start.elapsed() < SHRINK_FOR) {
        if let Some(error) = (0..TRIES).find_map(|_| attempt(&candidate).err()) {
            (smaller, plan, broken) = (candidate.smaller(), candidate, error);
        }
    }
    (plan, broken)
}

fn fail(plan: Plan, broken: String) -> ! {
    let seed = plan.seed;
    println!("PRISMQ_PLAN_SEED={seed} fails: {broken}\nIt is made smaller.");
    let (smallest, broken) = shrink(plan, broken);
    panic!("PRISMQ_PLAN_SEED={seed} cargo test --test invariants\n{smallest:#?}\n{broken}");
}

#[test]
fn all_accounts_agree_under_random_faults() {
    let plans = number("PRISMQ_PLANS").unwrap_or(60);
    let repeated = number("PRISMQ_PLAN_SEED");
    let first = fastrand::u64(..1 << 40);
    println!("seeds from {first}");
    let (next, failed, start) = (AtomicU64::new(0), Mutex::new(None), Instant::now());
    thread::scope(|scope| {
        for _ in 0..number("PRISMQ_PLANS_AT_ONCE").unwrap_or(AT_ONCE) {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= plans {
                        return;
                    }
                    let plan = Plan::of_seed(repeated.unwrap_or(first + number));
                    if let Err(broken) = attempt(&plan) {
                        failed.lock().unwrap().get_or_insert((plan, broken));
                    }
                }
            });
        }
    });
    if let Some((plan, broken)) = failed.into_inner().unwrap() {
        fail(plan, broken);
    }
    println!("{plans} plans in {:.1} s", start.elapsed().as_secs_f64());
}

/// Runs a large plan with many kills, against a TaskManager that offers one of `features`.
fn kill_at_random(features: &[&'static str]) {
    let seed = number("PRISMQ_PLAN_SEED").unwrap_or_else(|| fastrand::u64(..1 << 40));
    let tasks = number("PRISMQ_CHAOS_TASKS").unwrap_or(200);
    let kills = number("PRISMQ_CHAOS_KILLS").unwrap_or(20);
    let plan = Plan::chaos(seed, tasks.try_into().unwrap(), kills.try_into().unwrap(), features);
    if let Err(broken) = attempt(&plan) {
        panic!("PRISMQ_PLAN_SEED={seed} PRISMQ_CHAOS_TASKS={tasks} PRISMQ_CHAOS_KILLS={kills}\n{broken}");
    }
}

#[test]
fn random_kills_lose_nothing() {
    kill_at_random(&["batch+renew"]);
}

#[test]
fn random_kills_without_some_extension_lose_nothing() {
    kill_at_random(&["batch", "renew", "none"]);
}
