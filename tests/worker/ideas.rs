//! Ideas that handlers find, as rows of `IdeaInspiration`.

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Output, Rig, at_once, read_rows};

/// Creates a task whose handler prints `data`; its number.
pub(crate) fn task(rig: &Rig, name: &str, data: &Value) -> u64 {
    rig.sandbox.write(&format!("{name}.json"), data.to_string());
    rig.case(name, &format!("echo run >> runs; cat {name}.json"))
}

pub(crate) fn bees() -> Value {
    json!({"title": "Why bees dance", "source_id": "bees-1", "source_platform": "garden"})
}

fn ideas(rig: &Rig) -> Vec<Value> {
    rig.rows("IdeaInspiration")
}

/// Titles, with the ids of their rows.
pub(crate) fn titles(database: &Path) -> Vec<(i64, String)> {
    let rows = read_rows(database, "IdeaInspiration");
    rows.iter().map(|row| (row["id"].as_i64().unwrap(), row["title"].as_str().unwrap().to_owned())).collect()
}

/// The data of a result as the results file has it. The TaskManager has the same, with the ids of its ideas alone.
#[track_caller]
pub(crate) fn data(rig: &Rig, id: u64) -> Value {
    let task = rig.taskmanager.task(id);
    assert_eq!(task.status, "completed");
    let row = rig.rows("results").into_iter().find(|row| row["task_id"] == json!(id)).unwrap();
    let data: Value = serde_json::from_str(row["data"].as_str().unwrap()).unwrap();
    let mut reported = data.clone();
    for idea in reported["ideas"].as_array_mut().into_iter().flatten() {
        *idea = json!({"id": idea["id"].as_i64().unwrap()});
    }
    assert_eq!(task.result.unwrap()["data"], reported);
    data
}

/// What a database says of itself, and its tables.
pub(crate) fn nature(path: &Path) -> (i32, i32, String, Vec<Value>) {
    let database = Connection::open(path).unwrap();
    let pragma = |name: &str| database.pragma_query_value(None, name, |row| row.get(0)).unwrap();
    let journal = database.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    (pragma("application_id"), pragma("user_version"), journal, read_rows(path, "sqlite_schema"))
}

pub(crate) fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Asserts that the last words of a command hold these.
#[track_caller]
pub(crate) fn assert_refuses(output: &Output, words: &[&str]) {
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(words.iter().all(|word| last.contains(word)), "{}", output.stderr);
}

#[test]
fn every_field_of_an_idea_is_stored() {
    let rig = Rig::start();
    let whole = json!({
        "title": "Why bees dance", "description": "In short", "content": "At length", "keywords": ["bees", "Tänze"],
        "source_type": "video", "source_platform": "garden", "source_id": "bees-1", "source_url": "https://a.example/1",
        "source_created_by": "Beekeepers", "source_created_at": "2026-01-02T03:04:05Z", "score": 80,
        "category": "nature", "subcategory_relevance": {"insects": 90}, "contextual_category_scores": {"de": 10.5},
        "metadata": {"views": 12, "hd": true, "tags": "a b", "likes": null},
    });
    let given = json!({
        "ideas": [whole, {"title": "More bees", "source_id": "bees-2"}],
        "videos": [
            {"video_id": "bees-2", "title": "bees-1", "idea_id": null},
            {"video_id": "wasps", "idea_id": null},
            {"video_id": "bees-1", "idea_id": 99},
            {"video_id": "bees-1"},
        ],
        "found": {"best": {"id": "bees-1", "idea_id": null}},
    });
    let id = task(&rig, "bees", &given);
    rig.drain();

    let mut rows = ideas(&rig);
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        let [created_at, updated_at] = ["created_at", "updated_at"].map(|name| row.remove(name).unwrap());
        assert_eq!((created_at.as_str().unwrap().len(), &created_at), ("2026-11-22 03:18:35.123".len(), &updated_at));
    }
    let expected = json!([
        {
            "id": 1, "title": "Why bees dance", "description": "In short", "content": "At length",
            "keywords": "[\"bees\",\"Tänze\"]", "source_type": "video", "source_platform": "garden",
            "source_id": "bees-1", "source_url": "https://a.example/1", "source_created_by": "Beekeepers",
            "source_created_at": "2026-01-02T03:04:05Z", "score": 80, "category": "nature",
            "metadata": "{\"hd\":\"true\",\"likes\":\"\",\"tags\":\"a b\",\"views\":\"12\"}",
            "subcategory_relevance": "{\"insects\":90}", "contextual_category_scores": "{\"de\":10.5}",
        },
        {
            "id": 2, "title": "More bees", "description": null, "content": null, "keywords": "[]", "source_type": null,
            "source_platform": null, "source_id": "bees-2", "source_url": null, "source_created_by": null,
            "source_created_at": null, "score": null, "category": null, "metadata": "{}",
            "subcategory_relevance": "{}", "contextual_category_scores": "{}",
        },
    ]);
    assert_eq!(json!(rows), expected);

    let mut known = given;
    known["ideas"][0]["id"] = json!(1);
    known["ideas"][1]["id"] = json!(2);
    known["videos"][0]["idea_id"] = json!(2);
    known["found"]["best"]["idea_id"] = json!(1);
    assert_eq!(data(&rig, id), known);
}

#[test]
fn a_known_source_updates_its_row() {
    let rig = Rig::start();
    let mut first = bees();
    first["description"] = json!("In short");
    first["content"] = json!("At length");
    task(&rig, "first", &json!({"ideas": [first]}));
    rig.drain();
    let old = "score = 7, category = 'nature', created_at = '2026-01-01 00:00:00', updated_at = created_at";
    execute(&rig.sandbox.path("results.db"), &format!("UPDATE IdeaInspiration SET {old}"));

    let mut second = bees();
    second["title"] = json!("How bees dance");
    second["content"] = json!("");
    second["description"] = Value::Null;
    let mut elsewhere = bees();
    elsewhere["source_platform"] = json!("meadow");
    let id = task(&rig, "second", &json!({"ideas": [second, elsewhere, bees()], "bees_id": "bees-1", "idea_id": null}));
    rig.drain();
    let rows = ideas(&rig);
    let row = &rows[0];
    assert_eq!(rows.len(), 2, "another platform's is another: {rows:?}");
    assert_eq!(
        (&row["title"], &row["content"], &row["description"]),
        (&bees()["title"], &json!(""), &json!("In short"))
    );
    assert_eq!((&row["score"], &row["category"]), (&json!(7), &json!("nature")));
    assert_eq!(row["created_at"], "2026-01-01 00:00:00");
    assert!(row["updated_at"].as_str() > Some("2026-01-02"), "{row}");
    let data = data(&rig, id);
    let ids: Vec<&Value> = data["ideas"].as_array().unwrap().iter().map(|idea| &idea["id"]).collect();
    assert_eq!((ids, &data["idea_id"]), (vec![&json!(1), &json!(2), &json!(1)], &json!(1)));
}

#[test]
fn results_without_ideas_are_unchanged() {
    let rig = Rig::start();
    let values = [("none", json!([])), ("count", json!(3)), ("text", json!("many")), ("null", Value::Null)];
    let given = values.map(|(name, value)| (name, json!({"ideas": value, "bees_id": "bees-1", "idea_id": null})));
    let ids = given.each_ref().map(|(name, given)| task(&rig, name, given));
    let failed = task(&rig, "failed", &json!({"success": false, "error": "no", "data": {"ideas": [bees(), 1]}}));
    rig.drain();
    assert_eq!(ids.map(|id| data(&rig, id)), given.map(|(_, given)| given));
    assert_eq!(rig.taskmanager.task(failed).error_message.as_deref(), Some("no"));
    assert!(!nature(&rig.sandbox.path("results.db")).3.iter().any(|it| it["name"] == "IdeaInspiration"));
}

#[test]
fn an_invalid_idea_fails_its_task() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")]);
    let bad = |name: &str, value: Value| {
        let mut idea = bees();
        idea[name] = value;
        idea
    };
    let cases = [
        (json!("Why bees dance"), " is not an object"),
        (json!({"source_id": "x"}), ".title is missing"),
        (bad("title", Value::Null), ".title is missing"),
        (bad("title", json!(1)), ".title is not text"),
        (bad("source_id", json!(17)), ".source_id is not text"),
        (bad("keywords", json!("bees, dances")), ".keywords is not a list of strings"),
        (bad("keywords", json!(["bees", 1])), ".keywords is not a list of strings"),
        (bad("score", json!(0.5)), ".score is not a whole number"),
        (bad("score", json!("80")), ".score is not a whole number"),
        (bad("metadata", json!([])), ".metadata is not an object"),
        (bad("metadata", json!({"tags": ["a"]})), ".metadata has a value that is not text: \"tags\""),
        (bad("subcategory_relevance", json!("{}")), ".subcategory_relevance is not an object"),
        (bad("tittle", json!("x")), " has a field \"tittle\", which ideas do not have"),
        (bad("id", json!(1)), " has a field \"id\", which ideas do not have"),
    ];
    let given = cases.each_ref().map(|(bad, _)| json!({"ideas": [bees(), bad]}));
    let ids: Vec<u64> =
        given.iter().enumerate().map(|(number, given)| task(&rig, &format!("bad-{number}"), given)).collect();
    rig.drain();
    let rows = rig.rows("results");
    assert_eq!(rig.worked(), ids);
    for (((id, row), given), (_, error)) in ids.into_iter().zip(&rows).zip(&given).zip(&cases) {
        assert_eq!(row["error"], format!("data.ideas[1]{error}"));
        assert_eq!((&row["error_type"], &row["retryable"]), (&json!("handler"), &json!(0)));
        assert_eq!(row["data"], given.to_string());
        assert_eq!(rig.taskmanager.status(id), "failed");
    }
    assert!(!nature(&rig.sandbox.path("results.db")).3.iter().any(|it| it["name"] == "IdeaInspiration"));
}

/// Kills a worker between the ideas of a task and its result, and returns the rows that it leaves, of ideas and of
/// results. The next worker finds the task as it was.
#[track_caller]
fn killed_between(rig: &Rig, arguments: &[&str], database: &str) -> (usize, usize) {
    let bees =
        json!({"ideas": [bees(), {"title": "No id of its own"}, {"title": "No id of its own", "source_id": ""}]});
    let id = task(rig, "bees", &bees);
    let work = || rig.work(["--drain"]).args(arguments.iter().copied());
    work().env("FAILPOINTS", "ideas=return").run().exits(137);
    let count = |path: &str, table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        let database = Connection::open(rig.sandbox.path(path)).unwrap();
        database.query_row(&sql, [], |row| row.get(0)).unwrap_or(0)
    };
    let left = (count(database, "IdeaInspiration"), count("results.db", "results"));
    work().run().exits(0);
    assert_eq!(rig.sandbox.read("runs").lines().count(), 2);
    assert_eq!((count(database, "IdeaInspiration"), count("results.db", "results")), (3, 1));
    let data = data(rig, id);
    let ids: Vec<&Value> = data["ideas"].as_array().unwrap().iter().map(|idea| &idea["id"]).collect();
    assert_eq!(ids, [1, 2, 3]);
    left
}

#[test]
fn a_kill_between_ideas_and_result_stores_neither() {
    assert_eq!(killed_between(&Rig::start(), &[], "results.db"), (0, 0));
}

#[test]
fn after_a_kill_between_two_databases_the_rows_are_updated() {
    assert_eq!(killed_between(&Rig::start(), &["--ideas", "ideas.db"], "ideas.db"), (3, 0));
}

#[test]
fn the_results_file_by_another_name_is_the_results_file() {
    let rig = Rig::start();
    std::os::unix::fs::symlink("results.db", rig.sandbox.path("link.db")).unwrap();
    assert_eq!(killed_between(&rig, &["--ideas", "link.db"], "results.db"), (0, 0));
}

#[test]
fn ideas_without_an_id_are_those_of_their_task() {
    let mut rig = Rig::start();
    let idea = json!({"ideas": [{"title": "No id of its own"}]});
    let ids = [task(&rig, "one", &idea), task(&rig, "two", &idea)];
    rig.drain();
    assert_eq!(ids.map(|id| data(&rig, id)["ideas"][0]["id"].clone()), [1, 2]);
    rig.taskmanager.stop();
    rig.taskmanager.restart_anew();
    rig.taskmanager.register("case");
    let again = task(&rig, "three", &json!({"ideas": [{"title": "Of a task with an old number"}]}));
    assert_eq!(again, ids[0]);
    rig.drain();
    let found = titles(&rig.sandbox.path("results.db"));
    assert_eq!(found[2..], [(3, "Of a task with an old number".into())], "{found:?}");
    let source_id = ideas(&rig)[0]["source_id"].clone();
    assert!(source_id.as_str().unwrap().starts_with(&format!("prismq:{}:0:", ids[0])), "{source_id}");
}
#[test]
fn two_workers_that_find_the_same_at_once_make_one_row() {
    at_once(["results.db", "shared.db"], |database| {
        let rig = Rig::start();
        rig.sandbox
            .write("bees.json", json!({"ideas": [bees(), {"title": "More bees", "source_id": "bees-2"}]}).to_string());
        rig.script("bees", "cat bees.json");
        rig.drain();
        let ids: Vec<u64> =
            (0..40).map(|number| rig.taskmanager.create("case", json!({"case": "bees", "n": number}))).collect();
        let work = |id| rig.work(["--drain", "--concurrency", "4", "--worker-id", id, "--ideas", database]);
        let workers = ["one", "two"].map(|id| work(id).start());
        for worker in workers {
            worker.wait().exits(0);
        }
        assert_eq!(titles(&rig.sandbox.path(database)).len(), 2);
        for id in ids {
            let data = data(&rig, id);
            assert_eq!((&data["ideas"][0]["id"], &data["ideas"][1]["id"]), (&json!(1), &json!(2)));
        }
    });
}

#[test]
fn complete_stores_ideas() {
    let rig = Rig::start();
    let id = task(&rig, "bees", &Value::Null);
    let run = |arguments: &[&str]| rig.sandbox.prismq(arguments.iter().copied()).run();
    run(&["claim", "case", "--once"]).exits(0);
    let refused = run(&["complete", "1", "--result", r#"{"ideas":[{"title":1}]}"#]).exits(2);
    assert_refuses(&refused, &["--result: data.ideas[0].title is not text"]);
    run(&["complete", "1", "--result", &json!({"ideas": [bees()]}).to_string()]).exits(0);
    assert_eq!(data(&rig, id)["ideas"][0]["id"], 1);
    let id = task(&rig, "more", &json!({"ideas": [{"title": "More bees"}]}));
    let shown = run(&["claim", "case", "--run", "--once", "--json"]).exits(0).json();
    assert_eq!((&shown["data"]["ideas"][0]["id"], data(&rig, id)["ideas"][0]["id"].as_i64()), (&json!(2), Some(2)));
}
