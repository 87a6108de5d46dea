//! Shell completion, called as the script calls it.

use std::time::{Duration, Instant};

use crate::support::{ANY, Answer, NOBODY, Output, Rig, Sandbox, ScriptedServer, wait_for};

const CONFIG: &str = "[[task_type]]\nname = \"configured.one\"\n";

/// The completions of bash for the last of these words, by the script of `prismq completions bash`.
fn offered(sandbox: &Sandbox, url: &str, typed: &str) -> Output {
    let script = "source <(prismq completions bash)
        COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        _clap_complete_prismq prismq \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = crate::support::plain_program("bash", sandbox, url);
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_prismq")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    crate::support::output(bash.env("PATH", path).args(["-c", script, "bash"]).args(typed.split(' ')))
}

/// Completions that start with a letter, of an answer without messages: options are offered too if no word is begun.
#[track_caller]
fn words(output: &Output) -> Vec<&str> {
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""), "{output:?}");
    output.stdout.lines().filter(|word| word.starts_with(char::is_alphanumeric)).collect()
}

#[test]
fn task_types_are_those_of_the_configuration_and_of_the_taskmanager() {
    let rig = Rig::new();
    rig.sandbox.write("prismq.toml", CONFIG);
    let offers = |typed: &str| offered(&rig.sandbox, &rig.url(), typed);
    // On a busy machine, the TaskManager may not answer in the time that completion has.
    let are_offered = |typed: &str, expected: &[&str]| {
        wait_for(&format!("{expected:?} after {typed}"), || (words(&offers(typed)) == expected).then_some(()));
    };
    for typed in
        ["create-task ", "work ", "work --drain configured.one ", "claim ", "register-type ", "results --type "]
    {
        are_offered(&format!("prismq {typed}"), &["configured.one", ANY]);
    }
    are_offered("prismq create-task exa", &[ANY]);
    rig.run("register-type example.$(reboot) --schema {\"type\":\"object\"}").exits(0);
    are_offered("prismq create-task exa", &[ANY]); // what a shell would run is not offered
    assert_eq!(words(&offers(&format!("prismq --api-url {NOBODY} create-task "))), ["configured.one"]);
    rig.sandbox.write("other.toml", CONFIG.replace("one", "two"));
    assert_eq!(words(&offers("prismq create-task --config other.toml conf")), ["configured.two"]);
}

#[test]
fn commands_values_and_files_are_completed() {
    let sandbox = Sandbox::new();
    sandbox.write("tasks.jsonl", "");
    for (typed, expected) in [
        ("prismq li", &["list-types", "list-tasks"][..]),
        ("prismq work --strategy ", &["fifo", "lifo", "priority"]),
        ("prismq create-task a --from ta", &["tasks.jsonl"]),
        ("prismq stats --html ta", &["tasks.jsonl"]),
    ] {
        assert_eq!(words(&offered(&sandbox, NOBODY, typed)), expected, "{typed}");
    }
}

#[test]
fn completion_is_fast_and_prints_no_errors() {
    let sandbox = Sandbox::new();
    sandbox.write("prismq.toml", CONFIG);
    let server = ScriptedServer::always(Answer::hang());
    let start = Instant::now();
    assert_eq!(words(&offered(&sandbox, &server.url(), "prismq create-task ")), ["configured.one"]);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    sandbox.write("prismq.toml", "nonsense");
    assert_eq!(words(&offered(&sandbox, NOBODY, "prismq create-task ")), [] as [&str; 0]);
    assert_eq!(words(&offered(&sandbox, NOBODY, "prismq crea")), ["create-task"]);
}

#[test]
fn the_variable_alone_does_not_start_completion() {
    let sandbox = Sandbox::new().env("PRISMQ_COMPLETE", "bash");
    let version = concat!("prismq ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(sandbox.prismq(["--version"]).run().exits(0).stdout, version);
}
