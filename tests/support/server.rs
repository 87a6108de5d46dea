//! A scripted HTTP server on a real socket. It answers or misbehaves as a test tells it, and records requests. Dropping
//! it ends its connections and threads at once; if the script panicked, that fails the test.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::wait::PATIENCE;

/// The path of the base URL.
const BASE: &str = "/api";

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query, without the path of the base URL.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Number of earlier requests on its connection.
    pub(crate) before: usize,
    /// When it was read.
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer, and how it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    manner: Manner,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Proper,
    CutShort,
    EndlessChunks,
    EndlessBody,
    Dripping,
    Raw,
    Close,
    Reset,
    Hang,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".into(), content_type.into())];
        Self { status, headers, body: body.into(), manner: Manner::Proper }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// A success in the TaskManager's envelope.
    pub(crate) fn data(data: &Value) -> Self {
        Self::json(200, &json!({"success": true, "message": "Success", "data": data, "timestamp": 1}))
    }

    /// A refusal in the TaskManager's envelope.
    pub(crate) fn error(status: u16, text: &str) -> Self {
        Self::json(status, &json!({"success": false, "error": text, "timestamp": 1}))
    }

    /// A web page, as sent by proxies.
    pub(crate) fn page(status: u16) -> Self {
        Self::new(status, "text/html", format!("<html>\r\n<head><title>{status}</title></head>\r\n</html>\r\n"))
    }

    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::page(status).header("Location", location)
    }

    /// Raw bytes, which need not be HTTP, then the end of the connection.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(0, "", bytes).in_manner(Manner::Raw)
    }

    /// Closes the connection instead.
    pub(crate) fn close() -> Self {
        Self::raw("").in_manner(Manner::Close)
    }

    /// Resets the connection instead (on Linux; elsewhere it may just be closed).
    pub(crate) fn reset() -> Self {
        Self::raw("").in_manner(Manner::Reset)
    }

    /// Sends nothing until the client or the server ends the connection.
    pub(crate) fn hang() -> Self {
        Self::raw("").in_manner(Manner::Hang)
    }

    /// Ends the connection before the end of the body.
    pub(crate) fn cut_short(self) -> Self {
        self.in_manner(Manner::CutShort)
    }

    /// Makes the body endless, in chunks.
    pub(crate) fn endless_chunks(self) -> Self {
        self.in_manner(Manner::EndlessChunks)
    }

    /// Makes the body endless, with a huge `Content-Length`.
    pub(crate) fn endless_body(self) -> Self {
        self.in_manner(Manner::EndlessBody)
    }

    /// Makes the body endless, with a byte every few milliseconds.
    pub(crate) fn dripping(self) -> Self {
        self.in_manner(Manner::Dripping)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces the body.
    pub(crate) fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    fn in_manner(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }

    /// Sends it. Returns whether the connection stays open.
    fn send(&self, mut stream: &TcpStream) -> io::Result<bool> {
        match self.manner {
            Manner::Proper => {
                self.write(stream, &format!("Content-Length: {}", self.body.len()))?;
                return Ok(!self.headers.iter().any(|(name, value)| name == "Connection" && value == "close"));
            }
            Manner::CutShort => self.write(stream, &format!("Content-Length: {}", self.body.len() + 10))?,
            Manner::EndlessChunks => {
                self.write(stream, "Transfer-Encoding: chunked")?;
                let chunk = format!("4000\r\n{:16384}\r\n", "");
                write_for_ever(stream, chunk.as_bytes(), Duration::ZERO)?;
            }
            Manner::EndlessBody => {
                self.write(stream, &format!("Content-Length: {}", u64::MAX / 2))?;
                write_for_ever(stream, &[b' '; 16384], Duration::ZERO)?;
            }
            Manner::Dripping => {
                self.write(stream, &format!("Content-Length: {}", u64::MAX / 2))?;
                write_for_ever(stream, b" ", Duration::from_millis(5))?;
            }
            Manner::Raw => stream.write_all(&self.body)?,
            Manner::Hang => _ = io::copy(&mut stream, &mut io::sink())?,
            Manner::Close | Manner::Reset => {}
        }
        Ok(false)
    }

    fn write(&self, mut stream: &TcpStream, framing: &str) -> io::Result<()> {
        let mut bytes = format!("HTTP/1.1 {} Scripted\r\n{framing}\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            write!(bytes, "{name}: {value}\r\n")?;
        }
        bytes.extend(b"\r\n");
        if self.manner != Manner::EndlessChunks {
            bytes.extend(&self.body);
        }
        stream.write_all(&bytes)
    }
}

fn write_for_ever(mut stream: &TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    loop {
        stream.write_all(bytes)?; // ends with an error as soon as either side goes away
        thread::sleep(pause);
    }
}

type Script = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

/// A server on a free port of the loopback interface.
pub(crate) struct ScriptedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    script: Script,
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    connections: Mutex<Vec<Weak<TcpStream>>>,
    stopped: AtomicBool,
}

impl ScriptedServer {
    /// Starts a server that calls `script` for each request.
    pub(crate) fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            arrived: Condvar::new(),
            connections: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let address = listener.local_addr().unwrap();
        let listening = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.listen(&listener)
        });
        Self { address, shared, listening: Some(listening) }
    }

    /// Starts a server that sends each answer once, in this order, then 418.
    pub(crate) fn queue(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Mutex<VecDeque<Answer>> = Mutex::new(answers.into_iter().collect());
        Self::start(move |request| {
            let next = answers.lock().unwrap().pop_front();
            next.unwrap_or_else(|| {
                Answer::error(418, &format!("no answer left for {} {}", request.method, request.path))
            })
        })
    }

    /// Starts a server that always sends the same answer.
    pub(crate) fn always(answer: Answer) -> Self {
        Self::start(move |_| answer.clone())
    }

    /// The base URL, which ends in `/api`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{BASE}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// All requests so far, as `METHOD /path`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Waits for `count` requests.
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        let requests = self.shared.requests.lock().unwrap();
        let (requests, waited) =
            self.shared.arrived.wait_timeout_while(requests, PATIENCE, |requests| requests.len() < count).unwrap();
        assert!(!waited.timed_out(), "{} of {count} requests came", requests.len());
        requests.clone()
    }

    /// Number of accepted connections.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        for stream in self.shared.connections.lock().unwrap().iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address); // wakes the thread that listens
        let ended = self.listening.take().map_or(Ok(()), JoinHandle::join);
        assert!(ended.is_ok() || thread::panicking(), "the server's script panicked");
    }
}

impl Shared {
    fn listen(&self, listener: &TcpListener) {
        thread::scope(|scope| {
            for stream in listener.incoming() {
                let stream = Arc::new(stream.unwrap());
                let mut connections = self.connections.lock().unwrap();
                if self.stopped.load(SeqCst) {
                    break;
                }
                connections.push(Arc::downgrade(&stream));
                scope.spawn(move || self.converse(&stream).ok()); // clients may go away whenever they like
            }
        });
    }

    fn converse(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut before = 0;
        while let Some(mut request) = read_request(stream)? {
            request.before = before;
            before += 1;
            let answer = (self.script)(&request);
            self.requests.lock().unwrap().push(request);
            self.arrived.notify_all();
            if answer.manner == Manner::Reset {
                break;
            }
            stream.read_exact(&mut [0])?;
            if !answer.send(stream)? {
                break;
            }
        }
        Ok(())
    }
}

/// Reads the next request. Its last byte stays unread until the answer is known, since a socket that is closed with
/// unread bytes is reset.
fn read_request(mut stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    // Usually the whole head is there; otherwise it is read byte by byte.
    let mut buffer = [0; 1024];
    let there = stream.peek(&mut buffer)?;
    if let Some(end) = buffer[..there].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
        head.resize(end + 3, 0);
        stream.read_exact(&mut head)?;
    }
    while !head.ends_with(b"\r\n\r") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let (method, path) = lines.next().unwrap().trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
    let headers =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.into(), value.into())).collect();
    let mut request = Request {
        method: method.into(),
        path: path.strip_prefix(BASE).unwrap_or(path).into(),
        headers,
        body: Vec::new(),
        before: 0,
        at: Instant::now(),
    };
    let length = request.header("Content-Length").map_or(0, |length| length.parse().unwrap());
    if length > 0 {
        request.body = vec![0; length + 1]; // the head's last byte comes first
        stream.read_exact(&mut request.body[..length])?;
        stream.peek(&mut request.body[length..])?;
        request.body.remove(0);
    } else {
        stream.peek(&mut [0])?;
    }
    Ok(Some(request))
}
