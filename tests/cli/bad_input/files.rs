//! Results files that are not databases, belong to another program, or cannot be written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use prismq::internals::Store;
use serde_json::json;

use crate::support::{ANY, Rig, complains, names_in, output, says_once};

/// Every command that uses the results file.
const COMMANDS: [&str; 8] = [
    "results",
    "results --format csv",
    "stats",
    "claim example.any --once",
    "claim example.any --run --once",
    "complete 1",
    "progress 1 5",
    "work example.any --drain -qq",
];

/// A rig with task 1 pending, and a handler for it.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.create(ANY, &json!({"n": 1}));
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = \"example.any\"\nexec = [\"cat\"]\n");
    rig
}

/// Asserts that each command refuses `file` as a results file with these words, and that no task was claimed.
#[track_caller]
fn all_refuse(rig: &Rig, file: &str, words: &[&str]) {
    for line in COMMANDS {
        let output = rig.prismq(line).args(["--results", file]).run();
        complains(&output, 2, &[file, "--results or PRISMQ_RESULTS"]);
        says_once(&output, words);
    }
    let health = rig.prismq("health --json").args(["--results", file]).run().exits(1).json();
    assert_eq!(health["results_writable"], false);
    assert_eq!(rig.task(1)["status"], "pending");
}

#[test]
fn files_that_are_not_databases_are_refused() {
    let rig = rig();
    for (number, bytes) in [&b"x\n"[..], b"not a database\n", &[0; 4096], &[b'S'; 10_000]].iter().enumerate() {
        let name = format!("{number}.db");
        let path = rig.sandbox.write(&name, bytes);
        all_refuse(&rig, &name, &["it is not an SQLite database"]);
        assert_eq!(fs::read(path).unwrap(), *bytes);
    }
}

#[test]
fn paths_that_are_not_files_are_refused() {
    let rig = rig();
    fs::create_dir(rig.sandbox.path("folder")).unwrap();
    rig.sandbox.write("file", "");
    std::os::unix::fs::symlink("loop", rig.sandbox.path("loop")).unwrap();
    all_refuse(&rig, "folder", &["it is a folder"]);
    all_refuse(&rig, "file/results.db", &["file/results.db"]);
    all_refuse(&rig, "loop", &["symbolic links"]);
}

#[test]
fn read_only_commands_do_not_create_the_results_file() {
    let rig = rig();
    let before = names_in(&rig.sandbox.path(""));
    for line in ["results", "results 1 --json", "stats", "stats --watch", "stats --html -", "explain 1", "replay 1"] {
        let output = rig.prismq(line).args(["--results", "no/such.db"]).run();
        assert_eq!((output.code(), output.stdout.as_str()), (2, ""), "{line}: {output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
        for words in ["work/no/such.db: no such file", "`prismq work` creates it"] {
            assert!(output.stderr.contains(words), "{line}: {output:?}");
        }
    }
    let health = rig.run("health --results no/such.db").exits(0);
    assert!(health.stdout.contains("work/no/such.db, which the first worker creates"), "{health:?}");
    for line in ["stats", "results", "explain 1"] {
        rig.run(line).exits(0);
        // A file from the settings may not have been created yet.
        rig.prismq(line).env("PRISMQ_RESULTS", "no/such.db").run().exits(0);
    }
    assert_eq!(names_in(&rig.sandbox.path("")), before);
    assert_eq!(names_in(&rig.sandbox.home("")), [] as [String; 0]);
}

/// Names and contents of a database's files.
fn files_of(database: &Path) -> Vec<Vec<u8>> {
    ["", "-wal"].map(|suffix| fs::read(format!("{}{suffix}", database.display())).unwrap_or_default()).into()
}

#[test]
fn another_programs_database_is_not_changed() {
    for journal in ["delete", "wal"] {
        for is_open in [false, true] {
            let rig = rig();
            let path = rig.sandbox.path("foreign.db");
            let theirs = rusqlite::Connection::open(&path).unwrap();
            theirs.pragma_update(None, "journal_mode", journal).unwrap();
            theirs.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
            let before = files_of(&path);
            if is_open {
                // As after a kill of its program: with the last changes in the journal.
                std::mem::forget(theirs);
            } else {
                drop(theirs);
            }
            let before = if is_open { before } else { files_of(&path) };
            all_refuse(&rig, "foreign.db", &["it is another program's database"]);
            assert_eq!(files_of(&path), before, "journal {journal}, open: {is_open}");
        }
    }
}

#[test]
fn a_file_of_a_newer_version_is_not_changed() {
    let rig = rig();
    let path = rig.sandbox.path("newer.db");
    drop(Store::open(&path).unwrap());
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    newer.close().unwrap();
    let before = files_of(&path);
    all_refuse(&rig, "newer.db", &["it belongs to a newer version of prismq", "99"]);
    assert_eq!(files_of(&path), before);
}

#[test]
fn the_database_of_the_embedded_server_is_not_a_results_file() {
    let rig = rig();
    let mut serving = rig.spawn("serve --listen 127.0.0.1:0 --db tasks.db");
    serving.wait_for_stdout("\n");
    all_refuse(&rig, "tasks.db", &["it is another program's database"]);
    serving.terminate();
    serving.wait().exits(0);
}

#[test]
fn a_damaged_file_is_reported() {
    let rig = rig();
    rig.run("claim example.any --once --results r.db").exits(0);
    rig.create(ANY, &json!({"n": 2}));
    let mut bytes = fs::read(rig.sandbox.path("r.db")).unwrap();
    bytes[4096..].iter_mut().for_each(|byte| *byte = 0xa5);
    rig.sandbox.write("r.db", &bytes);
    for line in ["results", "stats", "complete 1", "work example.any --drain -qq", "claim example.any --once"] {
        let output = rig.prismq(line).args(["--results", "r.db"]).run();
        complains(&output, 1, &["r.db", "it is damaged"]);
        assert!(!output.stderr.contains("malformed"), "SQLite's own words: {}", output.stderr);
    }
    // No task was claimed.
    let task = rig.run("show-task 2 --json").exits(0).json();
    assert_eq!(task["status"], "pending", "{task}");
}

/// Makes `prismq` run as a user who owns nothing here, since root may write anywhere. Returns false and prints why if
/// that is not possible.
fn drop_powers(rig: &Rig, command: &mut Command) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    if let Err(error) = Command::new("setpriv").arg("--version").output() {
        println!("skipped: setpriv cannot be run: {error}");
        return false;
    }
    let folder = rig.sandbox.path("").parent().unwrap().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    // That user may not be able to reach the folder of the binary.
    let binary = folder.join("prismq");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_prismq"), &binary).unwrap();
    }
    let mut powerless = Command::new("setpriv");
    powerless.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary).args(command.get_args());
    powerless.current_dir(rig.sandbox.path("")).env_clear();
    powerless.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    *command = powerless;
    true
}

#[test]
fn folders_and_files_without_write_permission() {
    let rig = rig();
    for name in ["locked", "locked/readable", "closed"] {
        fs::create_dir(rig.sandbox.path(name)).unwrap();
    }
    for name in ["locked/readable.db", "locked/writable.db"] {
        drop(Store::open(&rig.sandbox.path(name)).unwrap());
    }
    let mode =
        |name: &str, mode| fs::set_permissions(rig.sandbox.path(name), fs::Permissions::from_mode(mode)).unwrap();
    for (name, bits) in
        [("locked/readable.db", 0o444), ("locked/writable.db", 0o666), ("locked", 0o555), ("closed", 0o000)]
    {
        mode(name, bits);
    }
    fs::set_permissions(rig.sandbox.home(""), fs::Permissions::from_mode(0o555)).unwrap();
    let run = |line: &str| {
        let mut command = rig.command();
        command.args(line.split(' ')).stdin(Stdio::null());
        drop_powers(&rig, &mut command).then(|| output(&mut command))
    };
    for results in [
        "",
        " --results locked/new.db",
        " --results locked/readable.db",
        " --results locked/writable.db",
        " --results closed/r.db",
    ] {
        for line in COMMANDS {
            let Some(output) = run(&format!("{line}{results}")) else { return };
            let is_there = results.contains("able.db");
            if is_there && (line.starts_with("results") || line == "stats") {
                output.exits(0);
                continue;
            }
            complains(&output, 2, &["cannot use the results file", "--results or PRISMQ_RESULTS"]);
        }
    }
    assert_eq!(rig.task(1)["status"], "pending");
    for line in ["list-types", "list-tasks", "show-task 1", "config", "create-task example.any n:=1"] {
        run(line).unwrap().exits(0);
    }
    let unwritable = run("serve --listen 127.0.0.1:0 --db locked/tasks.db").unwrap();
    complains(&unwritable, 2, &["locked/tasks.db"]);
    let folder = run("serve --listen 127.0.0.1:0 --db closed").unwrap();
    complains(&folder, 2, &["cannot use closed as the TaskManager's database: it is a folder"]);
    mode("closed", 0o755);
}
