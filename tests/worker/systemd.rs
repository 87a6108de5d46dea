//! What a service manager hears: through a socket such as systemd's, from the real binary.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::{Answer, EmbeddedTaskManager, Prismq, Rig, Running, ScriptedServer, wait_for};

/// What the manager waits for at most, in microseconds. A slot hangs when it is late by twice as much.
const WATCHDOG_USEC: &str = "400000";
/// So many messages of the watchdog come in a time in which a slot that hangs is found out.
const MANY: usize = 12;

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn of(rig: &Rig) -> Self {
        let path = rig.sandbox.home("notify").to_str().unwrap().to_owned();
        Self::at(UnixDatagram::bind(&path).unwrap(), path)
    }

    /// One that is known by this name.
    fn at(socket: UnixDatagram, path: String) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
        Self { socket, path }
    }

    /// `prismq` as its service.
    fn service(&self, prismq: Prismq) -> Prismq {
        prismq.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", WATCHDOG_USEC)
    }

    /// The next message, by its variables.
    #[track_caller]
    fn next(&self) -> BTreeMap<String, String> {
        self.hear().expect("a message")
    }

    fn hear(&self) -> Option<BTreeMap<String, String>> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(std::str::from_utf8(&buffer[..length]).unwrap().lines().filter_map(pair).collect())
    }

    /// The first message that has this variable; those before it are of the watchdog alone.
    #[track_caller]
    fn next_with(&self, name: &str) -> BTreeMap<String, String> {
        loop {
            let message = self.next();
            if message.contains_key(name) {
                return message;
            }
            assert!(message.contains_key("WATCHDOG") || message.contains_key("STATUS"), "{message:?}");
        }
    }

    #[track_caller]
    fn waits_for_status(&self, status: &str) {
        wait_for(status, || (self.next_with("STATUS")["STATUS"] == status).then_some(()));
    }

    /// Waits for many messages of the watchdog.
    #[track_caller]
    fn feels_the_pulse(&self) {
        let start = Instant::now();
        for _ in 0..MANY {
            self.next_with("WATCHDOG");
        }
        assert!(start.elapsed() > Duration::from_millis(1200), "it need not be so often: {:?}", start.elapsed());
    }

    /// Waits until the watchdog's messages have stopped.
    fn misses_the_pulse(&self) {
        self.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        wait_for("silence", || self.hear().is_none().then_some(()));
    }
}

fn end(worker: Running) {
    worker.terminate();
    worker.wait().exits(0);
}

#[test]
fn systemd_is_notified_of_start_and_stop() {
    let rig = Rig::start();
    rig.case("hopeless", "exit 65");
    let it = rig.case("it", "env | grep -c -e NOTIFY -e WATCHDOG || true");
    let manager = Manager::of(&rig);
    let worker = manager.service(rig.work([])).start();
    let ready = manager.next_with("READY");
    assert_eq!((ready["READY"].as_str(), ready["STATUS"].as_str()), ("1", "waiting for tasks"));
    // The first task was handed out three times, and run once.
    manager.waits_for_status("completed: 1, failed: 1");
    let rows = rig.rows("results");
    let row = rows.iter().find(|row| row["task_id"] == it).unwrap();
    assert_eq!(row["data"], "0", "handlers do not speak with the manager");
    worker.terminate();
    let stopping = manager.next_with("STOPPING");
    assert_eq!((stopping["STOPPING"].as_str(), stopping["STATUS"].as_str()), ("1", "stopping, tasks in flight: 0"));
    worker.wait().exits(0);
}

#[test]
fn a_worker_that_waits_for_its_taskmanager_is_up() {
    let mut rig = Rig::start();
    rig.taskmanager.stop();
    let manager = Manager::of(&rig);
    let worker = manager.service(rig.work(["--max-backoff", "1s", "--poll-interval", "1s"])).start();
    let ready = manager.next_with("READY");
    assert!(ready["STATUS"].contains("cannot reach the TaskManager"), "{ready:?}");
    manager.feels_the_pulse();
    rig.taskmanager.restart();
    manager.waits_for_status("waiting for tasks");
    end(worker);
}

#[test]
fn a_worker_whose_taskmanager_wants_to_be_left_alone_is_up() {
    let rig = Rig::start();
    let busy = ScriptedServer::always(Answer::error(429, "later").header("Retry-After", "60"));
    let manager = Manager::of(&rig);
    let worker = manager.service(rig.work(["--api-url", &busy.url()])).start();
    manager.next_with("READY");
    manager.feels_the_pulse();
    end(worker);
    assert_eq!(busy.requests().len(), 1);
}

#[test]
fn a_worker_that_cannot_start_is_never_up() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.api_key = Some("the-key".into())), &[("case", "")]);
    let manager = Manager::of(&rig);
    manager.service(rig.work([])).run().exits(5);
    rig.sandbox.write("prismq.toml", "[[task_type]]\nname = 'case'\nexec = ['no-such-program']\n");
    manager.service(rig.work([])).env("TASKMANAGER_API_KEY", "the-key").run().exits(2);
    manager.socket.set_nonblocking(true).unwrap();
    assert_eq!(manager.hear(), None);
}

#[test]
fn heartbeats_continue_during_long_polls_and_handlers() {
    let rig = Rig::start();
    let manager = Manager::of(&rig);
    let mut worker = manager.service(rig.work(["--concurrency", "2"])).start();
    manager.next_with("READY");
    manager.feels_the_pulse();
    rig.script("long", "touch started-$PRISMQ_TASK_ID; until [ -e go ]; do sleep 0.03; done");
    for n in 0..3 {
        rig.taskmanager.create("case", serde_json::json!({"case": "long", "n": n}));
    }
    worker.wait_for("both slots to be busy", |_| {
        ["1", "2"].iter().all(|id| rig.sandbox.path(&format!("started-{id}")).exists())
    });
    manager.feels_the_pulse();
    // Also while it ends, which may take as long as they do.
    worker.terminate();
    manager.next_with("STOPPING");
    manager.feels_the_pulse();
    rig.sandbox.write("go", "");
    assert!(!worker.wait().exits(0).stderr.contains("hangs"));
}

#[test]
fn a_slot_that_hangs_is_noticed() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[("case", "timeout = \"100ms\"")]);
    let manager = Manager::of(&rig);
    let worker = rig.work(["--concurrency", "2"]).env("FAILPOINTS", "noted=1*sleep(60000)");
    let mut worker = manager.service(worker).start();
    manager.next_with("READY");
    rig.case("it", "echo 1");
    worker.wait_for_stderr("worker hung reason=\"slot");
    manager.misses_the_pulse();
    assert!(worker.is_running());
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_may_be_abstract() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let rig = Rig::start();
    let name = format!("prismq-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let manager = Manager::at(socket, format!("@{name}"));
    rig.case("it", "echo 1");
    let worked = manager.service(rig.work(["--drain"])).run().exits(0);
    manager.next_with("READY");
    manager.next_with("STOPPING");
    assert!(!worked.stderr.contains("NOTIFY_SOCKET"), "{worked:?}");
}

#[test]
fn nothing_is_sent_without_a_notify_socket() {
    let rig = Rig::start();
    rig.case("it", "echo 1");
    rig.work(["--drain"]).env("NOTIFY_SOCKET", "/nowhere/notify").env("WATCHDOG_USEC", "soon").run().exits(0);
    assert_eq!(rig.worked(), [1]);
}

/// What the log of a worker says of its service manager.
fn said_of(rig: &Rig, socket: &str) -> Vec<String> {
    let worker = rig.work(["--drain"]).env("NOTIFY_SOCKET", socket).run().exits(0);
    let lines = worker.stderr.lines().filter_map(|line| line.split_once("cannot notify the service manager: "));
    lines.map(|(_, said)| said.to_owned()).collect()
}

#[test]
fn an_unreachable_notify_socket_is_logged_once() {
    let rig = Rig::start();
    let nobody = rig.sandbox.home("nobody").to_str().unwrap().to_owned();
    for (socket, words) in [
        (nobody.as_str(), "nothing listens there"),
        ("/", "nothing listens there"),
        ("@", "write an absolute path, or @ and a name"),
        ("vsock:2:1234", "vsock addresses are not supported"),
        ("vsock-stream:2:1234", "vsock addresses are not supported"),
        ("relative", "write an absolute path"),
    ] {
        let said = said_of(&rig, socket);
        assert!(said.len() == 1 && said[0].contains(words), "{socket}: {said:?}");
        assert!(said[0].starts_with(&format!("NOTIFY_SOCKET={socket}: ")), "{socket}: {said:?}");
    }
    #[cfg(target_os = "linux")]
    assert_eq!(said_of(&rig, "@prismq-nobody").len(), 1);
}

#[test]
fn a_service_manager_that_reads_nothing_does_not_delay_the_worker() {
    let rig = Rig::start();
    rig.case("it", "echo 1");
    let path = rig.sandbox.home("deaf");
    let socket = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &path).is_ok() {}
    let said = said_of(&rig, path.to_str().unwrap());
    assert!(said.len() == 1 && said[0].contains("nobody reads"), "{said:?}");
    assert_eq!(rig.worked(), [1]);
    drop(socket);
}
