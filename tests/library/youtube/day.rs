//! The daily quota through the real binary, shared by the workers of a results file.

use serde_json::json;

use super::binary::{SEARCH, VIDEO, registered};
use super::standin::{YouTube, error, id, quota_exceeded, video};
use crate::support::Rig;

fn create_searches(rig: &Rig, count: u64) -> Vec<u64> {
    (0..count).map(|n| rig.create(SEARCH, &json!({"search_query": format!("bees {n}")}))).collect()
}

#[test]
fn a_type_without_quota_does_not_hold_up_others() {
    let api = YouTube::start().with_videos((1..=3).map(video));
    let rig = registered(&api);
    let searches = create_searches(&rig, 3);
    let work = || rig.prismq("work --drain").env("YOUTUBE_DAILY_QUOTA_LIMIT", "210").run();
    let first = work().exits(1);
    assert!(first.stderr.contains(&format!("tasks left: {SEARCH} is snoozed until")), "{}", first.stderr);
    assert_eq!(first.stderr.matches("YouTube quota low").count(), 1, "{}", first.stderr);
    assert_eq!(
        (rig.task(searches[1])["status"].clone(), rig.task(searches[2])["attempts"].clone()),
        (json!("completed"), json!(0))
    );
    // Another worker with the same file knows that before its first claim.
    let single = rig.create(VIDEO, &json!({"video_id": id(1)}));
    work().exits(1);
    assert_eq!(
        (&rig.task(single)["status"], &rig.task(searches[2])["status"]),
        (&json!("completed"), &json!("pending"))
    );
    let show = |command: &str| rig.prismq(command).env("YOUTUBE_DAILY_QUOTA_LIMIT", "210").run().exits(0).json();
    // All videos of the first search are in the cache.
    assert_eq!(
        (&show("stats --json")["youtube_quota"]["used"], &show("health --json")["youtube_api"]["left"]),
        (&json!(201), &json!(9))
    );
    rig.run(&format!("claim {SEARCH} --once --run")).exits(0);
}

#[test]
fn an_exhausted_quota_snoozes_all_types() {
    let api = YouTube::start().with_videos((1..=3).map(video));
    let rig = registered(&api);
    let searches = create_searches(&rig, 2);
    api.answer_with([quota_exceeded()]);
    let log = rig.run("work --drain").exits(1).stderr;
    let held: Vec<_> = log.lines().filter(|line| line.contains("task type snoozed")).collect();
    assert_eq!(held.len(), 3, "{log}");
    assert!(held.iter().any(|line| line.contains("today's YouTube quota is used up")), "{log}");
    assert_eq!(rig.task(searches[1])["attempts"], 0);
    let refused = rig.run(&format!("claim {SEARCH} --once --run")).exits(3).stderr;
    assert!(refused.contains("is snoozed until"), "{refused}");
}

#[test]
fn a_key_that_is_not_accepted_holds_its_type() {
    let api = YouTube::start();
    let rig = registered(&api);
    let searches = create_searches(&rig, 2);
    api.answer_with([error(400, "API key not valid. Please pass a valid API key.", "global", "badRequest")]);
    let log = rig.run("work --drain").exits(1).stderr;
    assert!(log.contains("task type snoozed") && log.contains("YouTube refused the API key"), "{log}");
    assert_eq!(rig.task(searches[1])["attempts"], 0);
    assert_eq!(rig.run("health --json").json()["youtube_api"]["used"], 0, "that cost nothing");
}
