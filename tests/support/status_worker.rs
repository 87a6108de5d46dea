//! A worker with a status endpoint, and its answers.

use std::net::SocketAddr;

use serde_json::Value;

use super::{Exchange, Prismq, Rig, Running, exchange, wait_for};

/// A worker with a status endpoint on a free port.
pub(crate) struct StatusWorker {
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
}

impl StatusWorker {
    #[track_caller]
    pub(crate) fn start<'a>(rig: &Rig, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of(rig.work(arguments))
    }

    /// Starts a worker that waits only a second instead of ten for a locked results file.
    #[track_caller]
    pub(crate) fn start_with_short_timeouts<'a>(rig: &Rig, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of(rig.work(arguments).env("FAILPOINTS", "short_timeouts=return"))
    }

    /// Starts a prepared worker.
    #[track_caller]
    pub(crate) fn of(worker: Prismq) -> Self {
        let mut running = worker.args(["--status-addr", "127.0.0.1:0"]).start();
        let line = "serving status page, health and metrics address=";
        running.wait_for(line, |it| it.stderr().split_once(line).is_some_and(|(_, rest)| rest.contains('\n')));
        let log = running.stderr();
        let address = log.split_once(line).unwrap().1.lines().next().unwrap().parse().unwrap();
        Self { running, address }
    }

    /// Sends a GET and returns the status and the body.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path);
        (answer.status, answer.body)
    }

    /// Sends a request.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str) -> Exchange {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        exchange(self.address, &request).unwrap()
    }

    /// Sends a GET with this `Host`.
    #[track_caller]
    pub(crate) fn ask_as(&self, host: &str, path: &str) -> Exchange {
        exchange(self.address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).unwrap()
    }

    #[track_caller]
    pub(crate) fn health(&self) -> Value {
        serde_json::from_str(&self.get("/health").1).unwrap()
    }

    /// Waits until the metrics contain this line.
    #[track_caller]
    pub(crate) fn wait_for_metric(&self, line: &str) {
        let holds = || {
            let text = self.get("/metrics").1;
            text.lines().any(|it| it == line).then_some(())
        };
        wait_for(line, holds);
    }
}
