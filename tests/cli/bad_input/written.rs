//! Files as editors and shells make them: with a byte order mark, in UTF-16, as a pipe or a link, under `~`.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::json;

use crate::support::{ANY, Rig, Sandbox, complains, output, plain};

fn utf_16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_byte_order_mark_is_skipped_in_every_file() {
    let rig = Rig::new();
    let write = |name: &str, text: &str| rig.sandbox.write(name, format!("\u{feff}{text}"));
    write(".env", "WORKER_ID=dot-env\n");
    write("prismq.toml", "max_tasks = 7\n[[task_type]]\nname = \"example.marked\"\nschema = \"schema.json\"\n");
    write("schema.json", "{\"type\":\"object\"}");
    write("params.json", "{\"n\":1}");
    write("params.jsonl", "{\"n\":2}\n\u{feff}{\"n\":3}\n");
    write("key", "the-key\n");
    write("result.json", "{\"words\":3}");
    let pem = include_bytes!("../../fixtures/ca.pem");
    rig.sandbox.write("ca.pem", ["\u{feff}".as_bytes(), pem].concat());
    let config = rig.prismq("config").env("TASKMANAGER_API_KEY_FILE", "key").run().exits(0).stdout;
    assert!(config.contains("dot-env") && config.contains("max_tasks            7"), "{config}");
    rig.run("register-type --all").exits(0);
    rig.run("register-type example.again --schema schema.json").exits(0);
    let inline = "\u{feff}{\"type\":\"object\"}";
    rig.sandbox.prismq(["register-type", "example.inline", "--schema", inline]).run().exits(0);
    for (line, stdin, printed) in [
        ("create-task example.any --params @params.json", "", "1\n"),
        ("create-task example.any --from params.jsonl --concurrency 1", "", "2\n3\n"),
        ("create-task example.any --params -", "\u{feff}{\"n\":4}", "4\n"),
        ("create-task example.any --from -", "\u{feff}{\"n\":5}", "5\n"),
    ] {
        assert_eq!(rig.prismq(line).stdin(stdin).run().exits(0).stdout, printed);
    }
    rig.run("claim example.any --once").exits(0);
    rig.run("complete 1 --result @result.json").exits(0);
    assert_eq!(rig.task(1)["result"]["data"], json!({"words": 3}));
    rig.prismq("list-types").env("PRISMQ_CA_FILE", "ca.pem").run().exits(0);
}

#[test]
fn other_encodings_are_named() {
    let rig = Rig::new();
    rig.sandbox.write("wide.json", utf_16("{\"n\":1}\n{\"n\":2}\n"));
    rig.sandbox.write("wide.txt", utf_16("the-key\n"));
    rig.sandbox.write("wide.pem", utf_16(&String::from_utf8_lossy(include_bytes!("../../fixtures/ca.pem"))));
    for (line, place) in [
        ("create-task example.any --params @wide.json", "--params @wide.json: "),
        ("create-task example.any --from wide.json", "--from wide.json: "),
        ("register-type example.any --schema wide.json", "--schema wide.json: "),
        ("complete 1 --result @wide.json", "--result @wide.json: "),
    ] {
        complains(&rig.run(line), 2, &[place, "UTF-16 or UTF-32, not UTF-8"]);
    }
    let piped = rig.prismq("create-task example.any --from -").stdin(utf_16("{\"n\":1}\n")).run();
    complains(&piped, 2, &["--from (standard input): ", "UTF-16"]);
    for (name, file) in [("TASKMANAGER_API_KEY_FILE", "wide.txt"), ("PRISMQ_CA_FILE", "wide.pem")] {
        complains(&rig.prismq("list-types").env(name, file).run(), 2, &[file, "UTF-16"]);
    }
    for (name, text) in [("prismq.toml", "max_tasks = 7\n"), (".env", "WORKER_ID=me\n")] {
        let path = rig.sandbox.write(name, utf_16(text));
        complains(&rig.run("config"), 2, &[&format!("{name}:1: it is UTF-16")]);
        fs::write(&path, b"# one\nx = \"\xff\"\n").unwrap();
        complains(&rig.run("config"), 2, &[&format!("{name}:2: byte 12 is not UTF-8")]);
        fs::remove_file(path).unwrap();
    }
}

/// Creates a file that is not regular, of the kind that its name says.
fn make(kind: &str, sandbox: &Sandbox, name: &str) {
    let path = sandbox.path(name);
    match kind {
        "named pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
        "socket" => drop(UnixListener::bind(&path).unwrap()),
        "device" => symlink("/dev/zero", &path).unwrap(),
        "link to a file that does not exist" => symlink("nowhere", &path).unwrap(),
        "folder" => fs::create_dir(&path).unwrap(),
        other => unreachable!("{other}"),
    }
}

#[test]
fn a_file_at_a_default_path_must_be_regular() {
    for name in [".env", "prismq.toml"] {
        for kind in ["named pipe", "socket", "device", "link to a file that does not exist", "folder"] {
            let sandbox = Sandbox::new();
            make(kind, &sandbox, name);
            let output = sandbox.prismq(["config"]).run();
            if (name, kind) == (".env", "folder") {
                output.exits(0);
                continue;
            }
            complains(&output, 2, &[&format!("work/{name}: cannot be read: it is a {kind}")]);
        }
        let sandbox = Sandbox::new();
        symlink("/dev/null", sandbox.path(name)).unwrap();
        sandbox.prismq(["config"]).run().exits(0);
        fs::remove_file(sandbox.path(name)).unwrap();
        sandbox.write(name, "#".repeat((1 << 20) + 1));
        complains(&sandbox.prismq(["config"]).run(), 2, &[name, "longer than 1 MiB"]);
    }
}

#[test]
fn a_named_pipe_is_read_with_a_message_while_waiting() {
    let rig = Rig::new();
    let shell = |line: &str| {
        let mut shell = plain(&rig.sandbox, &rig.url());
        let script = format!("prismq() {{ '{}' \"$@\"; }}; {line}", shell.get_program().to_str().unwrap());
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).current_dir(rig.sandbox.path("")).env_clear();
        bash.envs(shell.env("LANG", "C").get_envs().filter_map(|(name, value)| Some((name, value?))));
        output(&mut bash).exits(0).stdout
    };
    assert_eq!(shell("prismq create-task example.any --params @<(echo '{\"n\":1}')"), "1\n");
    assert_eq!(shell("prismq create-task example.any --params @/dev/stdin <<< '{\"n\":2}'"), "2\n");
    assert_eq!(shell("prismq create-task example.any --from <(echo '{\"n\":3}')"), "3\n");
    for settings in [
        "TASKMANAGER_API_KEY_FILE=<(echo key) prismq config",
        "TASKMANAGER_API_KEY_FILE=/dev/stdin prismq config <<< key",
        "TASKMANAGER_API_KEY_FILE=/dev/fd/0 prismq config <<< key",
        "prismq config --config <(echo 'api_key_file = \"/dev/stdin\"') <<< key",
    ] {
        assert!(shell(settings).contains("api_key              ***"), "{settings}");
    }

    make("named pipe", &rig.sandbox, "pipe");
    for line in ["create-task example.any --params @pipe", "create-task example.any --from pipe"] {
        let mut waiting = rig.spawn(line);
        waiting.wait_for_stderr("waiting for input from pipe\n");
        waiting.terminate();
        waiting.wait().exits(130);
    }
    let mut waiting = rig.prismq("list-types").env("TASKMANAGER_API_KEY_FILE", "pipe").start();
    waiting.wait_for_stderr("work/pipe\n");
    fs::write(rig.sandbox.path("pipe"), "key\n").unwrap();
    waiting.wait().exits(0);
}

#[test]
fn a_tilde_is_expanded_in_every_path() {
    let rig = Rig::new();
    let home = |name: &str| rig.sandbox.home(name);
    fs::write(home("key"), "the-key").unwrap();
    fs::write(home("schema.json"), "{\"type\":\"object\"}").unwrap();
    fs::write(home("params.json"), "{\"n\":1}").unwrap();
    fs::write(home("params.jsonl"), "{\"n\":2}").unwrap();
    fs::write(home("ca.pem"), include_bytes!("../../fixtures/ca.pem")).unwrap();
    rig.sandbox.write(
        "prismq.toml",
        "results = \"~/toml.db\"\nideas = \"~/ideas.db\"\napi_key_file = \"~/key\"\nca_file = \"~/ca.pem\"\n\
         [[task_type]]\nname = \"example.home\"\nschema = \"~/schema.json\"\nexec = [\"~/work\", \"~/x\"]\ndir = \"~\"\n",
    );
    let shown = |output: &str, words: &str| assert!(output.contains(words), "{words} is not in {output}");
    let config = rig.run("config").exits(0).stdout;
    for name in ["toml.db", "ideas.db", "ca.pem"] {
        shown(&config, &format!(" {} ", home(name).display()));
    }
    shown(&config, &format!("exec [\"{}\", \"~/x\"]", home("work").display()));
    rig.sandbox.write(".env", "PRISMQ_RESULTS=~/dot-env.db\n");
    shown(&rig.run("config").exits(0).stdout, &format!(" {} ", home("dot-env.db").display()));
    let alone = rig.prismq("config").env("PRISMQ_RESULTS", "~").run().exits(0).stdout;
    shown(&alone, &format!(" {} ", home("").display().to_string().trim_end_matches('/')));
    let flag = rig.run("config --results=~/flag.db").exits(0).stdout;
    shown(&flag, &format!(" {} ", home("flag.db").display()));
    shown(&rig.run("config --results ./~/flag.db").exits(0).stdout, "/~/flag.db ");
    let root = rig.run("config --results ~root/flag.db").exits(0).stdout;
    assert!(!root.contains("~root"), "{root}");

    assert_eq!(rig.run("create-task example.any --params @~/params.json").exits(0).stdout, "1\n");
    assert_eq!(rig.run("create-task example.any --from=~/params.jsonl").exits(0).stdout, "2\n");
    rig.run("register-type example.home --schema ~/schema.json").exits(0);
    rig.run("claim example.any --once --results=~/flag.db").exits(0);
    assert!(home("flag.db").is_file() && !rig.sandbox.path("~").exists());

    let nobody = rig.prismq("config").env("PRISMQ_RESULTS", "~no-such-user/r.db").run();
    complains(&nobody, 2, &["PRISMQ_RESULTS", "no such user \"no-such-user\""]);
    complains(&rig.run("create-task example.any --params @~no-such-user/p"), 2, &["--params", "no such user"]);
    rig.run("config --results=~no-such-user/r.db").exits(2);
    // Without HOME, the system's user database is used.
    fs::remove_file(rig.sandbox.path("prismq.toml")).unwrap();
    let mut homeless = rig.command();
    output(homeless.args(["config", "--results=~/r.db"]).env_remove("HOME")).exits(0);
}

#[test]
fn a_value_in_dot_env_is_used_as_written_or_refused() {
    let sandbox = Sandbox::new();
    for (value, character) in [
        ("k3y$ecret", "`$`"),
        ("\"k3y${HOME}\"", ""),
        ("k3y\\ecret", "`\\`"),
        ("k3y'ecret'", "`'`"),
        ("#k3yecret", "`#`"),
    ] {
        sandbox.write(".env", format!("# keys\nTASKMANAGER_API_KEY={value}\n"));
        let output = sandbox.prismq(["config"]).run();
        complains(&output, 2, &[".env:2: the value of TASKMANAGER_API_KEY contains", character, "single quotes"]);
        assert!(!output.stderr.contains("k3y") && !output.stderr.contains("ecret"), "{output:?}");
    }
    sandbox.write(".env", "WORKER_ID=a\nOTHER=${PROGRAM}\nMAX_RUNS=5  # it's enough\nWORKER_ID=b # it's two\n");
    complains(&sandbox.prismq(["config"]).run(), 2, &[".env:4: WORKER_ID is set twice, first in line 1"]);
    sandbox.write(
        ".env",
        "OTHER=${PROGRAM}\nAPP_NAME=My App's\nMAX_RUNS=5  # it's enough\nWORKER_ID='k3y$ecret' # it's mine\n",
    );
    let config = sandbox.prismq(["config"]).run().exits(0).stdout;
    assert!(config.contains("k3y$ecret") && config.contains("max_tasks            5"), "{config}");
}

#[test]
fn duplicates_are_named() {
    let rig = Rig::new();
    rig.sandbox.write("twice.json", "{\"a\":{\"type\":1},\n \"b\":[{\"n\":1,\"\\u006e\":2}]}");
    rig.sandbox.write("twice.jsonl", "{\"n\":1}\n{\"n\":2,\"n\":3}\n");
    for (line, words) in [
        ("create-task example.any text=a text=b", ["the param `text` is given twice", "remove one"]),
        ("create-task example.any text=a text:=1", ["the param `text` is given twice", ""]),
        (
            "create-task example.any --params {\"a\":1,\"a\":1}",
            ["--params: the key \"a\" is defined twice", "column 8"],
        ),
        ("create-task example.any --params @twice.json", ["the key \"\\u006e\" is defined twice", "line 2 column 14"]),
        ("register-type example.any --schema twice.json", ["--schema twice.json: the key", "twice"]),
    ] {
        complains(&rig.run(line), 2, &words);
    }
    let pair = rig.run("create-task example.any a:={\"b\":1,\"b\":2}").exits(2);
    assert!(pair.stderr.contains("the key \"b\" is defined twice"), "{pair:?}");
    let lines = rig.run("create-task example.any --from twice.jsonl").exits(1);
    assert!(lines.stderr.contains("line 2: the key \"n\" is defined twice"), "{lines:?}");
    assert_eq!(lines.stdout, "1\n");
    let deep = |depth| format!("create-task example.any a:={}{}", "[".repeat(depth), "]".repeat(depth));
    rig.run(&deep(95)).exits(0);
    complains(&rig.run(&deep(96)), 2, &["the params are nested deeper than 96 levels"]);
    let both = rig.run("create-task example.any a=1 --params {\"a\":2}").exits(2);
    assert!(both.stderr.contains("--params"), "{both:?}");
    complains(&rig.run("work --handle example.any=cat --handle example.any=ls --drain -qq"), 2, &[ANY, "twice"]);
}

#[test]
fn a_name_is_never_empty() {
    let rig = Rig::new();
    for line in [
        "list-tasks --type",
        "results --type",
        "list-tasks --worker-id",
        "config --results",
        "list-types --api-url",
        "config --log-level",
        "config --config",
        "register-type",
        "create-task",
        "claim",
        "register-type example.any --version",
    ] {
        for empty in ["", "  "] {
            let output = rig.prismq(line).args([empty]).run();
            let names_a_blank_file = empty == "  " && line.ends_with("results");
            assert!(output.code() == 2 || names_a_blank_file, "{line} {empty:?}: {output:?}");
        }
    }
    // An empty variable counts as unset.
    rig.prismq("config").env("WORKER_ID", " ").env("PRISMQ_RESULTS", "").run().exits(0);
}
