//! Input and output of persistent processes.

use std::fs;
use std::time::Duration;

use crate::handler::ExecCommand;
use crate::task::Outcome;
use serde_json::{Value, json};

use super::persistent::{LOYAL, Warm};
use super::process::assert_ends;
use super::{RecordingListener, failure};

#[test]
fn the_task_is_the_same_line_as_for_a_process_of_its_own() {
    let warm = Warm::new("while next; do answer \"$line\"; done");
    for id in 1..=2 {
        let expected = json!({
            "id": id,
            "type": "example.any",
            "params": {"text": "two words"},
            "attempt": 2,
            "priority": -1,
            "worker_id": "here-1",
            "deadline": "2026-01-01T00:05:00Z",
        });
        assert_eq!(warm.give(json!({"text": "two words"})), Outcome::success(expected));
    }
}

#[test]
fn the_envelope_is_kept_whole() {
    let warm = Warm::new(
        r#"next; echo "{\"id\":1,\"success\":true,\"data\":[1],\"message\":\"well\",\"metadata\":{\"model\":\"small\"}}"
        next; echo "{\"id\":2,\"success\":false,\"error\":\"no such video\",\"error_type\":\"not_found\",\"retryable\":true}"
        next; echo "{\"id\":3,\"success\":false}""#,
    );
    let outcome = warm.give(json!({}));
    assert_eq!((outcome.failure, outcome.data, outcome.message.as_deref()), (None, json!([1]), Some("well")));
    assert_eq!(Value::Object(outcome.metadata), json!({"model": "small"}));
    let refused = failure(&warm.give(json!({})), "not_found");
    assert_eq!((refused.error.as_str(), refused.retryable), ("no such video", true));
    assert!(!failure(&warm.give(json!({})), "handler").retryable);
}

#[test]
fn last_words_are_those_of_the_task_at_hand() {
    let warm = Warm::new(
        r#"next; echo loading >&2; echo first >&2; answer 1
        next; answer 2
        next; echo third >&2; echo "{\"id\":3,\"success\":false,\"error\":\"no\"}"
        next; echo fourth >&2; exit 1"#,
    );
    let said = || warm.give(json!({})).stderr_tail;
    assert_eq!([said(), said(), said(), said()], ["loading\nfirst", "", "third", ""]);
}

#[test]
fn progress_comes_by_both_ways_and_garbage_is_named_once() {
    let warm = Warm::new(
        r#"while next; do
            echo "{\"id\":$id,\"progress\":40,\"message\":\"half\"}"
            echo "{\"id\":$id,\"progress\":101}"
            echo "{\"id\":$id,\"progress\":\"50\"}"
            echo "{\"id\":$id,\"progress\":62.9}"
            answer null
            next
            echo '{"progress":70}' >&3
            answer null
        done"#,
    );
    let [first, second] = [RecordingListener::new(), RecordingListener::new()];
    warm.give_heard(json!({}), &first);
    warm.give_heard(json!({}), &second);
    assert_eq!(*first.progress.lock().unwrap(), [(40, Some("half".into())), (62, None)]);
    assert_eq!(*second.progress.lock().unwrap(), [(70, None)]);
    let stderr = first.stderr.lock().unwrap();
    assert!(
        stderr.len() == 1 && stderr[0].contains("invalid progress report") && stderr[0].contains("101"),
        "{stderr:?}"
    );
}

#[test]
fn standard_error_belongs_to_the_task_at_hand() {
    let warm = Warm::new("while next; do echo one $id >&2; printf 'two %s' $id >&2; answer 1; done");
    for id in 1..=200 {
        let listener = RecordingListener::new();
        warm.give_heard(json!({}), &listener);
        assert_eq!(*listener.stderr.lock().unwrap(), [format!("one {id}"), format!("two {id}")]);
    }
}

#[test]
fn stderr_of_a_process_that_died_between_tasks_arrives_with_the_next_task() {
    let warm = Warm::new(
        "[ -e died ] && next && answer 2; touch died; next; answer $$
        until [ -e go ]; do sleep 0.03; done; echo 'out of luck' >&2; exit 1",
    );
    let first = warm.pid();
    std::fs::write(warm.bench.path("go"), "").unwrap();
    assert_ends(first);
    let listener = RecordingListener::new();
    assert_eq!(warm.give_heard(json!({}), &listener), Outcome::success(json!(2)));
    let stderr = listener.stderr.lock().unwrap();
    assert!(stderr.len() == 2 && stderr[0].contains("process replaced") && stderr[1] == "out of luck", "{stderr:?}");
}

#[test]
fn the_last_lines_of_standard_error_are_the_error_of_their_own_task() {
    let warm = Warm::new("while next; do echo reason $id >&2; echo \"{\\\"id\\\":$id,\\\"success\\\":false}\"; done");
    for id in 1..=3 {
        assert_eq!(failure(&warm.give(json!({})), "handler").error, format!("reason {id}"));
    }
}

#[test]
fn nothing_that_is_said_holds_a_secret() {
    let warm = Warm::with(
        r#"next
        echo "a hunter2 on stderr" >&2
        echo "{\"id\":1,\"progress\":1,\"message\":\"hunter2\"}"
        answer '{"hunter2":["hunter2"]}'
        next; echo "nonsense hunter2""#,
        None,
        |bench| bench.settings.secrets = vec!["hunter2".into()],
    );
    let listener = RecordingListener::new();
    let outcome = warm.give_heard(json!({}), &listener);
    assert_eq!((outcome.data, outcome.stderr_tail.as_str()), (json!({"***": ["***"]}), "a *** on stderr"));
    assert_eq!(*listener.stderr.lock().unwrap(), ["a *** on stderr"]);
    assert_eq!(*listener.progress.lock().unwrap(), [(1, Some("***".into()))]);
    let error = failure(&warm.give(json!({})), "handler").error;
    assert!(error.ends_with("\"nonsense ***\""), "{error}");
}

#[test]
fn a_large_task_and_a_large_answer_arrive_whole() {
    let warm = Warm::new(
        r#"next; answer ${#line}
        next; printf '{"id":2,"success":true,"data":"'; head -c 4194304 /dev/zero | tr '\0' x; echo '"}'"#,
    );
    assert!(warm.give(json!({"text": "x".repeat(1 << 20)})).data.as_u64().unwrap() > 1 << 20);
    assert_eq!(warm.give(json!({})).data.as_str().unwrap().len(), 4 << 20);
}

#[test]
fn a_line_over_16_mib_fails_the_task_and_ends_the_process() {
    let warm = Warm::new("next; head -c 17825792 /dev/zero; sleep 60");
    let failure = failure(&warm.give(json!({})), "handler");
    assert!(failure.error.contains("16 MiB") && !failure.retryable, "{failure:?}");
}

#[test]
fn a_process_that_does_not_read_holds_up_nobody() {
    let mut warm = Warm::new("sleep 60");
    warm.bench.timeout = Duration::from_millis(300);
    failure(&warm.give(json!({"text": "x".repeat(1 << 20)})), "timeout");
}

#[test]
fn the_environment_holds_what_is_the_same_for_every_task() {
    let names = ["WORKER_ID", "TASK_TYPE", "PROGRESS_FD", "TASK_ID", "ATTEMPT", "DEADLINE"];
    let values = names.map(|name| format!("\\\"${{PRISMQ_{name}-unset}}\\\"")).join(",");
    let warm = Warm::new(&format!("next; answer \"[{values}]\""));
    let expected = json!(["here-1", "example.any", "3", "unset", "unset", "unset"]);
    assert_eq!(warm.give(json!({})), Outcome::success(expected));
}

#[cfg(target_os = "linux")]
#[test]
fn processes_have_no_file_open_but_their_four() {
    let line = r#"read -r line; (ls /proc/$$/fd > files); echo '{"id":1,"success":true}'; read -r line"#;
    let warm = Warm::with("", None, |bench| bench.settings.command = ExecCommand::Shell(line.into()));
    let other = Warm::new(LOYAL);
    other.pid();
    assert_eq!(warm.give(json!({})).failure, None);
    assert_eq!(fs::read_to_string(warm.bench.path("files")).unwrap(), "0\n1\n2\n3\n");
}
