//! A full disk: a small file system, if the test is allowed to mount one.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{ANY, Output, Rig, Running, at_once, complains, wait_for};

/// A rig whose working folder has a file system of 2 MiB at `disk`, with the results file on it.
struct FullDisk {
    rig: Rig,
    disk: PathBuf,
}

impl FullDisk {
    /// Returns `None` and prints why if nothing may be mounted.
    fn new() -> Option<Self> {
        Self::of(Rig::new(), "2m")
    }

    fn of(rig: Rig, size: &str) -> Option<Self> {
        let disk = rig.sandbox.path("disk");
        fs::create_dir(&disk).unwrap();
        let size = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "prismq-test"]).arg(&disk).output();
        match mount {
            Ok(mount) if mount.status.success() => {}
            other => {
                println!("skipped: no file system can be mounted here: {other:?}");
                return None;
            }
        }
        let disk = Self { rig, disk };
        disk.run("claim example.any --once").exits(3);
        Some(disk)
    }

    /// Fills the disk.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.disk.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.disk.join("filler")).unwrap();
    }

    fn run(&self, line: &str) -> Output {
        self.rig.prismq(line).args(["--results", "disk/results.db"]).run()
    }

    /// Starts a claim by hand that waits for a task. It has opened the results file and written to it before its first
    /// call.
    fn start_claim(&self, line: &str) -> Running {
        let mut running = self.rig.prismq(line).args(["--results", "disk/results.db", "--debug"]).start();
        running.wait_for_stderr("call=");
        running
    }

    /// Waits until a worker has noted its poll; it notes the next one only after 10 s.
    fn wait_for_poll(&self) {
        let results = Connection::open(self.disk.join("results.db")).unwrap();
        let polled = || results.query_row("SELECT max(last_poll_at) FROM workers", [], |row| row.get(0));
        wait_for("a poll", || polled().unwrap_or(None::<String>));
    }

    fn rows(&self) -> Vec<Value> {
        self.run("results --json").exits(0).json_lines()
    }

    /// Creates task 1, handled by this shell command.
    fn task(&self, line: &str) {
        self.rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{line}'''\n"));
        self.rig.create(ANY, &json!({"n": 1}));
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.disk).status();
    }
}

/// A handler that fills the disk before it prints its result.
const GLUTTON: &str = "cat /dev/zero 2>/dev/null >disk/filler; echo 42";

#[test]
fn nothing_is_claimed_if_the_results_file_cannot_be_written() {
    let Some(disk) = FullDisk::new() else { return };
    disk.task("cat");
    disk.fill();
    for line in ["claim example.any --once", "claim example.any --run --once", "work example.any --drain -qq"] {
        let output = disk.run(line);
        complains(&output, 1, &["disk/results.db", "the disk is full"]);
        assert_eq!(disk.rig.task(1)["status"], "pending", "{line}");
    }
    let health = disk.run("health --json").exits(1).json();
    assert_eq!(health["results_writable"], false, "{health}");
    disk.make_room();
    disk.run("work example.any --drain -qq").exits(0);
    assert_eq!(disk.rig.task(1)["status"], "completed");
}

#[test]
fn a_full_disk_is_unhealthy_but_results_can_be_read() {
    let Some(disk) = FullDisk::new() else { return };
    disk.task("cat");
    disk.run("work example.any --drain -qq").exits(0);
    // Without SQLite's files beside it, and with them, as when a worker has it open.
    for is_open in [false, true] {
        let holder = Connection::open(disk.disk.join("results.db")).unwrap();
        let file = is_open.then_some(holder);
        if let Some(file) = &file {
            file.query_row("SELECT count(*) FROM results", [], |row| row.get::<_, u64>(0)).unwrap();
        }
        disk.fill();
        let health = disk.run("health --json").exits(1).json();
        assert_eq!((&health["healthy"], &health["results_writable"]), (&json!(false), &json!(false)), "{health}");
        assert!(health["results_error"].as_str().unwrap().ends_with("the disk is full"), "{health}");
        assert_eq!(disk.rows().len(), 1, "{is_open}");
        disk.run("stats").exits(0);
        disk.run("explain 1").exits(0);
        disk.make_room();
        disk.run("health --json").exits(0);
    }
}

#[test]
fn a_report_by_hand_can_be_repeated() {
    let Some(disk) = FullDisk::new() else { return };
    disk.task("cat");
    disk.run("claim example.any --once").exits(0);
    disk.fill();
    for line in ["complete 1 --result 42", "fail 1 --error x"] {
        complains(&disk.run(line), 1, &["disk/results.db", "the disk is full"]);
        assert_eq!(disk.rig.task(1)["status"], "claimed");
    }
    disk.make_room();
    disk.run("complete 1 --result 42").exits(0);
    assert_eq!((disk.rig.task(1)["result"]["data"].clone(), disk.rows().len()), (json!(42), 1));
}

#[test]
fn a_result_that_cannot_be_stored_is_reported_anyway() {
    let lines = ["claim example.any --run --once", "work example.any --max-tasks 1", "work example.any --drain"];
    at_once(lines, |line| {
        let Some(disk) = FullDisk::new() else { return };
        disk.task(GLUTTON);
        let output = disk.run(line).exits(1);
        assert!(output.stderr.contains("the disk is full") && !output.stderr.contains("panicked"), "{output:?}");
        let last = output.stderr.lines().last().unwrap();
        assert!(last.starts_with("prismq: ") && last.contains("disk/results.db"), "{output:?}");
        let task = disk.rig.task(1);
        assert_eq!((&task["status"], &task["result"]["data"]), (&json!("completed"), &json!(42)), "{line}");
        disk.make_room();
        assert_eq!(disk.rows(), [] as [Value; 0]);
        disk.run("work example.any --drain -qq").exits(0);
    });
}

#[test]
fn a_task_is_not_completed_if_its_ideas_cannot_be_stored() {
    let lines = ["claim example.any --run --once", "work example.any --max-tasks 1", "work example.any --drain"];
    at_once(lines, |line| {
        let Some(disk) = FullDisk::new() else { return };
        let ideas = r#"{"ideas":[{"title":"Bees","source_id":"bees-1"}]}"#;
        disk.task(&format!("cat /dev/zero 2>/dev/null >disk/filler; echo '{ideas}'"));
        let run = |line: &str| disk.rig.prismq(line).args(["--ideas", "disk/ideas.db"]).run();
        let output = run(line).exits(1);
        let last = output.stderr.lines().last().unwrap();
        assert!(
            last.starts_with("prismq: ") && last.ends_with("disk/ideas.db cannot be read or written: the disk is full")
        );
        let task = disk.rig.task(1);
        assert_eq!((&task["status"], disk.rig.results()), (&json!("claimed"), vec![]), "{line}");
        let named = if line.starts_with("claim") { "task 1 stays claimed" } else { "task_id=1" };
        assert!(output.stderr.contains(named), "{output:?}");
        disk.make_room();
        if line.starts_with("claim") {
            disk.rig.sandbox.write("result.json", ideas);
            run("complete 1 --result @result.json").exits(0);
        } else {
            disk.task(&format!("echo '{ideas}'"));
            run("work example.any --drain -qq").exits(0);
        }
        assert_eq!(disk.rig.task(1)["result"]["data"]["ideas"][0]["id"], 1, "{line}");
    });
}

/// Records that it runs, and prints an idea.
const INSPIRED: &str = r#"echo run >>runs; echo '{"ideas":[{"title":"Bees","source_id":"bees-1"}]}'"#;

/// A rig with only the database of ideas on the disk, which is full. It contains an idea of task 1; task 2 is pending.
fn without_room_for_ideas(settings: &str) -> Option<FullDisk> {
    let disk = FullDisk::new()?;
    disk.task(INSPIRED);
    disk.rig.run("work example.any --drain -qq --ideas disk/ideas.db").exits(0);
    let config = format!("[[task_type]]\nname = \"{ANY}\"\nexec = '''{INSPIRED}'''\n{settings}\n");
    disk.rig.sandbox.write("prismq.toml", config);
    disk.fill();
    disk.rig.create(ANY, &json!({"n": 2}));
    Some(disk)
}

const KEEPS_IDEAS: &str = "work example.any --poll-interval 100ms --ideas disk/ideas.db";

#[test]
fn a_result_is_kept_until_its_ideas_fit_on_the_disk() {
    let Some(disk) = without_room_for_ideas("") else { return };
    let mut running = disk.rig.spawn(KEEPS_IDEAS);
    running.wait_for_stderr("disk/ideas.db cannot be read or written: the disk is full\" free_space_needed=");
    assert_eq!(disk.rig.task(2)["status"], "claimed");
    disk.make_room();
    wait_for("the task", || (disk.rig.task(2)["status"] == "completed").then_some(()));
    assert_eq!(disk.rig.sandbox.read("runs"), "run\n".repeat(2), "each ran once");
    running.terminate();
    running.wait().exits(0);
}

#[test]
fn a_task_is_returned_if_its_ideas_cannot_be_stored_in_time() {
    let Some(disk) = without_room_for_ideas("timeout = '2s'") else { return };
    let mut running = disk.rig.spawn(KEEPS_IDEAS);
    running.wait_for_stderr("task returned");
    let task = disk.rig.task(2);
    assert_eq!((&task["status"], &task["attempts"]), (&json!("pending"), &json!(1)), "{task}");
    disk.make_room();
    wait_for("the task", || (disk.rig.task(2)["status"] == "completed").then_some(()));
    running.terminate();
    running.wait().exits(0);
}

#[test]
fn a_task_that_is_claimed_when_the_disk_has_just_filled_is_returned() {
    let lines = ["work example.any --max-tasks 1", "claim example.any --run --timeout 100s"];
    at_once(lines, |line| {
        let Some(disk) = FullDisk::new() else { return };
        disk.rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = 'cat'\n"));
        let running = if line.starts_with("work") {
            let running = disk.rig.prismq(line).args(["--results", "disk/results.db"]).start();
            disk.wait_for_poll();
            running
        } else {
            disk.start_claim(line)
        };
        disk.fill();
        let id = disk.rig.create(ANY, &json!({"n": 1}));
        let output = running.wait().exits(1);
        let last = output.stderr.lines().last().unwrap();
        assert!(last.starts_with("prismq: ") && last.contains("the disk is full"), "{output:?}");
        let named = if line.starts_with("work") { "task returned task_id=1" } else { "task 1 was returned: " };
        assert!(output.stderr.contains(named), "{output:?}");
        let task = disk.rig.task(id);
        assert_eq!((&task["status"], &task["attempts"]), (&json!("pending"), &json!(1)), "{line}: {task}");
        disk.make_room();
        disk.run("work example.any --drain -qq").exits(0);
        assert_eq!(disk.rig.task(id)["status"], "completed", "{line}");
    });
}

#[test]
fn a_worker_returns_the_task_and_continues_once_there_is_space() {
    let Some(disk) = FullDisk::new() else { return };
    disk.rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = 'cat'\n"));
    let mut running = disk.rig.spawn("work example.any --concurrency 4 --results disk/results.db");
    disk.wait_for_poll();
    disk.fill();
    let id = disk.rig.create(ANY, &json!({"n": 1}));
    running.wait_for_stderr("task returned");
    let task = disk.rig.task(id);
    assert_eq!((&task["status"], &task["attempts"]), (&json!("pending"), &json!(1)), "{task}");
    disk.make_room();
    wait_for("the task", || (disk.rig.task(id)["status"] == "completed").then_some(()));
    running.terminate();
    running.wait().exits(0);
}

#[test]
fn an_idle_worker_notices_a_full_disk_before_it_claims() {
    // The smaller one never has 1 MiB of free space.
    at_once([("2m", "128 KiB"), ("900k", "57 KiB")], |(size, room)| notices_the_full_disk(size, room));
}

fn notices_the_full_disk(size: &str, room: &str) {
    // This server has no long polls.
    let rig = Rig::with(|settings| settings.faults.published = true).knowing_any();
    let Some(disk) = FullDisk::of(rig, size) else { return };
    disk.rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = 'cat'\n"));
    let line = "work example.any --poll-interval 250ms --max-backoff 250ms --results disk/results.db";
    let mut running = disk.rig.spawn(line);
    disk.wait_for_poll();
    disk.fill();
    let waits = format!("the disk is full\" free_space_needed=\"{room}\"");
    running.wait_for_stderr(&waits);
    let id = disk.rig.create(ANY, &json!({"n": 1}));
    disk.make_room();
    wait_for("the task", || (disk.rig.task(id)["status"] == "completed").then_some(()));
    assert_eq!(disk.rig.task(id)["attempts"], 1);
    running.terminate();
    running.wait().exits(0);
}

#[test]
fn a_claim_that_could_not_be_noted_can_be_completed() {
    let Some(disk) = FullDisk::new() else { return };
    let running = disk.start_claim("claim example.any --timeout 100s --worker-id me");
    disk.fill();
    let id = disk.rig.create(ANY, &json!({"n": 1}));
    let output = running.wait().exits(1);
    assert!(output.stderr.contains("prismq complete 1 --worker-id me --result"), "{output:?}");
    assert!(output.stderr.lines().last().unwrap().starts_with("prismq: task 1 is claimed: "), "{output:?}");
    disk.make_room();
    disk.run("complete 1 --worker-id me --result 42").exits(0);
    assert_eq!(disk.rig.task(id)["status"], "completed");
}

#[test]
fn a_server_with_a_full_disk_refuses_calls_and_recovers() {
    let Some(disk) = FullDisk::new() else { return };
    let mut serving = disk.rig.spawn("serve --listen 127.0.0.1:0 --db disk/tasks.db");
    serving.wait_for_stdout("\n");
    let url = serving.stdout().trim().to_owned();
    let run = |line: &str| disk.rig.prismq(line).args(["--api-url", &url]).run();
    run("register-type a.b --schema {\"type\":\"object\"}").exits(0);
    disk.fill();
    let params = json!({"padding": "x".repeat(1_000_000)}).to_string();
    let refused = disk.rig.prismq("create-task a.b --params - --api-url").args([url.as_str()]).stdin(params).run();
    assert!([1, 4].contains(&refused.code()) && refused.stdout.is_empty(), "{refused:?}");
    disk.make_room();
    run("create-task a.b n=1").exits(0);
    serving.terminate();
    let served = serving.wait().exits(0);
    assert!(!served.stderr.contains("panicked"), "{served:?}");
    disk.fill();
    complains(&disk.rig.run("serve --listen 127.0.0.1:0 --db disk/other.db"), 1, &["disk/other.db"]);
}
