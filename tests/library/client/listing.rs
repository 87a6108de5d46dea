//! Listing tasks of servers that page by number or by offset: each task is listed once, or there is an error.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use prismq::internals::taskmanager::TaskFilter;
use prismq::{TaskId, TaskManagerError as Error};
use serde_json::{Value, json};

use crate::client::client;
use crate::support::{Answer, Request, ScriptedServer};

/// A server's tasks, each with the second of its creation, and how it pages.
struct Tasks {
    all: Vec<(u64, u64)>,
    random: fastrand::Rng,
    /// Maximum number of tasks in an answer.
    cap: usize,
    by_id: bool,
    /// Called before each answer.
    between: fn(&mut Tasks),
}

impl Tasks {
    fn new(seed: u64, tasks: Vec<(u64, u64)>) -> Self {
        Self { all: tasks, random: fastrand::Rng::with_seed(seed), cap: usize::MAX, by_id: false, between: |_| () }
    }

    /// Lists the newest second first, and tasks of the same second in any order.
    fn answer(&mut self, request: &Request) -> Answer {
        (self.between)(self);
        let number = |name: &str| -> Option<u64> {
            let query = request.path.split_once('?')?.1;
            query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
        };
        let before = number("before").filter(|_| self.by_id);
        let mut tasks: Vec<_> = self.all.iter().filter(|task| before.is_none_or(|id| task.0 < id)).copied().collect();
        if self.by_id {
            tasks.sort_by_key(|task| std::cmp::Reverse(task.0));
        } else {
            self.random.shuffle(&mut tasks);
            tasks.sort_by_key(|task| std::cmp::Reverse(task.1));
        }
        let part = |name, default| usize::try_from(number(name).unwrap_or(default)).unwrap();
        let limit = part("limit", 50).min(self.cap);
        let items: Vec<Value> = tasks.into_iter().skip(part("offset", 0)).take(limit).map(shown).collect();
        Answer::data(&json!({"items": items, "count": items.len()}))
    }

    fn serve(self) -> (ScriptedServer, Arc<Mutex<Self>>) {
        let tasks = Arc::new(Mutex::new(self));
        let served = Arc::clone(&tasks);
        (ScriptedServer::start(move |request| served.lock().unwrap().answer(request)), tasks)
    }
}

fn shown((id, second): (u64, u64)) -> Value {
    let time = format!("2026-11-22 {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    json!({"id": id, "type": "a.b", "status": "pending", "attempts": 0, "created_at": time})
}

/// `count` tasks, of which about `together` were created in the same second.
fn created(count: u64, together: u64, seed: u64) -> Vec<(u64, u64)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut second = 0;
    (1..=count)
        .map(|id| {
            second += u64::from(random.u64(..together) == 0);
            (id, second)
        })
        .collect()
}

fn listed(server: &ScriptedServer, limit: u32) -> Result<Vec<u64>, Error> {
    let tasks = client(server).tasks(&TaskFilter { limit, ..TaskFilter::default() })?;
    Ok(tasks.into_iter().map(|task| task.id.0).collect())
}

#[test]
fn a_list_without_a_tie_break_is_exact() {
    for (seed, (count, together)) in
        [(0, 1), (1, 1), (49, 9), (51, 60), (500, 1), (501, 5), (1234, 40), (2500, 1200)].into_iter().enumerate()
    {
        let seed = seed as u64;
        for limit in [1, 50, 700, u32::MAX] {
            let (server, _) = Tasks::new(seed, created(count, together, seed)).serve();
            let wanted: Vec<u64> = (1..=count).rev().take(usize::try_from(limit).unwrap()).collect();
            assert_eq!(listed(&server, limit).unwrap(), wanted, "{count} tasks, {together} a second, {limit}");
        }
    }
}

#[test]
fn a_server_that_lists_few_at_once_is_listed_exactly_or_not_at_all() {
    for cap in [50, 100, 333] {
        let serve = |together| {
            let mut tasks = Tasks::new(1, created(1500, together, 7));
            tasks.cap = cap;
            tasks.serve().0
        };
        assert_eq!(listed(&serve(5), u32::MAX).unwrap(), (1..=1500).rev().collect::<Vec<_>>(), "{cap}");
        let error = listed(&serve(1000), u32::MAX).unwrap_err();
        assert!(matches!(&error, Error::Inexact { .. }), "{error}");
        assert!(error.to_string().contains("cannot list these tasks reliably"), "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn a_server_that_lists_by_number_is_asked_by_number() {
    for (count, together) in [(0, 1), (51, 1), (1700, 1), (1700, 5000)] {
        let mut tasks = Tasks::new(1, created(count, together, 3));
        tasks.by_id = true;
        let (server, _) = tasks.serve();
        assert_eq!(listed(&server, u32::MAX).unwrap(), (1..=count).rev().collect::<Vec<_>>());
        let deep = server.calls().iter().filter(|call| !call.contains("offset=0")).count();
        assert!(deep <= 1, "{:?}", server.calls());
        assert!(server.calls().len() < 10, "{:?}", server.calls());
    }
}

/// Tasks that exist all the time are listed once, and no task twice.
fn stays_exact(count: u64, together: u64, by_id: bool, between: fn(&mut Tasks)) {
    for seed in 0..6 {
        let mut tasks = Tasks::new(seed, created(count, together, seed));
        (tasks.by_id, tasks.between) = (by_id, between);
        let before: BTreeSet<u64> = tasks.all.iter().map(|task| task.0).collect();
        let (server, tasks) = tasks.serve();
        let listed = listed(&server, u32::MAX).unwrap();
        let once: BTreeSet<u64> = listed.iter().copied().collect();
        assert_eq!(once.len(), listed.len(), "seed {seed}: listed twice");
        let after = tasks.lock().unwrap().all.iter().map(|task| task.0).collect();
        let missing: Vec<_> = before.intersection(&after).filter(|id| !once.contains(id)).collect();
        assert!(missing.is_empty(), "seed {seed}: {} are missing, as {:?}", missing.len(), missing.first());
    }
}

#[test]
fn tasks_that_come_meanwhile_do_no_harm() {
    let come = |tasks: &mut Tasks| {
        let &(id, second) = tasks.all.last().unwrap();
        for more in 1..=tasks.random.u64(1..400) {
            tasks.all.push((id + more, second + tasks.random.u64(1..3)));
        }
        tasks.all.sort_by_key(|task| (task.1, task.0));
    };
    for by_id in [false, true] {
        stays_exact(1200, 30, by_id, come);
    }
}

#[test]
fn tasks_that_go_meanwhile_do_no_harm() {
    let go = |tasks: &mut Tasks| {
        for _ in 0..tasks.random.usize(..150).min(tasks.all.len()) {
            let any = tasks.random.usize(..tasks.all.len());
            tasks.all.remove(any);
        }
    };
    let newest_go = |tasks: &mut Tasks| {
        let stay = tasks.all.len() - tasks.random.usize(..200).min(tasks.all.len());
        tasks.all.truncate(stay);
    };
    for by_id in [false, true] {
        stays_exact(1500, 30, by_id, go);
        stays_exact(1500, 30, by_id, newest_go);
        stays_exact(1500, 400, by_id, newest_go);
    }
}

#[test]
fn a_server_that_answers_nonsense_is_no_circle() {
    let always = |tasks: Vec<(u64, u64)>| {
        let items: Vec<Value> = tasks.into_iter().map(shown).collect();
        ScriptedServer::always(Answer::data(&json!(items)))
    };
    for server in [
        always((1..=60).map(|id| (id, id)).collect()),
        always((1..=60).rev().map(|id| (id, id)).collect()),
        always((1..=600).map(|id| (id, 1)).collect()),
    ] {
        assert!(matches!(listed(&server, u32::MAX), Err(Error::Inexact { .. })));
        assert!(server.requests().len() < 100);
    }
}

#[test]
fn names_are_exact_except_for_the_percent_sign() {
    let names = ["send_mail", "send.mail", "Send_Mail", "send_mails", "sendxmail", r"send\mail", "send%mail"];
    let items: Vec<Value> = names
        .iter()
        .zip(1..)
        .map(|(name, id)| json!({"id": id, "type": name, "status": "pending", "attempts": 0}))
        .collect();
    let server = ScriptedServer::always(Answer::data(&json!(items)));
    let client = client(&server);
    for (pattern, sent, wanted) in [
        ("send_mail", "send_mail", &[1][..]),
        ("send.mail", "send.mail", &[2]),
        ("Send_Mail", "Send_Mail", &[3]),
        ("SEND_MAIL", "SEND_MAIL", &[]),
        ("send_mail%", "send_mail%25", &[4, 1]),
        (r"send\mail", "send%25mail", &[6]),
        ("send%mail", "send%25mail", &[7, 6, 5, 2, 1]),
        ("send*", "send%2A", &[]),
    ] {
        let filter = TaskFilter { type_pattern: Some(pattern.into()), ..TaskFilter::default() };
        let mut found: Vec<u64> = client.tasks(&filter).unwrap().into_iter().map(|task| task.id.0).collect();
        found.sort_by_key(|id| std::cmp::Reverse(*id));
        assert_eq!(found, wanted, "{pattern}");
        assert!(server.calls().last().unwrap().ends_with(&format!("&type={sent}")), "{pattern}: {:?}", server.calls());
    }
    let one = TaskFilter { type_pattern: Some("send_mail".into()), limit: 1, ..TaskFilter::default() };
    assert_eq!(client.tasks(&one).unwrap()[0].id, TaskId(1));
}
