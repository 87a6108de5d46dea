//! Results files that can only be read: copies, read-only mounts, files of other users.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::results::rig;
use crate::support::{ANY, Output, Rig, complains, names_in, wait_for};

/// The read-only commands.
const READERS: [&str; 6] =
    ["results --json", "results", "results 1", "stats --json --by day", "explain 1", "stats --html -"];

fn original(rig: &Rig) -> PathBuf {
    rig.sandbox.home(".local/share/prismq/results.db")
}

/// A name that has to be escaped in a URI.
const ODD: &str = "a?b#c%20 d.db";

/// Makes a copy of each kind in `folder`, and returns the names of those with the four results of `rig`. The last of
/// these is in the original's log, which the returned connection keeps.
fn copies(rig: &Rig, folder: &Path) -> (Vec<&'static str>, Connection) {
    let original = original(rig);
    let holder = Connection::open(&original).unwrap();
    holder.execute_batch("PRAGMA wal_autocheckpoint = 0; BEGIN; SELECT count(*) FROM results; COMMIT").unwrap();
    let id = rig.create(ANY, &json!({"in": folder}));
    rig.run("claim example.any --once --worker-id me").exits(0);
    rig.run(&format!("complete {id}")).exits(0);
    let part = |suffix: &str| original.with_file_name(format!("results.db{suffix}"));
    assert!(fs::metadata(part("-wal")).unwrap().len() > 0);
    for (name, suffixes) in [("log.db", &["", "-wal"][..]), ("shared.db", &["", "-wal", "-shm"])] {
        for suffix in suffixes {
            fs::copy(part(suffix), folder.join(format!("{name}{suffix}"))).unwrap();
        }
    }
    let vacuum = |name: &str| holder.execute("VACUUM INTO ?1", [folder.join(name).to_str().unwrap()]).unwrap();
    for name in ["vacuum.db", ODD, "closed.db", "journal.db", "current.db"] {
        vacuum(name);
    }
    let closed = Connection::open(folder.join("closed.db")).unwrap();
    closed.execute_batch("PRAGMA journal_mode = WAL; UPDATE results SET message = message").unwrap();
    drop(closed);
    // One whose writer died in a transaction, which is rolled back from the journal.
    let dying = Connection::open(folder.join("current.db")).unwrap();
    let padding = "PRAGMA cache_size = 1; BEGIN; UPDATE results SET error = hex(zeroblob(20000)), data = 'x'";
    dying.execute_batch(padding).unwrap();
    for suffix in ["", "-journal"] {
        fs::copy(folder.join(format!("current.db{suffix}")), folder.join(format!("journal.db{suffix}"))).unwrap();
    }
    dying.execute_batch("ROLLBACK").unwrap();
    assert!(fs::metadata(folder.join("journal.db-journal")).unwrap().len() > 512, "a hot journal");
    (vec!["log.db", "shared.db", "vacuum.db", ODD, "closed.db", "journal.db", "current.db"], holder)
}

/// A folder that can be made read-only, if the test may mount one.
struct Shut(PathBuf);

impl Shut {
    fn new(folder: PathBuf) -> Option<Self> {
        fs::create_dir(&folder).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "prismq-test"]).arg(&folder).status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: no file system can be mounted here");
        None
    }

    fn shut(&self) {
        // A child that another test has just forked may still hold a file open here.
        wait_for("the file system to be read-only", || {
            let mount = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
            mount.unwrap().success().then_some(())
        });
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The output of a command, without what changes with time.
fn printed(line: &str, output: &Output) -> String {
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""), "{line}");
    output.stdout.lines().filter(|line| !line.contains("stats, 2") && !line.contains("class=\"soft\"")).collect()
}

#[test]
fn every_kind_of_copy_can_be_read_from_a_read_only_folder() {
    let rig = rig();
    let Some(shut) = Shut::new(rig.sandbox.path("shut")) else { return };
    let (names, _holder) = copies(&rig, &shut.0);
    for version in 1..=6 {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/results-{version}.sqlite"));
        fs::copy(fixture, shut.0.join(format!("layout-{version}.db"))).unwrap();
    }
    fs::write(shut.0.join("empty.db"), "").unwrap();
    shut.shut();
    let temporary = rig.sandbox.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let run = |line: &str, file: &str| {
        rig.prismq(line).args(["--results", file]).env("TMPDIR", temporary.to_str().unwrap()).run()
    };
    let expected = READERS.map(|line| printed(line, &rig.run(line)));
    assert_eq!(expected[0].matches("task_id").count(), 4);
    for name in names {
        let file = format!("shut/{name}");
        // All commands for one kind that is copied; one command for the other kinds.
        let lines = if name == "log.db" { READERS.len() } else { 1 };
        for (line, expected) in READERS.iter().zip(&expected).take(lines) {
            assert_eq!(printed(line, &run(line, &file)), *expected, "{name}: {line}");
        }
    }
    for version in 1..=6 {
        let rows = run("results --json", &format!("shut/layout-{version}.db")).exits(0).json_lines();
        let stats = run("stats --json", &format!("shut/layout-{version}.db")).exits(0).json();
        assert!(!rows.is_empty() && rows[0]["task_id"].is_u64() && stats["groups"][0]["name"].is_string(), "{version}");
    }
    assert_eq!(run("results --json", "shut/empty.db").exits(0).stdout, "");
    complains(
        &run("complete 1", "shut/vacuum.db"),
        2,
        &["shut/vacuum.db", "the file system is read-only", "--results"],
    );
    assert_eq!(run("health --json", "shut/vacuum.db").exits(1).json()["results_writable"], json!(false));
    let missing = rig.prismq("results --results shut/log.db").env("TMPDIR", "/no/such").run();
    complains(&missing, 2, &["shut/log.db", "cannot be copied to be read", "/no/such"]);
    assert_eq!(names_in(&temporary), [""; 0], "no copy is left");
}

#[test]
fn a_read_only_file_is_not_changed() {
    let rig = rig();
    let open = |path: PathBuf, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let root = rig.sandbox.path("..").canonicalize().unwrap();
    for folder in [root, rig.sandbox.path(""), rig.sandbox.home("")] {
        open(folder, 0o755);
    }
    let as_nobody = |line: &str| {
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_prismq")];
        rig.sandbox.program("setpriv", user.into_iter().chain(line.split(' '))).run()
    };
    if as_nobody("--version").code() != 0 {
        println!("skipped: this cannot be run as another user");
        return;
    }
    for (folder, mode) in [("theirs", 0o755), ("everybodys", 0o1777)] {
        fs::create_dir(rig.sandbox.path(folder)).unwrap();
        open(rig.sandbox.path(folder), mode);
        let (names, _holder) = copies(&rig, &rig.sandbox.path(folder));
        let before = names_in(&rig.sandbox.path(folder));
        let expected: Vec<Value> = rig.results();
        for name in names.into_iter().filter(|name| *name != ODD) {
            for part in ["", "-wal", "-shm", "-journal"] {
                let path = rig.sandbox.path(&format!("{folder}/{name}{part}"));
                if path.exists() {
                    open(path, 0o444);
                }
            }
            let output = as_nobody(&format!("results --json --results {folder}/{name}"));
            assert_eq!(output.exits(0).json_lines(), expected, "{folder}/{name}");
        }
        assert_eq!(names_in(&rig.sandbox.path(folder)), before, "nothing is made beside them");
        open(rig.sandbox.path(&format!("{folder}/vacuum.db")), 0o400);
        let output = as_nobody(&format!("results --results {folder}/vacuum.db"));
        complains(&output, 2, &["vacuum.db", "permission denied"]);
        // The next one counts one more.
        fs::remove_dir_all(rig.sandbox.path(folder)).unwrap();
    }
}

#[test]
fn files_that_are_not_results_files_are_one_line_errors() {
    let rig = rig();
    let whole = fs::read(original(&rig)).unwrap();
    rig.sandbox.write("gzip.db", [&[0x1f, 0x8b, 8, 0][..], &[7; 500]].concat());
    rig.sandbox.write("dump.db", "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n");
    rig.sandbox.write("half.db", &whole[..whole.len() / 2]);
    rig.sandbox.write("start.db", &whole[..90]);
    fs::create_dir(rig.sandbox.path("folder.db")).unwrap();
    assert!(Command::new("mkfifo").arg(rig.sandbox.path("pipe.db")).status().unwrap().success());
    for (name, code, words) in [
        ("gzip.db", 2, "it is not an SQLite database, but a compressed file: unpack it first"),
        ("dump.db", 2, "it is not an SQLite database, but a dump of one"),
        ("start.db", 1, "it is damaged"),
        ("half.db", 1, "it is damaged"),
        ("folder.db", 2, "it is a folder"),
        ("pipe.db", 2, "it is not a file"),
    ] {
        for line in ["results", "stats", "explain 1"] {
            complains(&rig.prismq(line).args(["--results", name]).run(), code, &[name, words]);
        }
    }
}
