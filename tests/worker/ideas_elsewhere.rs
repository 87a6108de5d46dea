//! Ideas in a database that is not the results file, or in a table that prismq has not made.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::ideas::{assert_refuses, bees, data, execute, nature, task, titles};
use crate::support::{Rig, at_once, read_rows, wait_for};

/// A table as programs made it before there was a `source_platform`.
const OLD_TABLE: &str = "CREATE TABLE IdeaInspiration (
    id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, description TEXT, content TEXT, keywords TEXT,
    source_type TEXT, metadata TEXT, source_id TEXT, source_url TEXT, source_created_by TEXT, source_created_at TEXT,
    score INTEGER, category TEXT, subcategory_relevance TEXT, contextual_category_scores TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
    INSERT INTO IdeaInspiration (title, source_id) VALUES ('An old one', 'bees-1');";

/// A table of that name that is about something else.
const FOREIGN_TABLE: &str = "CREATE TABLE IdeaInspiration (
    id INTEGER PRIMARY KEY, idea_id INTEGER NOT NULL, inspiration_id INTEGER NOT NULL, created_at TEXT);
    INSERT INTO IdeaInspiration VALUES (1, 2, 3, '');";

#[test]
fn ideas_can_be_stored_in_another_programs_database() {
    at_once(["delete", "wal"], |journal| {
        let rig = Rig::start();
        let path = rig.sandbox.path("shared.db");
        execute(&path, &format!("PRAGMA journal_mode = {journal}"));
        execute(&path, "PRAGMA application_id = 7; PRAGMA user_version = 3; CREATE TABLE theirs (x);");
        let before = nature(&path);
        let id = task(&rig, "bees", &json!({"ideas": [bees()]}));
        rig.work(["--drain"]).env("IDEA_DB_PATH", "shared.db").run().exits(0);
        let after = nature(&path);
        assert_eq!((after.0, after.1, after.2.as_str()), (7, 3, journal));
        assert_eq!(after.3[0], before.3[0]);
        assert_eq!(titles(&path), [(1, "Why bees dance".into())]);
        assert_eq!(data(&rig, id)["ideas"][0]["id"], 1);
        assert!(!nature(&rig.sandbox.path("results.db")).3.iter().any(|it| it["name"] == "IdeaInspiration"));
    });
}

#[test]
fn an_old_table_gets_the_column_that_it_lacks() {
    at_once(["shared.db", "results.db"], |database| {
        let rig = Rig::start();
        rig.drain();
        let path = rig.sandbox.path(database);
        execute(&path, OLD_TABLE);
        task(&rig, "bees", &json!({"ideas": [bees()]}));
        rig.work(["--drain", "--ideas", database]).run().exits(0);
        assert_eq!(titles(&path), [(1, "An old one".into()), (2, "Why bees dance".into())]);
        let platforms: Vec<Value> =
            read_rows(&path, "IdeaInspiration").iter().map(|row| row["source_platform"].clone()).collect();
        assert_eq!(platforms, [Value::Null, json!("garden")], "whose the old one is nobody knows");
    });
}

#[test]
fn a_foreign_table_is_refused_before_any_claim() {
    let another = "its table IdeaInspiration has different columns: missing ";
    let no_key = OLD_TABLE.replace("INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT");
    let tables = [
        (FOREIGN_TABLE.into(), format!("{another}category, content, ")),
        (FOREIGN_TABLE.into(), "updated_at; unexpected idea_id, inspiration_id".into()),
        (OLD_TABLE.replace(" source_url TEXT,", ""), format!("{another}source_platform, source_url")),
        (
            OLD_TABLE.replace("score INTEGER", "score INTEGER, stars INTEGER"),
            format!("{another}source_platform; unexpected stars"),
        ),
        (no_key, "its id is not an INTEGER PRIMARY KEY".into()),
    ];
    let cases = tables.iter().flat_map(|table| ["shared.db", "results.db"].map(|database| (table, database)));
    at_once(cases, |((table, words), database)| {
        let rig = Rig::start();
        rig.drain();
        let path = rig.sandbox.path(database);
        execute(&path, table);
        let id = task(&rig, "bees", &json!({"ideas": [bees()]}));
        let before = (nature(&path), read_rows(&path, "IdeaInspiration"));
        for command in [&["work", "--drain"][..], &["claim", "case", "--run", "--once"], &["complete", "1"]] {
            let run = rig.sandbox.prismq(command.iter().copied()).args(["--ideas", database]).run();
            assert_refuses(&run.exits(2), &["cannot store ideas in", database, words]);
        }
        assert_eq!((nature(&path), read_rows(&path, "IdeaInspiration")), before, "{words}");
        assert_eq!((rig.taskmanager.status(id).as_str(), rig.sandbox.read("runs").as_str()), ("pending", ""));
    });
}

#[test]
fn invalid_idea_databases_are_refused_before_the_first_claim() {
    let rig = Rig::start();
    let id = task(&rig, "bees", &json!({"ideas": [bees()]}));
    rig.sandbox.write("text.db", "this is no database\n");
    for (path, words) in
        [("text.db", "it is not an SQLite database"), (".", "it is a folder"), ("text.db/x.db", "x.db")]
    {
        let output = rig.work(["--drain", "--ideas", path]).run().exits(2);
        assert_refuses(&output, &["cannot store ideas in", words]);
        assert!(output.stderr.contains("--ideas or IDEA_DB_PATH"), "{}", output.stderr);
    }
    assert_eq!(rig.taskmanager.status(id), "pending");
}

#[test]
fn a_task_whose_ideas_cannot_be_kept_is_worked_again_by_the_next_worker() {
    let rig = Rig::start();
    let path = rig.sandbox.path("shared.db");
    rig.sandbox.write("bees.json", json!({"ideas": [bees()]}).to_string());
    let id = rig.case("bees", "echo run >> runs; while ! [ -e go ]; do sleep 0.03; done; cat bees.json");
    let work = || rig.work(["--drain", "--ideas", "shared.db"]);
    // More often than a task may be in flight when its worker dies.
    for run in 1..=4 {
        let worker = work().start();
        wait_for("it runs", || (rig.sandbox.read("runs").lines().count() == run).then_some(()));
        execute(&path, FOREIGN_TABLE);
        rig.sandbox.write("go", "");
        let output = worker.wait().exits(2);
        assert_refuses(&output, &["cannot store ideas in", "missing category"]);
        assert!(output.stderr.contains("cannot store ideas: task will run again"), "{}", output.stderr);
        assert_eq!((rig.taskmanager.status(id).as_str(), rig.worked()), ("claimed", vec![]));
        execute(&path, "DROP TABLE IdeaInspiration");
        std::fs::remove_file(rig.sandbox.path("go")).unwrap();
    }
    rig.sandbox.write("go", "");
    work().run().exits(0);
    assert_eq!((rig.taskmanager.task(id).attempts, titles(&path).len()), (1, 1));
    assert_eq!(data(&rig, id)["ideas"][0]["id"], 1);
}

#[test]
fn a_new_database_is_private_and_indexed_by_source() {
    let rig = Rig::start();
    task(&rig, "bees", &json!({"ideas": [bees()]}));
    rig.work(["--drain", "--ideas", "folder/ideas.db"]).run().exits(0);
    let path = rig.sandbox.path("folder/ideas.db");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let plan = "EXPLAIN QUERY PLAN SELECT min(id) FROM IdeaInspiration WHERE source_id = ?1 AND source_platform IS ?2";
    let database = rusqlite::Connection::open(&path).unwrap();
    let plan: String = database.query_row(plan, ["bees-1", "garden"], |row| row.get(3)).unwrap();
    assert!(plan.contains("IdeaInspiration_by_source (source_id=? AND source_platform=?)"), "{plan}");
}
