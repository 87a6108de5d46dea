//! Secrets that a handler prints.

use crate::task::Outcome;
use serde_json::{Value, json};

use super::{Bench, failure};

/// A script whose secrets include `hunter2` and `correct horse "battery"`.
fn telling(script: &str) -> Bench {
    let mut bench = Bench::new(script);
    bench.settings.secrets = ["hunter2", "correct horse \"battery\"", "abc", ""].map(String::from).to_vec();
    bench
}

#[test]
fn a_result_holds_no_secret() {
    for (script, data) in [
        ("echo 'a hunter2, as text'", json!({"output": "a ***, as text"})),
        (r#"echo '{"hunter2":["hunter2",{"deep":"x hunter2 y"}]}'"#, json!({"***": ["***", {"deep": "x *** y"}]})),
        (r#"echo '"hunter\u0032"'"#, json!("***")),
        (r#"echo '"correct horse \"battery\""'"#, json!("***")),
        ("printf hun; sleep 0.02; printf ter; sleep 0.02; printf 2", json!({"output": "***"})),
        ("head -c 65533 /dev/zero | tr '\\0' x; echo hunter2", json!({"output": "x".repeat(65533) + "***"})),
        ("echo '\"abc\"'", json!("abc")),
    ] {
        assert_eq!(telling(script).run(), Outcome::success(data), "{script}");
    }
}

#[test]
fn an_envelope_holds_no_secret() {
    let outcome = telling(
        r#"echo '{"success":false,"error":"no hunter2","error_type":"hunter2","message":"hunter2!",
            "data":"hunter2","metadata":{"hunter2":"hunter2"}}'"#,
    )
    .run();
    assert_eq!(failure(&outcome, "***").error, "no ***");
    assert_eq!((outcome.data, outcome.message.as_deref()), (json!("***"), Some("***!")));
    assert_eq!(Value::Object(outcome.metadata), json!({"***": "***"}));
}

#[test]
fn standard_error_and_last_words_hold_no_secret() {
    let bench =
        telling("printf 'hun' >&2; sleep 0.02; echo 'ter2 refused' >&2; echo correct horse '\"battery\"' >&2; exit 1");
    assert_eq!(failure(&bench.run(), "handler").error, "*** refused\n***");
    assert_eq!(bench.stderr(), ["*** refused", "***"]);

    assert_eq!(telling("echo hunter2 >&2").run().stderr_tail, "***");

    let bench = telling("echo hunter2 >&2; kill -KILL $$");
    assert!(failure(&bench.run(), "crash").error.ends_with("\n***"));
}

#[test]
fn progress_holds_no_secret() {
    let bench = telling(
        r#"echo '{"progress":40,"message":"with hunter\u0032"}' >&3
        echo 'progress hunter2' >&3"#,
    );
    bench.run();
    assert_eq!(*bench.listener.progress.lock().unwrap(), [(40, Some("with ***".into()))]);
    let stderr = bench.stderr();
    assert!(stderr.len() == 1 && stderr[0].contains("\"progress ***\""), "{stderr:?}");
}
