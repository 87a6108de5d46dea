//! Input and output of a child.

use std::time::Duration;

use serde_json::json;

use super::{Bench, failure};

#[test]
fn the_task_is_one_line_of_json() {
    let mut bench = Bench::new("tee copy; wc -l < copy >&2");
    bench.params = json!({"text": "two\nlines"});
    assert_eq!(
        bench.run().data,
        json!({
            "id": 12,
            "type": "example.any",
            "params": {"text": "two\nlines"},
            "attempt": 2,
            "priority": -1,
            "worker_id": "here-1",
            "deadline": "2026-01-01T00:05:00Z",
        })
    );
    assert_eq!(bench.stderr()[0].trim(), "1");
}

#[test]
fn a_child_may_read_a_large_task_whole() {
    let mut bench = Bench::new("wc -c");
    bench.params = json!({"text": "x".repeat(1 << 20)});
    assert!(bench.run().data.as_u64().unwrap() > 1 << 20);
}

#[test]
fn a_child_may_leave_without_reading_its_task() {
    let mut bench = Bench::new("echo 1");
    bench.params = json!({"text": "x".repeat(1 << 20)});
    assert_eq!(bench.run().data, json!(1));
}

#[test]
fn a_child_may_close_its_input_and_go_on() {
    let mut bench = Bench::new("head -c 1000 > start; exec <&-; sleep 0.1; echo 1; exit 65");
    bench.params = json!({"text": "x".repeat(1 << 20)});
    let outcome = bench.run();
    assert_eq!(outcome.data, json!(1));
    failure(&outcome, "validation");
}

#[test]
fn a_child_may_close_all_its_pipes_and_go_on() {
    let outcome = Bench::new("exec <&- >&- 2>&- 3>&-; sleep 0.1; exit 75").run();
    failure(&outcome, "temporary");
}

#[test]
fn a_child_is_ended_by_a_broken_pipe_as_any_program() {
    failure(&Bench::new("kill -PIPE $$; echo survived").run(), "crash");
}

#[test]
fn output_over_16_mib_is_an_error_and_the_end() {
    let (outcome, took) = Bench::new("head -c 17825792 /dev/zero; sleep 60").run_timed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    let failure = failure(&outcome, "handler");
    assert!(failure.error.contains("16 MiB"), "{}", failure.error);
    assert!(!failure.retryable && outcome.data.is_null());
}

#[test]
fn output_may_also_get_too_long_with_a_childs_last_breath() {
    let outcome = Bench::new("exec head -c 16777217 /dev/zero").run();
    assert!(failure(&outcome, "handler").error.contains("16 MiB"));
}

#[test]
fn a_large_output_arrives_whole() {
    let outcome = Bench::new("printf '\"'; head -c 4194304 /dev/zero | tr '\\0' x; printf '\"'").run();
    assert_eq!(outcome.data.as_str().unwrap().len(), 4 << 20);
}

#[test]
fn standard_error_comes_line_by_line() {
    let bench = Bench::new("echo one >&2; printf 'two\\r\\n\\nthree' >&2");
    bench.run();
    assert_eq!(bench.stderr(), ["one", "two", "", "three"]);
}

#[test]
fn standard_error_without_end_does_not_hold_up_the_time_out() {
    let mut bench = Bench::new("exec yes >&2");
    bench.timeout = Duration::from_millis(300);
    let (outcome, took) = bench.run_timed();
    failure(&outcome, "timeout");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn standard_error_is_capped_but_its_last_words_are_not() {
    let bench =
        Bench::new("yes 'what a program says when it goes mad' | head -c 3145728 >&2; printf '\\nbye' >&2; exit 1");
    assert!(failure(&bench.run(), "handler").error.ends_with("\nbye"));
    let lines = bench.stderr();
    assert!(lines.iter().map(String::len).sum::<usize>() <= (1 << 20) + 200);
    let (last, others) = lines.split_last().unwrap();
    assert!(last.contains("exceeds 1 MiB"), "{last}");
    assert!(!others.iter().any(|line| line.contains("exceeds 1 MiB")));
}

#[test]
fn progress_is_heard_and_garbage_among_it_named_once() {
    let bench = Bench::new(
        r#"exec >&$PRISMQ_PROGRESS_FD
        echo '{"progress":40,"message":"half"}'
        echo 'garbage'
        echo '{"progress":"50"}'
        echo '{"progress":101}'
        echo '{"progress":62.9,"message":7}'
        printf '{"progress":100}'"#,
    );
    bench.run();
    let listener = bench.listener.progress.lock().unwrap();
    assert_eq!(*listener, [(40, Some("half".into())), (62, None), (100, None)]);
    let stderr = bench.stderr();
    assert!(stderr.len() == 1 && stderr[0].contains("garbage"), "{stderr:?}");
}
