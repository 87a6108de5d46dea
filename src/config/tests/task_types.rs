//! The keys of `[[task_type]]`.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;

use super::super::{Action, Mode, Retry, TaskType};
use super::Machine;

#[test]
fn a_bare_task_type_has_its_defaults() {
    let machine = Machine::new().toml("[[task_type]]\nname = 'a'\n[[task_type]]\nname = 'b'\nretry = {}");
    let types = machine.config().task_types;
    assert_eq!(types[0], TaskType::new("a", machine.path("work")));
    assert_eq!((types[0].version.as_str(), types[0].retry.max_attempts), ("1.0.0", 1));
    let three = Retry { max_attempts: 3, backoff_factor: 2.0, delay: Duration::from_secs(1) };
    assert_eq!(types[1].retry, three);
}

#[test]
fn all_keys_of_a_task_type_are_read() {
    let machine = Machine::new().file("work/schemas/s.json", r#"{"type":"object"}"#).toml(
        r#"
        [[task_type]]
        name = "PrismQ.Script.Generate"
        version = "2.1.0"
        schema = "schemas/s.json"
        exec = ["python3", "generate.py"]
        mode = "persistent"
        max_tasks_per_process = 500
        timeout = "240s"
        concurrency = 2
        retry = { max_attempts = 4, backoff_factor = 1.5, delay = "100ms" }
        dir = "scripts"
        env = { MODEL = "small", PORT = 8080, FAST = true }
        pass_env = ["OPENAI_API_KEY"]
        clean_env = true
        "#,
    );
    let expected = TaskType {
        name: "PrismQ.Script.Generate".into(),
        version: "2.1.0".into(),
        schema: Some(json!({"type": "object"})),
        action: Some(Action::Program(vec!["python3".into(), "generate.py".into()])),
        timeout: Some(Duration::from_secs(240)),
        concurrency: Some(2),
        mode: Mode::Persistent { max_tasks: NonZeroU32::new(500) },
        retry: Retry { max_attempts: 4, backoff_factor: 1.5, delay: Duration::from_millis(100) },
        dir: machine.path("work/scripts"),
        env: [("MODEL", "small"), ("PORT", "8080"), ("FAST", "true")].map(|(a, b)| (a.into(), b.into())).into(),
        pass_env: vec!["OPENAI_API_KEY".into()],
        clean_env: true,
        subtitles: false,
    };
    assert_eq!(machine.config().task_types, [expected]);
}

#[test]
fn actions_and_inline_schemas_are_read() {
    let types = Machine::new()
        .toml(
            r#"
            [[task_type]]
            name = "a"
            exec = "wc -w"
            [task_type.schema]
            type = "object"
            properties.n = { type = "number", minimum = 0.5, maximum = 0x10, enum = [1, true] }
            [[task_type]]
            name = "b"
            handler = "echo"
            [[task_type]]
            name = "c"
            handler = "youtube.channel"
            subtitles = true
            "#,
        )
        .config()
        .task_types;
    assert_eq!(types[0].action, Some(Action::Shell("wc -w".into())));
    assert_eq!(types[1].action, Some(Action::BuiltIn("echo".into())));
    assert_eq!(types[2].action, Some(Action::BuiltIn("youtube.channel".into())));
    assert!(types[2].subtitles && types[2].reads_youtube() && !types[1].reads_youtube());
    let n = json!({"type": "number", "minimum": 0.5, "maximum": 16, "enum": [1, true]});
    assert_eq!(types[0].schema, Some(json!({"type": "object", "properties": {"n": n}})));
}

#[test]
fn invalid_task_types_are_refused() {
    for (text, problem) in [
        ("", "a task type needs a `name`"),
        ("name = 'a b'", "`name`: a task type's name is"),
        ("name = 'a'\nversion = 1", "`version`: must be a quoted string"),
        ("name = 'a'\nexec = 'x'\nhandler = 'echo'", "`handler`: a task type has `exec` or `handler`, not both"),
        ("name = 'a'\nexec = []", "`exec`: must name a program"),
        ("name = 'a'\nexec = ['']", "`exec`: must name a program"),
        ("name = 'a'\nexec = ['x', 1]", "`exec`: must be a list of strings"),
        ("name = 'a'\nexec = 1", "`exec`: must be a list such as"),
        ("name = 'a'\nhandler = 'ecko'", "`handler`: \"ecko\" is not a built-in handler"),
        ("name = 'a'\nhandler = 'youtube.serch'", "`handler`: \"youtube.serch\" is not a built-in handler"),
        ("name = 'a'\nhandler = 'youtube.video'\nsubtitles = 1", "`subtitles`: must be true or false"),
        ("name = 'a'\nhandler = 'echo'\nsubtitles = true", "`subtitles`: belongs to a handler that reads YouTube"),
        ("name = 'a'\nexec = 'x'\nsubtitles = false", "`subtitles`: belongs to a handler that reads YouTube"),
        ("name = 'a'\nmode = 'persistent'\nhandler = 'echo'", "`mode`: a built-in handler has no process to keep"),
        ("name = 'a'\nmode = 'twice'", "`mode`: \"twice\" is not a mode"),
        ("name = 'a'\nmax_tasks_per_process = 5", "`max_tasks_per_process`: belongs to mode = \"persistent\""),
        ("name = 'a'\nmode = 'once'\nmax_tasks_per_process = 5", "`max_tasks_per_process`: belongs to mode"),
        (
            "name = 'a'\nmode = 'persistent'\nmax_tasks_per_process = 0",
            "`max_tasks_per_process`: must be between 1 and 4294967295, not 0",
        ),
        ("name = 'a'\ntimeout = 0", "`timeout`: must be more than 0"),
        ("name = 'a'\nconcurrency = 0", "`concurrency`: must be between 1 and 1000, not 0"),
        ("name = 'a'\nretry = 3", "`retry`: must be a table"),
        ("name = 'a'\nretry = { max_attempts = 0 }", "`max_attempts`: must be between 1 and 4294967295, not 0"),
        (
            "name = 'a'\nretry = { backoff_factor = 0.5 }",
            "`backoff_factor`: must be a number of at least 1, such as 1.5, not \"0.5\"",
        ),
        (
            "name = 'a'\nretry = { backoff_factor = inf }",
            "`backoff_factor`: must be a number of at least 1, such as 1.5, not \"inf\"",
        ),
        ("name = 'a'\nenv = { A = [] }", "`env`: must be a table of strings"),
        ("name = 'a'\nenv = { 'A=B' = 'c' }", "`env`: must be a table of strings"),
        ("name = 'a'\npass_env = 'A'", "`pass_env`: must be a list of strings"),
        ("name = 'a'\nclean_env = 'yes'", "`clean_env`: must be true or false"),
        ("name = 'a'\nschema = true", "`schema`: must be the path of a JSON Schema"),
        ("name = 'a'\nschema = { maximum = inf }", "`schema`: contains a number that JSON cannot represent"),
        ("name = 'a'\n[[task_type]]\nname = 'a'", "the task type `a` is defined twice"),
    ] {
        let (message, _) = Machine::new().toml(&format!("[[task_type]]\n{text}")).error();
        let (place, rest) = message.split_once(": ").unwrap();
        assert!(place.starts_with("work/prismq.toml:") && rest.starts_with(problem), "{message:?}, not {problem:?}");
    }
}

#[test]
fn unusable_schema_files_are_named() {
    for (text, problem) in
        [(None, "cannot be read"), (Some("{"), "is not valid JSON"), (Some("[]"), "is not a JSON object")]
    {
        let mut machine = Machine::new().toml("[[task_type]]\nname = 'a'\nschema = 's.json'");
        if let Some(text) = text {
            machine = machine.file("work/s.json", text);
        }
        let (message, _) = machine.error();
        assert!(message.starts_with(&format!("work/prismq.toml:3: `schema`: work/s.json {problem}")), "{message}");
    }
}

#[test]
fn task_types_are_described() {
    for (text, description) in [
        ("", r#"a 1.0.0, exec ["wc", "-w"]"#),
        ("mode = 'once'", r#"a 1.0.0, exec ["wc", "-w"]"#),
        ("mode = 'persistent'", r#"a 1.0.0, exec ["wc", "-w"], persistent"#),
        (
            "mode = 'persistent'\nmax_tasks_per_process = 5",
            r#"a 1.0.0, exec ["wc", "-w"], persistent, 5 tasks per process"#,
        ),
    ] {
        let toml = format!("[[task_type]]\nname = 'a'\nexec = ['wc', '-w']\n{text}");
        let rows = Machine::new().toml(&toml).config().describe();
        let row = rows.last().unwrap();
        assert_eq!((row.name, row.value.as_str()), ("task_type", description));
        assert_eq!(row.origin, rows[0].origin);
    }
}

#[test]
fn numbers_of_an_inline_schema_keep_their_digits() {
    let schema = |number: &str| {
        let text = format!("[[task_type]]\nname = 'a'\nschema = {{ type = 'number', maximum = {number} }}");
        Machine::new().toml(&text)
    };
    for (number, digits) in [
        ("1_000.123456789012345678901", "1000.123456789012345678901"),
        ("+2.50", "2.50"),
        ("1e400", "1e+400"),
        ("0x10", "16"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("+9_223_372_036_854_775_808", "9223372036854775808"),
        ("0xffffffffffffffff", "18446744073709551615"),
    ] {
        let kept = schema(number).config().task_types[0].schema.clone().unwrap();
        assert_eq!(kept["maximum"].to_string(), digits);
    }
    for number in ["inf", "nan", &format!("0x{}", "f".repeat(33))] {
        let (error, _) = schema(number).error();
        assert!(error.contains("a number that JSON cannot represent"), "{number}: {error}");
    }
}
