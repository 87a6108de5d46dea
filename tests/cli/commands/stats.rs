//! `stats`: as a table, on a terminal, with `--watch`, and as an HTML report.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::results::rig;
use crate::support::{ANY, Rig, complains, names_in};

const PRISMQ: &str = env!("CARGO_BIN_EXE_prismq");

#[test]
fn statistics_count_attempts() {
    let rig = rig();
    let output = rig.run("stats").exits(0);
    let rows: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..5], ["TYPE", "COMPLETED", "FAILED", "LOST", "SUCCESS"]);
    assert_eq!(rows[1][..6], [ANY, "2", "0", "0", "100.0", "%"]);
    assert_eq!(rows[2][..6], ["other.one", "0", "1", "0", "0.0", "%"]);
    assert_eq!(rows[3][..3], ["attempts", "are", "counted:"]);
    assert_eq!((rows.len(), output.stderr.as_str()), (4, ""));

    let stats = rig.run("stats --json").exits(0).json();
    assert_eq!((&stats["groups"][0]["completed"], &stats["unreported"]), (&json!(2), &json!(0)));
    let names = |flags: &str| {
        let stats = rig.run(&format!("stats --json {flags}")).exits(0).json();
        stats["groups"].as_array().unwrap().iter().map(|group| group["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("--by type"), [ANY, "other.one"]);
    assert_eq!(names("--by worker"), ["me"]);
    assert_eq!(names("--since 1ms"), [] as [&str; 0]);
    for (by, length) in [("hour", "2026-11-22T03:00Z".len()), ("day", "2026-11-22".len())] {
        let names = names(&format!("--by {by}"));
        assert!((1..=2).contains(&names.len()) && names[0].as_str().unwrap().len() == length, "{names:?}");
    }
}

#[test]
fn attempts_that_were_not_run_are_stored_and_not_counted() {
    let rig = Rig::new();
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{ANY}\"\nexec = \"sleep 0.1; exit 65\""));
    rig.create(ANY, &json!({}));
    rig.run("work --max-tasks 1 --worker-id me").exits(0);
    // The second attempt is row 256, at which the rollups are updated; the third one comes after that.
    let file = rusqlite::Connection::open(rig.sandbox.home(".local/share/prismq/results.db")).unwrap();
    file.execute("UPDATE results SET rowid = 255", []).unwrap();
    let ended = rig.run("work --drain --worker-id me --json").exits(0).json();
    assert_eq!(ended, json!({"completed": 0, "failed": 0, "unreported": 0}));
    assert_eq!(file.query_row("SELECT result FROM rolled_up", [], |row| row.get(0)), Ok(256));
    let (results, task) = (rig.results(), rig.task(1));
    assert_eq!((results.len(), &task["attempts"], &task["status"]), (3, &json!(3), &json!("failed")));
    for by in ["type", "worker", "hour", "day"] {
        let stats = rig.run(&format!("stats --json --by {by}")).exits(0).json();
        let [group] = &stats["groups"].as_array().unwrap()[..] else { panic!("{stats}") };
        assert_eq!((&group["completed"], &group["failed"], &group["lost"]), (&json!(0), &json!(1), &json!(0)));
        assert_eq!(group["mean_ms"].as_f64(), results[0]["duration_ms"].as_f64(), "{group}");
    }
    let recent = rig.run("stats --json --since 1h").exits(0).json();
    assert_eq!(recent["groups"][0]["failed"], 1);
}

/// The text on a terminal, without control sequences.
#[cfg(target_os = "linux")]
fn text(shown: &str) -> String {
    console::strip_ansi_codes(shown).replace('\r', "")
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_bars_and_the_last_24_hours() {
    let rig = rig();
    let shown = rig.prismq("stats").on_terminal().run().exits(0).stdout;
    assert!(shown.contains("\x1b[32m███") && shown.contains("\x1b[31m▒▒▒"), "{shown:?}");
    let lines = text(&shown);
    let lines: Vec<&str> = lines.lines().collect();
    // On a busy machine, an attempt may take longer than a second.
    let is_rated = ["/s  ██████", "/min  ██████"].iter().any(|rate| lines[1].contains(rate));
    assert!(lines[1].starts_with(ANY) && is_rated, "{lines:?}");
    assert!(lines[2].ends_with("▒▒▒"), "{lines:?}");
    // The results may be in two different hours.
    assert!(lines[4].starts_with("last 24 hours  ·····") && lines[4].ends_with("  2 completed"), "{lines:?}");
    assert!(lines[5].ends_with("█  1 failed") && lines.len() == 7, "{lines:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn colours_and_bars_need_a_suitable_terminal() {
    let rig = rig();
    let plain = rig.run("stats").exits(0).stdout;
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("LC_ALL", "C")] {
        let shown = rig.prismq("stats").env(name, value).on_terminal().run().exits(0).stdout;
        assert_eq!(shown.replace('\r', ""), plain, "{name}={value}");
    }
    let shown = rig.prismq("stats").env("CLICOLOR", "0").on_terminal().run().exits(0).stdout;
    assert!(shown.contains('█') && !shown.contains('\x1b'), "{shown:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn watch_redraws_the_terminal_until_ctrl_c() {
    let rig = rig();
    let mut watched = rig.prismq("stats --watch").on_terminal().start();
    watched.wait_for_stdout("Ctrl-C to exit");
    rig.create(ANY, &json!({"n": "one more"}));
    rig.run("claim example.any --once --worker-id me").exits(0);
    rig.run("complete 4").exits(0);
    let is_drawn = |shown: &str| shown.contains("3 completed") && shown.ends_with("\x1b[J");
    watched.wait_for("a frame with it, to its end", |it| is_drawn(&it.stdout()));
    watched.type_in("\x03");
    let shown = watched.wait().exits(0).stdout;
    assert!(shown.contains("\x1b[8A\r"), "the next frame starts where the first did: {shown:?}");
    assert!(shown.ends_with("\r\n\x1b[J^C\r\x1b[K"), "the cursor is on a line of its own: {shown:?}");
    assert!(!shown.contains("\x1b[?"), "no mode of the terminal was changed: {shown:?}");
}

#[test]
fn watch_without_a_terminal_prints_one_frame_after_another() {
    let rig = rig();
    let mut watched = rig.spawn("stats --watch");
    watched.wait_for("two tables", |it| it.stdout().matches("TYPE").count() == 2);
    watched.terminate();
    let shown = watched.wait().exits(0).stdout;
    assert!(shown.lines().next().is_some_and(|line| line.ends_with("Z, every 2 s")), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown}");

    let mut watched = rig.spawn("stats --watch --json");
    watched.wait_for("two documents", |it| it.stdout().lines().count() == 2);
    watched.terminate();
    let documents = watched.wait().exits(0).json_lines();
    assert_eq!(documents[1], rig.run("stats --json").exits(0).json());
}

#[test]
fn the_html_report_is_complete_and_self_contained() {
    let rig = rig();
    let evil = "a<script>alert(1)</script>&\"";
    let connection = rusqlite::Connection::open(rig.sandbox.home(".local/share/prismq/results.db")).unwrap();
    connection.execute("UPDATE results SET task_type = ?1 WHERE task_type = 'other.one'", [evil]).unwrap();
    let page = rig.run("stats --html -").exits(0).stdout;
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "{page}");
    for part in [
        "example.<wbr>any",
        "a&lt;script&gt;alert(1)&lt;/<wbr>script&gt;&amp;&quot;",
        "2 completed, 1 failed, 3 in the busiest",
        "<rect class=\"failed\"",
        "color-scheme: light dark",
        "default-src 'none'",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    for reference in ["<script", "src=", "href=", "url(", "@import", "http:", "https:"] {
        assert!(!page.contains(reference), "{reference} is in {page}");
    }
    assert!(page.contains("TYPE") || page.contains("<th>Type</th>"));
    let by_worker = rig.run("stats --by worker --since 1h --html -").exits(0).stdout;
    assert!(by_worker.contains("<td class=\"name\">me</td>") && by_worker.contains("table since"), "{by_worker}");
}

#[test]
fn the_html_report_is_replaced_atomically() {
    let rig = rig();
    std::fs::create_dir(rig.sandbox.path("pages")).unwrap();
    rig.sandbox.write("pages/report.html", "old");
    let mut old = std::fs::File::open(rig.sandbox.path("pages/report.html")).unwrap();
    let output = rig.run("stats --html pages/report.html").exits(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    assert!(rig.sandbox.read("pages/report.html").ends_with("</html>"));
    let mut read = String::new();
    std::io::Read::read_to_string(&mut old, &mut read).unwrap();
    assert_eq!(read, "old", "who reads the old one has it whole");
    assert_eq!(names_in(&rig.sandbox.path("pages")), ["report.html"], "and nothing is left over");
    let mode = std::fs::metadata(rig.sandbox.path("pages/report.html")).unwrap().permissions().mode();
    let plain = std::fs::metadata(rig.sandbox.write("plain", "")).unwrap().permissions().mode();
    assert_eq!(mode, plain, "it may be read by those who may read other new files");
    symlink("report.html", rig.sandbox.path("pages/link.html")).unwrap();
    rig.sandbox.write("pages/report.html", "old");
    rig.run("stats --html pages/link.html").exits(0);
    assert_eq!(std::fs::read_link(rig.sandbox.path("pages/link.html")).unwrap().to_str(), Some("report.html"));
    assert!(rig.sandbox.read("pages/report.html").ends_with("</html>"));
    let nowhere = rig.run("stats --html no/such/folder.html");
    complains(&nowhere, 1, &["prismq: --html: cannot write no/such/folder.html: no such folder\n"]);
    let into_pipe = rig.sandbox.program("sh", ["-c", &format!("mkfifo p; cat p & {PRISMQ} stats --html p; test -p p")]);
    assert!(into_pipe.run().exits(0).stdout.ends_with("</html>"), "a pipe is written to");
    rig.run("stats --html x --json").exits(2);
    rig.run("stats --html x --watch").exits(2);
}
