//! Numbers pass digit for digit: from whoever gives them through the TaskManager and the handler to every report.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{EmbeddedTaskManager, Output, Rig};

/// Numbers that no float and no 64 bits hold, and spellings that a float loses.
const NUMBERS: &str = "[18446744073709551615,18446744073709551616,-9223372036854775809,\
    123456789012345678901234567890123456789012345678901234567890,9007199254740993,0.1234567890123456789012345,\
    3.14159265358979323846264338327950288,100000000000000000000.5,1.0,1.1,-0.0,0.0,1e+400,-1e-400,100.0,1e+22]";

/// Types whose handlers give back the params, each in its own way.
const TYPES: &str = r#"
[[task_type]]
name = "built-in"
handler = "echo"

[[task_type]]
name = "once"
exec = "sed 's/.*\"params\":{\"n\":\\(.*\\]\\)}.*/{\"n\":\\1}/'"

[[task_type]]
name = "warm"
exec = ["sh", "warm.sh"]
mode = "persistent"
"#;

fn rig() -> Rig {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[]);
    rig.sandbox.write("prismq.toml", TYPES);
    let answer =
        "while next; do answer \"{\\\"n\\\":[$(echo \"$line\" | sed 's/.*\"n\":\\[\\([^]]*\\)\\].*/\\1/')]}\"; done";
    rig.script("warm", &format!("{}{answer}", include_str!("../support/talk.sh")));
    for name in ["built-in", "once", "warm"] {
        rig.taskmanager.register(name);
    }
    rig
}

/// The output as JSON without white space; numbers stay as they were printed.
fn compact(output: &Output) -> String {
    output.stdout.split_whitespace().collect()
}

#[test]
fn numbers_pass_digit_for_digit_from_every_source_to_every_report() {
    let rig = rig();
    let params = format!("{{\"n\":{NUMBERS}}}");
    for (id, name) in [("1", "built-in"), ("2", "once"), ("3", "warm")] {
        rig.sandbox.prismq(["create-task", name, "--params", &params]).run().exits(0);
        rig.drain();
        let task = rig.sandbox.prismq(["show-task", id, "--json"]).run().exits(0);
        assert_eq!(compact(&task).matches(NUMBERS).count(), 2, "params and result of {name}: {}", task.stdout);
        let listed = rig.sandbox.prismq(["results", id, "--format", "jsonl"]).run().exits(0);
        assert_eq!(compact(&listed).matches(NUMBERS).count(), 2, "{name}: {}", listed.stdout);
        for command in [&["results", id, "--format", "csv"][..], &["explain", id, "--json"], &["replay", id]] {
            let output = rig.sandbox.prismq(command.iter().copied()).run().exits(0);
            assert!(compact(&output).contains(NUMBERS), "{command:?} of {name}: {}", output.stdout);
        }
    }
}

#[test]
fn each_way_to_give_params_keeps_every_digit() {
    let rig = rig();
    let params = format!("{{\"n\":{NUMBERS}}}");
    rig.sandbox.write("params.json", &params);
    let prismq = |arguments: &[&str]| rig.sandbox.prismq([&["create-task", "built-in"], arguments].concat());
    let pair = format!("n:={NUMBERS}");
    assert_eq!(prismq(&[&pair]).run().exits(0).stdout, "1\n");
    for (arguments, stdin) in [
        (vec!["--params", &params], ""),
        (vec!["--params", "@params.json"], ""),
        (vec!["--params", "-"], params.as_str()),
        (vec!["--from", "params.json"], ""),
        (vec!["--from", "-"], params.as_str()),
    ] {
        let output = prismq(&arguments).stdin(stdin).run().exits(0);
        assert_eq!(output.stdout, "1\n", "{arguments:?}: the same bytes are the same task");
    }
    assert!(compact(&rig.sandbox.prismq(["show-task", "1"]).run()).contains(NUMBERS));
}

#[test]
fn numbers_that_differ_in_their_last_digit_are_two_tasks() {
    let rig = rig();
    let pairs = [
        ("18446744073709551616", "18446744073709551617"),
        ("-9223372036854775809", "-9223372036854775810"),
        ("100000000000000000000000000000000000001", "100000000000000000000000000000000000002"),
        ("0.12345678901234567890", "0.12345678901234567891"),
        ("1e400", "1e401"),
        ("1", "1.0"),
    ];
    let lines = pairs.map(|(one, other)| format!("{{\"n\":{one}}}\n{{\"n\":{other}}}\n")).concat();
    let output = rig.sandbox.prismq(["create-task", "built-in", "--from", "-"]).stdin(lines).run().exits(0);
    let ids: BTreeSet<&str> = output.stdout.lines().collect();
    assert_eq!(ids.len(), 12, "{}", output.stdout);
}

#[test]
fn claim_and_complete_keep_every_digit() {
    let rig = rig();
    rig.sandbox.prismq(["create-task", "built-in", "--params", &format!("{{\"n\":{NUMBERS}}}")]).run().exits(0);
    let claimed = rig.sandbox.prismq(["claim", "built-in", "--once"]).run().exits(0);
    assert!(compact(&claimed).contains(NUMBERS), "{}", claimed.stdout);
    let result = format!("{{\"n\":{NUMBERS}}}");
    rig.sandbox.prismq(["complete", "1", "--result", &result]).run().exits(0);
    let task = rig.sandbox.prismq(["show-task", "1", "--json"]).run().exits(0);
    assert_eq!(compact(&task).matches(NUMBERS).count(), 2, "{}", task.stdout);
}

#[test]
fn spellings_of_one_number_make_one_task() {
    let rig = rig();
    let create = |n: &str| rig.sandbox.prismq(["create-task", "built-in", &format!("n:={n}")]).run().exits(0).stdout;
    for spellings in [&["2.5", "2.50", "25e-1"][..], &["100.0", "1e2", "1E+2"], &["-0", "-0.0"], &["1e23", "1.0e23"]] {
        let ids: BTreeSet<String> = spellings.iter().map(|n| create(n)).collect();
        assert_eq!(ids.len(), 1, "{spellings:?}");
    }
    rig.sandbox.prismq(["claim", "built-in", "--once"]).run().exits(0);
    rig.sandbox.prismq(["complete", "1", "--result", "[2.50,-0,1.10]"]).run().exits(0);
    let task = rig.sandbox.prismq(["show-task", "1", "--json"]).run().exits(0);
    assert!(compact(&task).contains("[2.50,-0,1.10]"), "{}", task.stdout);
}

#[test]
fn a_schema_counts_every_digit() {
    let rig = rig();
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer","maximum":18446744073709551617}}}"#;
    rig.sandbox.prismq(["register-type", "built-in", "--schema", schema]).run().exits(0);
    let create = |n: &str| rig.sandbox.prismq(["create-task", "built-in", &format!("n:={n}")]).run();
    create("18446744073709551617").exits(0);
    create("1e18").exits(0);
    for n in ["18446744073709551618", "1e400", "1e999999999", "18446744073709551616.5"] {
        let output = create(n).exits(1);
        assert!(output.stderr.contains("Parameter validation failed: /n: "), "{n}: {}", output.stderr);
    }
}

#[test]
fn a_number_may_have_1000_characters() {
    let rig = rig();
    let create = |n: &str| rig.sandbox.prismq(["create-task", "built-in", &format!("n:={n}")]).run();
    create(&"9".repeat(1000)).exits(0);
    let refused = create(&"9".repeat(1001)).exits(2);
    assert!(refused.stderr.contains("a number of more than 1000 characters at line 1 column 1"), "{}", refused.stderr);
    rig.drain();
    assert_eq!(rig.taskmanager.task(1).result.unwrap()["data"]["n"].to_string(), "9".repeat(1000));
}

#[test]
fn a_key_by_which_the_json_library_means_a_number_is_refused() {
    let rig = rig();
    for params in [r#"{"$serde_json::private::Number":"1"}"#, r#"{"a":{"$serde_json::private::RawValue":"1"}}"#] {
        let output = rig.sandbox.prismq(["create-task", "built-in", "--params", params]).run().exits(2);
        assert!(output.stderr.contains("reserved") || output.stderr.contains("not valid JSON"), "{}", output.stderr);
    }
    assert_eq!(rig.taskmanager.client().tasks(&prismq::internals::taskmanager::TaskFilter::default()).unwrap(), []);
    rig.taskmanager.create("built-in", json!({"n": 1}));
}
