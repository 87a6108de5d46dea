//! Help, the version, completions, and errors of invalid command lines.

use std::process::Stdio;

use crate::support::{NOBODY, Output, Rig, Sandbox, complains, complains_in_json, plain};

fn run(line: &str) -> Output {
    Sandbox::new().prismq(line.split_whitespace()).run()
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = run("--version").exits(0);
    assert_eq!(
        (version.stdout.as_str(), version.stderr.as_str()),
        (concat!("prismq ", env!("CARGO_PKG_VERSION"), "\n"), "")
    );
    let help = run("--help").exits(0);
    assert_eq!(help.stderr, "");
    for command in [
        "init",
        "register-type",
        "create-task",
        "claim",
        "complete",
        "fail",
        "progress",
        "work",
        "health",
        "stats",
        "list-types",
        "list-tasks",
        "show-task",
        "explain",
        "replay",
        "results",
        "serve",
        "demo",
        "config",
        "completions",
        "man",
    ] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command} is not in the help");
        let of_command = run(&format!("{command} --help")).exits(0);
        assert!(of_command.stdout.contains(&format!("prismq {command}")) && of_command.stderr.is_empty());
    }
    for code in ["0  done", "3  no task to claim", "5  the TaskManager refused the key", "130  interrupted"] {
        assert!(help.stdout.contains(code), "{code} is not in the help");
    }
}

#[test]
fn without_a_command_help_is_shown() {
    let help = Sandbox::new().prismq([]).run().exits(2).stderr;
    assert!(help.lines().count() <= 30 && help.lines().all(|line| line.len() <= 85), "{help}");
    assert!(help.contains("\n  work ") && help.contains("\n  man ") && !help.contains("--api-url"), "{help}");
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&format!("completions {shell}")).exits(0);
        assert!(output.stdout.contains("PRISMQ_COMPLETE") && output.stdout.contains("prismq"), "{shell}");
        assert_eq!(output.stderr, "");
    }
    run("completions tcsh").exits(2);
}

#[test]
fn every_command_has_a_man_page() {
    let printed = run("man").exits(0);
    assert_eq!(printed.stderr, "");
    let sandbox = Sandbox::new();
    let written = sandbox.prismq(["man", "--dir", "share/man1"]).run().exits(0);
    assert_eq!((written.stdout.as_str(), written.stderr.as_str()), ("", ""));
    assert_eq!(sandbox.read("share/man1/prismq.1"), printed.stdout);
    for (command, option) in [("work", "drain"), ("create-task", "priority"), ("man", "dir")] {
        let page = sandbox.read(&format!("share/man1/prismq-{command}.1"));
        assert!(page.starts_with(".ie") && page.contains(&format!("\\-\\-{option}")), "{command}: {page}");
        assert!(printed.stdout.contains(&format!("prismq\\-{}(1)", command.replace('-', "\\-"))), "{command}");
    }
    sandbox.write("file", "");
    complains(&sandbox.prismq(["man", "--dir", "file/man"]).run(), 2, &["--dir", "file/man"]);
}

#[test]
fn completions_do_not_depend_on_settings() {
    let sandbox = Sandbox::new();
    sandbox.write("prismq.toml", "nonsense");
    sandbox.write(".env", "nonsense");
    sandbox.prismq(["completions", "bash"]).run().exits(0);
    sandbox.prismq(["--help"]).run().exits(0);
    sandbox.prismq(["man"]).run().exits(0);
}

#[test]
fn an_invalid_command_line_is_exit_code_2() {
    for line in ["", "wurk", "create-task", "claim --nonsense", "complete x", "--log-level loud list-types"] {
        let output = run(line).exits(2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{line}: {output:?}");
    }
}

#[test]
fn parser_errors_are_one_json_error() {
    for (line, error, hint) in [
        ("wurk --json", "wurk", "`work`"),
        ("--json", "command", "prismq --help"),
        ("--json create-task", "TYPE", "prismq create-task --help"),
        ("--json fail 7", "--error", "prismq fail --help"),
        ("claim --jsn --json", "--jsn", "--json"),
        ("progress 7 101 --json", "101", "prismq progress --help"),
    ] {
        let complaint = complains_in_json(&run(line), 2);
        let has = |key: &str, words: &str| complaint[key].as_str().is_some_and(|text| text.contains(words));
        assert!(has("error", error) && has("hint", hint), "{line}: {complaint}");
        assert!(!complaint["error"].as_str().unwrap().starts_with("error"), "{complaint}");
    }
}

#[test]
fn errors_are_json_with_json() {
    let rig = Rig::new();
    let nobody = rig.spawn(&format!("list-tasks --json --api-url {NOBODY}"));
    for (line, code) in [
        ("show-task 7 --json", 1),
        ("create-task no.such a=1 --json", 2),
        ("create-task example.any --params x --json", 2),
        ("claim example.any --once --json", 3),
        ("complete 7 --json", 1),
        ("results 7 --json", 1),
        ("list-types --json --results r.db --config nofile", 2),
    ] {
        complains_in_json(&rig.run(line), code);
    }
    let error = complains_in_json(&nobody.wait(), 4);
    assert!(error["error"].as_str().unwrap().contains(NOBODY), "{error}");
}

#[test]
fn a_closed_standard_error_does_not_change_the_result() {
    let rig = Rig::new();
    for (line, code, stdout) in [
        ("show-task 7", 1, ""),
        ("wurk", 2, ""),
        ("wurk --json", 2, ""),
        ("create-task example.any a=1", 0, "1\n"),
        ("create-task example.any a=1 -vv", 0, "1\n"),
        ("claim example.any --once --json -vv", 0, "{"),
        ("claim example.any --once", 3, ""),
        ("create-task example.any --from /dev/null", 0, ""),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = plain(&rig.sandbox, &rig.url());
        let output = command.args(line.split(' ')).stdin(Stdio::null()).stderr(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(output.stdout.starts_with(stdout.as_bytes()), "{line}");
    }
}

#[test]
fn a_closed_standard_output_ends_quietly() {
    let rig = Rig::new();
    for line in ["list-types", "list-tasks --json", "config", "completions bash", "stats", "health", "--help"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = plain(&rig.sandbox, &rig.url());
        let output = command.args(line.split(' ')).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked") && !stderr.contains("prismq: "), "{line}: {stderr}");
        assert!(matches!(output.status.code(), Some(0)), "{line}: {:?} {stderr}", output.status);
    }
}

#[test]
fn a_claimed_task_is_named_even_if_it_cannot_be_printed() {
    let rig = Rig::new();
    rig.run("create-task example.any a=1").exits(0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = plain(&rig.sandbox, &rig.url());
    let output = command.args(["claim", "example.any"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("prismq complete 1"));
    rig.run("complete 1").exits(0);
}

#[test]
fn a_misspelt_type_gets_a_suggestion() {
    let rig = Rig::new();
    rig.sandbox.write("one.jsonl", "{\"a\":1}\n");
    for line in ["create-task exmaple.any a=1", "create-task Example.Anny --from one.jsonl", "claim example.an --once"]
    {
        complains(&rig.run(line), 2, &["the TaskManager has no task type", "did you mean example.any?"]);
    }
    complains(&rig.run("create-task no.such a=1"), 2, &["register it: prismq register-type no.such"]);
}
