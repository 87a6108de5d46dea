//! Results for which the TaskManager has no room.

use serde_json::{Map, Value, json};

use crate::support::{EmbeddedTaskManager, Rig};

/// Longer than the TaskManager takes.
fn big() -> Value {
    json!({"page": {"html": "x".repeat(70_000), "lang": "cs"}, "count": 3})
}

fn kept() -> Value {
    json!({"page": {"lang": "cs"}, "count": 3})
}

/// The data of the only result in the results file.
fn stored(rig: &Rig) -> Value {
    serde_json::from_str(rig.rows("results")[0]["data"].as_str().unwrap()).unwrap()
}

const LEFT_OUT: &str = "too large for the TaskManager: sent without some of its parts";

#[test]
fn large_results_are_reported_without_their_largest_parts_with_a_note_in_log_and_history() {
    let rig = Rig::start();
    rig.sandbox.write("big.json", big().to_string());
    let id = rig.case("big", "cat big.json");
    let log = rig.drain().stderr;
    assert_eq!(log.lines().filter(|line| line.contains(LEFT_OUT) && line.contains("WARN")).count(), 1, "{log}");
    let reported = rig.taskmanager.task(id).result.unwrap();
    assert_eq!(
        (&reported["data"], &reported["data_omitted"], &reported["data_bytes"]),
        (&kept(), &json!(["page.html"]), &json!(big().to_string().len()))
    );
    assert_eq!(stored(&rig), big());
    let told = rig.sandbox.prismq(["explain", &id.to_string()]).run().exits(0).stdout;
    assert!(told.contains("sent without page.html; stored here in full"), "{told}");
    let told = rig.sandbox.prismq(["explain", &id.to_string(), "--json"]).run().exits(0).json();
    assert_eq!(told["attempts"][0]["omitted"], json!(["page.html"]));
    // Also where the TaskManager does not say so itself.
    let away = rig.sandbox.prismq(["explain", &id.to_string()]).env("TASKMANAGER_API_KEY", "wrong").run().exits(0);
    assert!(away.stdout.contains("without page.html"), "{}", away.stdout);
}

#[test]
fn complete_reports_large_results_without_their_largest_parts() {
    let rig = Rig::start();
    let id = rig.case("big", "");
    rig.sandbox.write("big.json", big().to_string());
    rig.sandbox.prismq(["claim", "case", "--once"]).run().exits(0);
    let output = rig.sandbox.prismq(["complete", &id.to_string(), "--result", "@big.json"]).run().exits(0);
    assert!(output.stderr.contains(LEFT_OUT), "{}", output.stderr);
    assert_eq!((rig.taskmanager.task(id).result.unwrap()["data"].take(), stored(&rig)), (kept(), big()));
}

#[test]
fn log_and_history_name_the_same_omitted_parts() {
    let many: Value =
        (0..2000).map(|n| (format!("key-{n:04}"), json!("x".repeat(100 + n % 7)))).collect::<Map<_, _>>().into();
    let results = [
        json!({"success": true, "data": {"html": "x".repeat(70_000)}, "message": "m".repeat(40_000)}),
        json!({"success": true, "data": many, "metadata": {"notes": "n".repeat(30_000)}}),
    ];
    for published in [false, true] {
        let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.faults.published = published), &[("case", "")]);
        for (number, result) in results.iter().enumerate() {
            rig.sandbox.write(&format!("{number}.json"), result.to_string());
            rig.case(&format!("case-{number}"), &format!("cat {number}.json"));
        }
        let log = rig.drain().stderr;
        let said: Vec<&str> =
            log.lines().filter_map(|line| line.split_once("without some of its parts ")).map(|it| it.1).collect();
        assert_eq!(said.len(), 2, "{log}");
        for said in said {
            let (id, words) = said.strip_prefix("task_id=").unwrap().split_once(" omitted=").unwrap();
            let words = words.trim_matches('"');
            let story = rig.sandbox.prismq(["explain", id]).run().exits(0).stdout;
            assert!(story.contains(&format!("sent without {words}; stored here in full\n")), "{said}: {story}");
        }
    }
}
