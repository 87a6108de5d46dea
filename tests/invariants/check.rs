//! What must hold after every plan, whatever happened in it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::plan::{Plan, Step};
use crate::run::Found;

/// Everything that does not hold, one sentence each; `Ok` where all does.
pub(crate) fn check(plan: &Plan, found: &Found) -> Result<(), String> {
    let check = Check { plan, found, broken: RefCell::default() };
    check.every_task_has_ended();
    check.every_attempt_has_its_row();
    check.every_row_has_its_attempt();
    check.rows_say_what_the_handler_did();
    check.nothing_was_withheld();
    check.plain_plans_end_as_scripted();
    check.numbers_agree();
    check.nothing_is_left();
    let broken = check.broken.into_inner();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}

struct Check<'a> {
    plan: &'a Plan,
    found: &'a Found,
    broken: RefCell<Vec<String>>,
}

/// A task's number and an attempt's.
type Key = (u64, u64);

fn key(row: &Value) -> Key {
    (row["task_id"].as_u64().unwrap(), row["attempt"].as_u64().unwrap())
}

fn is(row: &Value, status: &str) -> bool {
    row["status"] == status
}

fn is_not_run(row: &Value) -> bool {
    row["metadata"]["not_run"] == true
}

impl Check<'_> {
    fn hold(&self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.broken.borrow_mut().push(sentence());
        }
    }

    fn rows(&self, key: Key) -> Vec<&Value> {
        self.found.rows.iter().filter(|row| self::key(row) == key).collect()
    }

    fn runs(&self, key: Key) -> usize {
        self.found.runs.iter().filter(|run| **run == key).count()
    }

    /// How many rows of a task, up to an attempt, have this status.
    fn reported(&self, (task, attempt): Key, status: &str) -> usize {
        let rows = self.found.rows.iter().filter(|row| is(row, status));
        rows.map(key).filter(|(other, number)| *other == task && *number <= attempt).count()
    }

    fn fate(&self, key: Key) -> Option<&str> {
        let counted = self.found.attempts.iter().rfind(|it| (it.task, it.attempt) == key);
        counted.map(|it| it.fate.as_str())
    }

    /// What the plan says of an attempt at a task.
    fn step(&self, (task, attempt): Key) -> Step {
        let index = self.found.ids.iter().position(|id| *id == task).unwrap();
        self.plan.tasks[index].step(attempt)
    }

    /// The workers have ended with 0, so nothing may be left.
    fn every_task_has_ended(&self) {
        for id in &self.found.ids {
            let status = self.found.tasks.iter().find(|(task, _)| task == id).map(|(_, status)| status.as_str());
            let has_ended = matches!(status, Some("completed" | "failed"));
            self.hold(has_ended, || format!("task {id} is {status:?}, and the workers ended with 0"));
        }
        let numbers: BTreeSet<u64> = self.found.ids.iter().copied().collect();
        self.hold(numbers.len() == self.plan.tasks.len(), || "two tasks have the same number".into());
    }

    /// Each attempt whose report the TaskManager has taken has one row, which says so.
    fn every_attempt_has_its_row(&self) {
        for counted in &self.found.attempts {
            let key = (counted.task, counted.attempt);
            let rows = self.rows(key);
            let confirmed = rows.iter().filter(|row| !is(row, "lost")).count();
            // Where the answer to a failure was lost, and another attempt has ended since, nothing tells any more that
            // the report had arrived: the row says that the claim was lost.
            let is_known = !self.plan.may_lose_claims() || self.plan.names_attempts();
            let holds = match counted.fate.as_str() {
                "completed" if is_known => confirmed == 1 && rows.iter().any(|row| is(row, "completed")),
                // A report names no attempt: that of an expired claim is taken for the next one of the same worker, of which
                // the worker had not heard yet. The row keeps its number.
                "completed" => self.reported(key, "completed") == 1,
                "failed" if is_known => confirmed == 1 && rows.iter().any(|row| is(row, "failed")),
                "failed" => confirmed <= 1 && (!rows.is_empty() || self.reported(key, "failed") > 0),
                "expired" => self.plan.may_lose_claims(),
                _ => false,
            };
            self.hold(holds, || format!("attempt {key:?} is {} at the TaskManager; its rows: {rows:#?}", counted.fate));
        }
    }

    /// No row claims a report that the TaskManager has not taken, none still waits, and none counts twice.
    fn every_row_has_its_attempt(&self) {
        for row in &self.found.rows {
            let key = key(row);
            self.hold(!row["reported_at"].is_null(), || format!("not reported: {row}"));
            let fate = self.fate(key).map(str::to_owned);
            self.hold(fate.is_some(), || format!("the TaskManager has counted no attempt {key:?}: {row}"));
            let is_known = !self.plan.may_lose_claims() || self.plan.names_attempts();
            let agrees = match row["status"].as_str() {
                Some("lost") if self.plan.names_attempts() => fate.as_deref() == Some("expired"),
                Some("lost") => {
                    // Or an earlier result was taken for it: a report names no attempt.
                    fate.as_deref() != Some("completed")
                        || self.rows(key).len() > 1
                        || self.reported(key, "completed") == 1
                }
                Some("failed") if !is_known => fate.as_deref() != Some("completed"),
                Some("completed") if !is_known => matches!(fate.as_deref(), Some("completed" | "expired")),
                status => status == fate.as_deref(),
            };
            self.hold(agrees, || format!("the TaskManager says {fate:?} of {row}"));
        }
    }

    /// Nothing ran twice under one attempt, and each row tells of a run, with the outcome that the plan wanted.
    fn rows_say_what_the_handler_did(&self) {
        let mut runs: BTreeMap<Key, usize> = BTreeMap::new();
        self.found.runs.iter().for_each(|run| *runs.entry(*run).or_default() += 1);
        for (key, count) in runs {
            // What ran when its worker was killed is run again inside its claim.
            self.hold(count == 1 || self.plan.has_kills(), || format!("attempt {key:?} ran {count} times"));
        }
        for row in self.found.rows.iter().filter(|row| !is_not_run(row)) {
            let key = key(row);
            let error_type = row["error_type"].as_str();
            if error_type == Some("claim_lost") && self.plan.may_lose_claims() {
                continue;
            }
            // A busy machine, or a signal, may end what would have succeeded, even before it has left its line.
            if matches!(error_type, Some("timeout" | "shutdown")) && row["retryable"] == 1 {
                continue;
            }
            let ran = self.ran_as(row);
            self.hold(ran.is_some(), || format!("attempt {key:?} has a result and did not run: {row}"));
            let Some(attempt) = ran else { continue };
            let step = self.step((key.0, attempt));
            let agrees = error_type == step.error_type();
            self.hold(agrees, || format!("attempt {attempt} was to be {step:?}: {row}"));
        }
    }

    /// The attempt under which the run happened whose result a row is: its own, or an earlier one whose claim expired
    /// before a report arrived, so that the result went under a later claim. An earlier failure may have been taken for
    /// that attempt's, since a report names none: then it has no row of its own.
    fn ran_as(&self, row: &Value) -> Option<u64> {
        let (task, attempt) = key(row);
        let said = row["data"]["ran"].as_str().and_then(|ran| ran.split_once('.'));
        let said = said.or_else(|| row["error"].as_str()?.split_once(" at attempt "));
        let said: Option<u64> = said.and_then(|(_, number)| number.parse().ok());
        let is_its = |it: u64| said.is_none_or(|said| said == it) && self.runs((task, it)) > 0;
        let lost_its_claim = |it: u64| {
            let key = (task, it);
            let was_taken = self.rows(key).is_empty() && self.reported(key, "failed") > 0;
            self.fate(key) == Some("expired") || self.plan.may_lose_claims() && was_taken
        };
        let mut candidates = (1..=attempt).rev().filter(|it| is_its(*it) && (*it == attempt || lost_its_claim(*it)));
        // A crash says nothing: of several runs it may have been any that was to end so.
        let agrees = |it: &u64| self.step((task, *it)).error_type() == row["error_type"].as_str();
        candidates.clone().find(agrees).or_else(|| candidates.next())
    }

    /// Only what was refused by its params is failed again without a run.
    fn nothing_was_withheld(&self) {
        for row in self.found.rows.iter().filter(|row| is_not_run(row)) {
            let (task, attempt) = key(row);
            let earlier = self.found.rows.iter().filter(|it| {
                let (other, number) = key(it);
                other == task && number < attempt && !is_not_run(it)
            });
            let invalid = earlier.into_iter().any(|it| it["error_type"] == "validation");
            self.hold(invalid, || format!("attempt {attempt} of task {task} was withheld: {row}"));
        }
    }

    /// Where nothing interferes, the number of attempts and the end of each task are known beforehand.
    fn plain_plans_end_as_scripted(&self) {
        let cut = |row: &Value| matches!(row["error_type"].as_str(), Some("timeout"));
        if self.plan.may_lose_claims() || self.found.rows.iter().any(cut) {
            return;
        }
        for (task, id) in self.plan.tasks.iter().zip(&self.found.ids) {
            let mut attempt = 1;
            while task.step(attempt).error_type().is_some() && attempt < self.plan.max_attempts {
                attempt += 1;
            }
            // What was refused once is refused for good.
            let refused = (1..=attempt).find(|it| task.step(*it) == Step::Validation);
            let (last, status) = match (refused, task.step(attempt).error_type()) {
                (Some(_), _) => (self.plan.max_attempts, "failed"),
                (None, Some(_)) => (attempt, "failed"),
                (None, None) => (attempt, "completed"),
            };
            let fate = self.fate((*id, last)).map(str::to_owned);
            self.hold(fate.as_deref() == Some(status), || {
                format!("task {id} ({task:?}) was to be {status} at attempt {last}, and is {fate:?}")
            });
        }
    }

    fn numbers_agree(&self) {
        let rows = || self.found.rows.iter().filter(|row| !is_not_run(row));
        let count = |status: &str| rows().filter(|row| is(row, status)).count() as u64;
        let sum = |field: &str| -> u64 {
            let groups = self.found.stats["groups"].as_array().unwrap();
            groups.iter().map(|group| group[field].as_u64().unwrap()).sum()
        };
        let stats = [sum("completed"), sum("failed"), sum("lost")];
        // A lost one is one of the others as well, by its outcome.
        let failed = rows().filter(|row| !row["error"].is_null()).count() as u64;
        let counted = [rows().count() as u64 - failed, failed, count("lost")];
        self.hold(stats == counted, || format!("stats says {stats:?}, the rows {counted:?}"));
        let unreported = self.found.stats["unreported"].clone();
        self.hold(unreported == 0, || format!("stats says that {unreported} are not reported"));
        let tasks = |status: &str| self.found.tasks.iter().filter(|(_, it)| it == status).count() as u64;
        self.hold(tasks("completed") == count("completed"), || "completed tasks and completed rows differ".into());
        if self.plan.has_kills() || self.plan.may_lose_claims() || self.found.is_summary_lost {
            return;
        }
        let said = |field: &str| self.found.summaries.iter().map(|it| it[field].as_u64().unwrap()).sum::<u64>();
        let said = [said("completed"), said("failed"), said("unreported")];
        let expected = [counted[0], counted[1], 0];
        self.hold(said == expected, || format!("the workers said {said:?}, the rows {expected:?}"));
        if !self.found.metrics.is_empty() {
            let metrics = |name: &str| self.found.metrics.iter().map(|text| metric(text, name)).sum::<u64>();
            let names = ["tasks_completed_total", "tasks_failed_total", "results_unreported", "tasks_in_flight"];
            let said = names.map(metrics);
            self.hold(said == [counted[0], counted[1], 0, 0], || format!("the metrics say {said:?}: {counted:?}"));
        }
    }

    fn nothing_is_left(&self) {
        let Found { claims, locks, processes_left, .. } = self.found;
        self.hold(*claims == 0, || format!("{claims} claims are left in the results file"));
        // That of a killed worker goes when somebody asks whether it is alive: who has its worker id, say.
        let may_stay = self.plan.has_kills() && !self.plan.named;
        self.hold(*locks == 0 || may_stay, || format!("{locks} locks of processes are left"));
        self.hold(processes_left.is_empty(), || format!("processes are left: {processes_left:?}"));
    }
}

/// The sum of a metric over its labels.
fn metric(text: &str, name: &str) -> u64 {
    let samples = text.lines().filter(|line| {
        let rest = line.strip_prefix("prismq_").and_then(|line| line.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
