//! A headless Chromium that does as it is told, in the W3C's `WebDriver` protocol.
//!
//! Each has a folder of its own for all that it writes. Dropping it ends it; where the test has failed, a picture of what
//! it showed stays in `target/tmp`.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

use crate::support::wait_for;

/// What keeps it from asking for anything of its own, and lets it run in a container, where there is no sandbox.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// What would run, were it not taken for text.
pub(crate) const EVIL: &str =
    "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=2><b onmouseover=x>b</b>";

/// The least contrast of a text with what is behind it, and that text; no text is on a picture.
const LEAST_CONTRAST: &str = r"
    const light = (color) => {
        const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map((it) => it / 255)
            .map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (it) => {
        const color = getComputedStyle(it).backgroundColor;
        return color === 'rgba(0, 0, 0, 0)' ? ground(it.parentElement) : color;
    };
    let least = [21, ''];
    for (const it of document.querySelectorAll('body *')) {
        if (![...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
        if (!it.checkVisibility() || it.closest('svg, progress, meter, script')) continue;
        const [low, high] = [light(getComputedStyle(it).color), light(ground(it))].sort((a, b) => a - b);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < least[0]) least = [contrast, it.outerHTML];
    }
    return least";

/// Headings of columns that touch the one before them in their row.
const TOUCHING: &str = r"
    const box = (it) => {
        const range = document.createRange();
        range.selectNodeContents(it);
        return range.getBoundingClientRect();
    };
    const touching = [];
    for (const row of document.querySelectorAll('tr:has(th)')) {
        const shown = [...row.cells].filter((it) => it.checkVisibility() && it.textContent);
        shown.slice(1).forEach((it, index) => {
            const [before, own] = [box(shown[index]), box(it)];
            if (own.top < before.bottom && own.left < before.right + 4) touching.push(it.textContent);
        });
    }
    return touching";

/// A browser with one window.
pub(crate) struct Browser {
    agent: Agent,
    /// The URL of its session.
    session: String,
    driver: Driver,
}

impl Browser {
    /// What [`EVIL`] would have brought into a page: what it has set, and how many pictures and elements.
    pub(crate) const BROUGHT_ALONG: &str =
        "return [typeof window.pwned, document.images.length, document.querySelectorAll('main b, main script').length]";

    /// A new one; `None` where there is none on this machine.
    ///
    /// Whoever develops need not have it; where changes are accepted, it is installed.
    pub(crate) fn start() -> Option<Self> {
        let Some(driver) = Driver::start() else {
            let missing = "chromedriver is missing: apt-get install chromium chromium-driver";
            assert!(env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}, so that nobody has looked at the pages");
            return None;
        };
        let config = Agent::config_builder().proxy(None).http_status_as_error(false);
        let agent: Agent = config.timeout_global(Some(Duration::from_secs(60))).build().into();
        let profile = format!("--user-data-dir={}", driver.folder.path().display());
        let arguments: Vec<&str> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let sessions = format!("http://127.0.0.1:{}/session", driver.port);
        let id = post(&agent, &sessions, &wanted)["sessionId"].as_str().unwrap().to_owned();
        Some(Self { agent, session: format!("{sessions}/{id}"), driver })
    }

    #[track_caller]
    fn order(&self, command: &str, body: &Value) -> Value {
        post(&self.agent, &format!("{}/{command}", self.session), body)
    }

    /// Goes to a page.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.order("url", &json!({"url": url}));
    }

    /// What a script returns that runs in the page.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.order("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until the page shows all of these, as people see it; what it shows then.
    #[track_caller]
    pub(crate) fn wait_for(&self, texts: &[&str]) -> String {
        wait_for(&format!("{texts:?} on the page"), || {
            let shown = self.run("return document.body.innerText").as_str()?.to_owned();
            texts.iter().all(|text| shown.contains(text)).then_some(shown)
        })
    }

    #[track_caller]
    fn developer(&self, command: &str, params: &Value) -> Value {
        self.order("goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// From now on, the screen is a phone's, 390 points wide.
    #[track_caller]
    pub(crate) fn become_a_phone(&self) {
        let screen = json!({"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true});
        self.developer("Emulation.setDeviceMetricsOverride", &screen);
    }

    /// From now on, the window is so wide.
    #[track_caller]
    pub(crate) fn become_a_window(&self, width: u64) {
        let window = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.developer("Emulation.setDeviceMetricsOverride", &window);
    }

    /// From now on, the user likes `dark`, or `light`.
    #[track_caller]
    fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.developer("Emulation.setEmulatedMedia", &features);
    }

    /// From now on, each page runs this before its own scripts.
    #[track_caller]
    pub(crate) fn run_before_pages(&self, script: &str) {
        self.developer("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script}));
    }

    /// From now on, pages run no scripts.
    #[track_caller]
    pub(crate) fn disable_scripts(&self) {
        self.developer("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    }

    /// Asserts that the page is as wide as the screen, headings of its tables are apart, and its texts stand out, by day
    /// and by night, which are different.
    #[track_caller]
    pub(crate) fn assert_reads_well(&self, width: u64) {
        let grounds = ["light", "dark"].map(|scheme| {
            self.prefer(scheme);
            let path = self.run("return location.pathname");
            let widths = self.run("return [document.documentElement.scrollWidth, innerWidth]");
            assert_eq!(widths, json!([width, width]), "{path}, {scheme}: it scrolls sideways");
            assert_eq!(self.run(TOUCHING), json!([]), "{path}: columns whose headings touch those before");
            let least = self.run(LEAST_CONTRAST);
            assert!(least[0].as_f64().unwrap() >= 4.5, "{path}, {scheme}: {least}");
            self.run("return getComputedStyle(document.body).backgroundColor")
        });
        assert_ne!(grounds[0], grounds[1]);
    }

    /// What the console has complained of since it was last asked for.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<Value> {
        self.order("se/log", &json!({"type": "browser"})).as_array().unwrap().clone()
    }

    /// The addresses that pages have asked anything of.
    #[track_caller]
    pub(crate) fn requests(&self) -> Vec<String> {
        let events = self.order("se/log", &json!({"type": "performance"}));
        let address = |event: &Value| {
            let event: Value = serde_json::from_str(event["message"].as_str()?).ok()?;
            let event = event["message"].as_object()?;
            let url = match event["method"].as_str()? {
                "Network.requestWillBeSent" => event["params"].pointer("/request/url")?,
                "Network.webSocketCreated" => event["params"].get("url")?,
                _ => return None,
            };
            // The browser's own first page is read from its own files.
            url.as_str().filter(|url| !url.starts_with("chrome:") && !url.starts_with("data:")).map(str::to_owned)
        };
        events.as_array().unwrap().iter().filter_map(address).collect()
    }

    /// Keeps a picture of the whole page.
    fn picture(&self, file: &Path) {
        let picture = self.developer("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().unwrap_or_default()).unwrap_or_default();
        let kept = fs::write(file, bytes);
        eprintln!("what the browser showed: {} {kept:?}", file.display());
    }

    /// Where it keeps its files.
    pub(crate) fn folder(&self) -> &Path {
        self.driver.folder.path()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or("browser").replace("::", ".");
            self.picture(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png")));
        }
        let _ = self.agent.delete(&self.session).call(); // what is left is killed
    }
}

/// The value that chromedriver answers with.
#[track_caller]
fn post(agent: &Agent, url: &str, body: &Value) -> Value {
    let request = agent.post(url).header("Content-Type", "application/json");
    let mut answer = request.send(body.to_string()).unwrap();
    let text = answer.body_mut().with_config().limit(100_000_000).read_to_string().unwrap();
    let value = serde_json::from_str::<Value>(&text).unwrap()["value"].take();
    assert!(answer.status().is_success(), "{url}: {value}");
    value
}

/// A chromedriver. Dropping it ends it and what it has started.
struct Driver {
    process: Child,
    port: u16,
    folder: TempDir,
    stdout: BufReader<ChildStdout>,
}

impl Driver {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", folder.path()).env("TMPDIR", folder.path());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let stdout = BufReader::new(process.stdout.take().unwrap());
        // From here on, it ends with us.
        let mut driver = Self { process, port: 0, folder, stdout };
        let port = |line: String| line.split_once("started successfully on port ")?.1.trim_matches('.').parse().ok();
        let mut lines = driver.stdout.by_ref().lines().map_while(Result::ok);
        driver.port = lines.find_map(port).expect("chromedriver names its port");
        Some(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for process in processes_of(self.folder.path()) {
            let _ = kill_process(process, Signal::KILL); // it may have ended by itself
        }
    }
}

/// The processes of the browser that keeps its files in `folder`: each names it.
pub(crate) fn processes_of(folder: &Path) -> Vec<Pid> {
    let listed = Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]).output().unwrap().stdout;
    let folder = folder.to_str().unwrap();
    let of_folder = |line: &str| line.contains(folder).then(|| line.split_whitespace().next()?.parse().ok());
    let listed = String::from_utf8_lossy(&listed);
    listed.lines().filter_map(of_folder).flatten().filter_map(Pid::from_raw).collect()
}
