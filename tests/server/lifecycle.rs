//! Starting, stopping, and the file in between.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use prismq::internals::server::{Server, ServerError, Settings};
use rusqlite::Connection;
use serde_json::json;

use crate::api::{Api, Client, settings};
use crate::batches::ids;
use crate::support::wait_for;

#[test]
fn everything_outlives_a_restart() {
    let api = Api::start();
    let type_id = api.register_any("a");
    for n in 0..3 {
        api.create("a", json!({"n": n}));
    }
    api.claim("w", type_id).data();
    api.claim("w", type_id).data();
    api.post("/tasks/1/complete", json!({"worker_id": "w", "success": true, "result": {"r": 1}})).data();
    let before = (1..=3).map(|id| api.task(id)).collect::<Vec<_>>();
    let Api { server, settings, folder, .. } = api;
    server.stop();
    assert!(!folder.path().join("tasks.db-wal").exists(), "the file is whole by itself");

    let server = Server::start(&settings).unwrap();
    let client = Client::new(server.api_url());
    assert_eq!((1..=3).map(|id| client.get(&format!("/tasks/{id}")).data()).collect::<Vec<_>>(), before);
    assert_eq!(client.get("/task-types/a").data()["id"], json!(type_id));
    let again = client.send("POST", "/tasks", &[], r#"{"type":"a","params":{"n":0}}"#).data();
    assert_eq!((&again["id"], &again["deduplicated"]), (&json!(1), &json!(true)));
    let late = r#"{"worker_id":"w","success":true}"#;
    assert_eq!(client.send("POST", "/tasks/2/complete", &[], late).data()["status"], json!("completed"));
}

#[test]
fn two_servers_may_share_a_file() {
    let api = Api::start();
    let type_id = api.register_any("a");
    let other = Server::start(&api.settings).unwrap();
    for n in 0..50 {
        api.create("a", json!({"n": n}));
    }
    let clients = [api.client(), Client::new(other.api_url())];
    let mut ids: Vec<i64> = thread::scope(|scope| {
        let threads = clients.map(|client| scope.spawn(move || client.claim_all(type_id)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>(), "each is handed out once");
}

#[test]
fn only_the_owner_has_access_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("new/folders/tasks.db");
    let server = Server::start(&settings(database.clone())).unwrap();
    for file in [&database, &database.with_extension("db-wal")] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    server.stop();
}

fn start_error(settings: &Settings) -> ServerError {
    Server::start(settings).err().expect("it must not start")
}

#[test]
fn an_address_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path().join("tasks.db"));
    settings.listen = taken.local_addr().unwrap();
    let error = start_error(&settings);
    assert!(matches!(error, ServerError::AddressInUse(address) if address == settings.listen), "{error}");
    assert!(!settings.database.exists(), "nothing is created for nothing");
}

#[test]
fn an_address_of_another_machine_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path().join("tasks.db"));
    settings.listen = "192.0.2.1:0".parse().unwrap();
    settings.api_key = Some("a-key-of-the-tests".to_owned());
    let error = start_error(&settings);
    assert!(matches!(error, ServerError::AddressUnusable { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:0: "), "{error}");
}

#[test]
fn other_machines_need_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path().join("tasks.db"));
    for key in [None, Some(String::new())] {
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            settings.listen = listen.parse().unwrap();
            settings.api_key.clone_from(&key);
            let error = start_error(&settings);
            assert!(matches!(error, ServerError::KeyRequired(_)), "{listen}: {error}");
        }
    }
    settings.listen = "0.0.0.0:0".parse().unwrap();
    for key in ["k", "fifteen-letters", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"] {
        settings.api_key = Some(key.to_owned());
        let error = start_error(&settings);
        assert!(matches!(error, ServerError::KeyTooShort(_)), "{key}: {error}");
    }
    let key = "sixteen-letters!";
    settings.api_key = Some(key.to_owned());
    let server = Server::start(&settings).unwrap();
    assert_eq!(server.api_url(), format!("http://127.0.0.1:{}/api", server.address().port()));
    let client = Client::new(server.api_url());
    assert_eq!(client.send("GET", "/tasks", &[("X-API-Key", key)], "").data(), json!([]));
    assert_eq!(client.get("/tasks").status, 401);
}

/// What starting says to a database that `make` has made.
fn refused(make: impl FnOnce(&Path)) -> (ServerError, Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("tasks.db");
    make(&database);
    let before = fs::read(&database).unwrap_or_default();
    let error = start_error(&settings(database.clone()));
    assert!(error.to_string().contains(&database.display().to_string()), "{error}");
    (error, before, fs::read(&database).unwrap_or_default())
}

#[test]
fn a_file_that_is_not_a_database_is_left_alone() {
    let (error, before, after) = refused(|file| fs::write(file, "a text, and a rather long one ".repeat(99)).unwrap());
    assert!(matches!(error, ServerError::NotADatabase(_)), "{error}");
    assert_eq!(after, before);
}

#[test]
fn another_programs_database_is_left_alone() {
    let (error, before, after) = refused(|file| {
        Connection::open(file).unwrap().execute_batch("CREATE TABLE tasks (id)").unwrap();
    });
    assert!(matches!(error, ServerError::ForeignDatabase(_)), "{error}");
    assert_eq!(after, before);

    let (error, before, after) = refused(|file| {
        Connection::open(file).unwrap().pragma_update(None, "application_id", 42).unwrap();
    });
    assert!(matches!(error, ServerError::ForeignDatabase(_)), "{error}");
    assert_eq!(after, before);
}

#[test]
fn a_newer_database_is_left_alone() {
    let (error, before, after) = refused(|file| {
        Server::start(&settings(file.to_owned())).unwrap().stop();
        Connection::open(file).unwrap().pragma_update(None, "user_version", 7).unwrap();
    });
    assert!(matches!(error, ServerError::NewerDatabase { found: 7, known: 6, .. }), "{error}");
    assert_eq!(after, before);
}

#[test]
fn a_database_of_an_older_layout_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("tasks.db");
    fs::write(&database, include_bytes!("../fixtures/tasks-5.sqlite")).unwrap();
    let server = Server::start(&settings(database)).unwrap();
    let client = Client::new(server.api_url());
    for (query, expected) in [
        ("", &[8, 7, 6, 5, 4, 3, 2, 1][..]),
        ("?limit=2&offset=3", &[5, 4]),
        ("?status=pending", &[8, 7, 6, 5, 2]),
        ("?status=pending&limit=1", &[8]),
        ("?status=pending&limit=2&offset=1", &[7, 6]),
        ("?status=pending&before=7&limit=2", &[6, 5]),
        ("?status=pending&type=b&limit=2", &[8, 6]),
        ("?status=failed", &[]),
    ] {
        let listed = client.get(&format!("/tasks{query}")).data();
        let ids: Vec<i64> = listed.as_array().unwrap().iter().map(|task| task["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, expected, "{query}");
    }
    let claim = r#"{"worker_id":"v","limit":5,"types":[{"id":1},{"id":2}],"sort_by":"priority","sort_order":"DESC"}"#;
    let claimed = client.send("POST", "/tasks/claim", &[], claim).data();
    // The claims of 3 and 4 have expired.
    assert_eq!(ids(&claimed), [3, 4, 8, 2, 6]);
}

#[test]
fn a_file_that_cannot_be_used_is_an_error() {
    let (error, ..) = refused(|file| fs::create_dir(file).unwrap());
    assert!(matches!(error, ServerError::DatabaseUnusable { .. }), "{error}");

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = start_error(&settings(folder.path().join("file/tasks.db")));
    assert!(matches!(error, ServerError::DatabaseUnusable { .. }), "{error}");
}

#[test]
fn callers_are_told_that_the_database_fails() {
    let api = Api::start();
    Connection::open(&api.settings.database).unwrap().execute_batch("DROP TABLE tasks; DROP TABLE task_types").unwrap();
    for path in ["/health", "/tasks/1", "/task-types"] {
        let answer = api.get(path);
        assert_eq!((answer.status, &answer.body["error"]), (500, &json!("Internal server error")));
        assert!(
            answer.body["details"][0].as_str().unwrap().starts_with("it is damaged: no such table"),
            "{}",
            answer.body
        );
    }
}

#[test]
fn it_stops_at_once_with_open_connections() {
    let api = Api::start();
    let address = api.server.address();
    let silent = TcpStream::connect(address).unwrap();
    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_ne!(idle.read(&mut [0; 1024]).unwrap(), 0);
    api.get("/health").data();

    let start = Instant::now();
    api.server.stop();
    assert!(start.elapsed() < Duration::from_millis(2900), "connections are left after 3 s: {:?}", start.elapsed());
    for mut connection in [silent, idle] {
        assert_eq!(connection.read(&mut [0; 1024]).unwrap(), 0, "it is closed");
    }
}

#[test]
fn a_request_in_flight_is_finished() {
    let api = Api::start();
    let mut client = TcpStream::connect(api.server.address()).unwrap();
    client.write_all(b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n").unwrap();
    client.write_all(b"Content-Length: 2\r\n\r\n").unwrap();
    let mut buffer = [0; 1024];
    let count = client.read(&mut buffer).unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 100 Continue"), "the server waits for the body");

    let Api { server, .. } = api;
    let address = server.address();
    let stopping = thread::spawn(move || server.stop());
    wait_for("the end of the listener", || TcpStream::connect(address).is_err().then_some(()));
    client.write_all(b"{}").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Missing required field: type"), "{answer}");
    stopping.join().unwrap();
}
