//! All layers together: which source takes precedence, and errors.

mod keys;
mod task_types;

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

struct Machine {
    dir: TempDir,
    flags: Flags,
    environment: BTreeMap<String, String>,
}

impl Machine {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("work")).unwrap();
        Self { dir, flags: Flags::default(), environment: BTreeMap::new() }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn toml(self, text: &str) -> Self {
        self.file("work/prismq.toml", text)
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn sources(&self) -> Sources {
        Sources {
            flags: self.flags.clone(),
            environment: self.environment.clone(),
            working_dir: self.path("work"),
            config_home: Some(self.path("home/config")),
            data_home: Some(self.path("home/data")),
        }
    }

    fn load(&self) -> Result<Config, ConfigError> {
        load(self.sources())
    }

    fn config(&self) -> Config {
        self.load().unwrap()
    }

    /// The error's message, without the machine's folders, and its hint.
    fn error(&self) -> (String, String) {
        let error = self.load().unwrap_err();
        assert!(!error.message.contains('\n'), "one line: {error}");
        let root = format!("{}/", self.dir.path().display());
        (error.message.replace(&root, ""), error.hint.unwrap_or_default())
    }
}

fn from<T>(setting: &Setting<T>) -> String {
    setting.origin.to_string()
}

#[test]
fn defaults_are_as_documented() {
    let machine = Machine::new();
    let config = machine.config();
    assert_eq!(*config.api_url, "http://localhost:8000/api");
    assert!(config.api_key.is_none());
    assert_eq!(*config.poll_interval, Duration::from_secs(10));
    assert_eq!(*config.max_backoff, Duration::from_secs(60));
    assert_eq!(*config.claim_timeout, Duration::from_secs(300));
    assert_eq!(*config.grace_period, Duration::from_secs(30));
    assert_eq!(*config.keep_results, Duration::ZERO);
    assert_eq!((*config.max_tasks, *config.concurrency, *config.max_attempts), (0, 1, 5));
    assert_eq!((*config.strategy, *config.log_format), (Strategy::Fifo, LogFormat::Text));
    assert_eq!((*config.youtube_daily_quota, *config.youtube_cache), (10_000, Duration::from_secs(3600)));
    assert_eq!(*config.log_level, "info");
    assert_eq!(*config.results, machine.path("home/data/prismq/results.db"));
    assert_eq!(config.ideas, config.results);
    assert!(config.status_addr.is_none());
    assert!(config.ca_file.is_none() && config.task_types.is_empty() && config.config.is_none());
    assert!(config.describe().iter().all(|row| row.origin == Origin::Default));
}

#[test]
fn the_worker_id_names_the_host_and_is_new_each_time() {
    let machine = Machine::new();
    let ids = [machine.config().worker_id.value, machine.config().worker_id.value];
    assert_ne!(ids[0], ids[1]);
    let host = hostname::get().unwrap().to_string_lossy().into_owned();
    for id in ids {
        let hex = id.strip_prefix(&format!("{host}-")).unwrap();
        assert!(hex.len() == 8 && hex.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    }
}

#[test]
fn each_source_takes_precedence_over_the_next() {
    let mut machine = Machine::new().toml("poll_interval = 1");
    let file = machine.path("work/prismq.toml");
    let seen = |machine: &Machine| {
        let setting = machine.config().poll_interval;
        (setting.as_secs(), setting.origin)
    };
    assert_eq!(seen(&machine), (1, Origin::File(file)));
    machine = machine.file("work/.env", "POLL_INTERVAL=2\n");
    assert_eq!(seen(&machine), (2, Origin::DotEnv("POLL_INTERVAL")));
    machine = machine.variable("POLL_INTERVAL", "3");
    assert_eq!(seen(&machine), (3, Origin::Environment("POLL_INTERVAL")));
    machine = machine.flags(Flags::default().poll_interval(Duration::from_secs(4)));
    assert_eq!(seen(&machine), (4, Origin::Flag));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let machine = Machine::new()
        .variable("POLL_INTERVAL", "")
        .variable("TASKMANAGER_API_KEY", "  ")
        .variable("PRISMQ_STATUS_ADDR", "")
        .file("work/.env", "POLL_INTERVAL=2");
    let config = machine.config();
    assert_eq!(config.poll_interval.origin, Origin::DotEnv("POLL_INTERVAL"));
    assert!(config.api_key.is_none());
}

/// Users copy `.env.example`, so each of its lines must be valid and take effect.
#[test]
fn the_example_names_every_variable() {
    let example = include_str!("../../.env.example");
    let mut machine = Machine::new().file("work/prismq.toml", "").file("work/key", "hunter2");
    for line in example.lines().filter_map(|line| line.strip_prefix('#')) {
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.contains(' ')) else { continue };
        assert!(!value.is_empty(), "{name} has an example");
        machine = machine.variable(name, value);
    }
    machine.environment.insert("PRISMQ_CONFIG".into(), "prismq.toml".into());
    for name in ["TASKMANAGER_API_KEY_FILE", "YOUTUBE_API_KEY_FILE"] {
        machine.environment.insert(name.into(), "key".into());
    }
    let rows = machine.config().describe();
    let silent: Vec<_> = rows.iter().filter(|row| row.origin == Origin::Default).map(|row| row.name).collect();
    assert!(silent.is_empty(), "not in .env.example: {silent:?}");

    for (covering, covered) in [
        ("TASKMANAGER_API_KEY", "TASKMANAGER_API_KEY_FILE"),
        ("YOUTUBE_API_KEY", "YOUTUBE_API_KEY_FILE"),
        ("RUST_LOG", "DEBUG"),
    ] {
        let arrives = |machine: &Machine, name| {
            machine.config().describe().iter().any(|row| matches!(row.origin, Origin::Environment(it) if it == name))
        };
        assert!(arrives(&machine, covering) && !arrives(&machine, covered));
        machine.environment.remove(covering);
        assert!(arrives(&machine, covered), "{covered} is in .env.example");
    }
}

#[test]
fn the_document_names_every_setting() {
    let document = include_str!("../../docs/configuration.md");
    for row in SETTINGS {
        let file = row.key_file.map(|file| file.variable);
        let names = [row.key(), Some(row.variable), file, row.switch.map(|(variable, _)| variable)];
        let option = row.flag.map(|flag| format!("--{}", flag.long));
        for name in names.into_iter().flatten().map(str::to_owned).chain(option) {
            assert!(document.contains(&format!("`{name}")), "{name} is in docs/configuration.md");
        }
    }
}

/// Help names a default in the words of the setting, or describes it.
#[test]
fn help_and_settings_agree_on_defaults() {
    let described = |flags| of_flags(Sources { flags, ..Machine::new().sources() }).unwrap().describe();
    let mut checked = 0;
    for row in SETTINGS {
        let default = row.help.split_once("[default: ").and_then(|(_, rest)| rest.strip_suffix(']'));
        if let (TextForm::Value | TextForm::Choice(_), Some(default)) = (row.form, default) {
            let value = |flags| described(flags).into_iter().find(|it| it.name == row.name).unwrap().value;
            assert_eq!(value(Flags::default().with(row.name, default)), value(Flags::default()), "{}", row.name);
            checked += 1;
        }
    }
    assert!(checked > 5);
}

#[test]
fn every_key_of_the_file_is_used() {
    let machine = Machine::new().file("work/key", "hunter2").toml(
        r#"
        api_url = "https://example.org/api/"
        api_key_file = "key"
        worker_id = "me"
        poll_interval = "500ms"
        max_backoff = 5
        max_tasks = 7
        strategy = "priority"
        concurrency = 4
        claim_timeout = "2m"
        max_attempts = 9
        grace_period = 0
        results = "r.db"
        keep_results = "7d"
        ideas = "../i.db"
        youtube_daily_quota = 50000
        youtube_cache = 0
        log_format = "json"
        log_level = "warn"
        status_addr = "[::1]:9090"
        ca_file = "ca.pem"
        youtube_api_url = "http://localhost:9000/youtube/v3/"
        youtube_api_key_file = "key"
        "#,
    );
    let file = machine.path("work/prismq.toml");
    let rows: Vec<_> = machine.config().describe().into_iter().map(|row| (row.name, row.value, row.origin)).collect();
    let shown = |path: &str| machine.path("work").join(path).display().to_string();
    let expected = [
        ("config", shown("prismq.toml")),
        ("api_url", "https://example.org/api".into()),
        ("api_key", "***".into()),
        ("worker_id", "me".into()),
        ("poll_interval", "500ms".into()),
        ("max_backoff", "5s".into()),
        ("max_tasks", "7".into()),
        ("strategy", "priority".into()),
        ("concurrency", "4".into()),
        ("claim_timeout", "2m".into()),
        ("max_attempts", "9".into()),
        ("grace_period", "0s".into()),
        ("results", shown("r.db")),
        ("keep_results", "168h".into()),
        ("ideas", shown("../i.db")),
        ("youtube_daily_quota", "50000".into()),
        ("youtube_cache", "0s".into()),
        ("log_format", "json".into()),
        ("log_level", "warn".into()),
        ("status_addr", "[::1]:9090".into()),
        ("ca_file", shown("ca.pem")),
        ("youtube_api_url", "http://localhost:9000/youtube/v3".into()),
        ("youtube_api_key", "***".into()),
    ];
    assert_eq!(rows, expected.map(|(name, value)| (name, value, Origin::File(file.clone()))));
}

#[test]
fn the_file_is_found_in_the_documented_order() {
    let mut machine = Machine::new().file("home/config/prismq/prismq.toml", "max_tasks = 1");
    assert_eq!(*machine.config().max_tasks, 1);
    machine = machine.toml("max_tasks = 2");
    assert_eq!(*machine.config().max_tasks, 2);
    machine = machine.file("work/third.toml", "max_tasks = 3").variable("PRISMQ_CONFIG", "third.toml");
    assert_eq!(*machine.config().max_tasks, 3);
    machine = machine.file("fourth.toml", "max_tasks = 4").flags(Flags::default().config("../fourth.toml".into()));
    let config = machine.config();
    assert_eq!((*config.max_tasks, config.config.unwrap().value), (4, machine.path("work/../fourth.toml")));
}

#[test]
fn a_named_file_must_exist() {
    let machine = Machine::new().toml("").variable("PRISMQ_CONFIG", "nowhere.toml");
    assert_eq!(machine.error().0, "PRISMQ_CONFIG: no such file: work/nowhere.toml");
    let machine = Machine::new().toml("").flags(Flags::default().config("gone.toml".into()));
    assert_eq!(machine.error().0, "--config: no such file: work/gone.toml");
}

#[test]
fn sources_of_the_log_level_have_their_own_order() {
    let level = |machine: &Machine| (machine.config().log_level.value.clone(), from(&machine.config().log_level));
    let mut machine = Machine::new().toml("log_level = 'error'").variable("DEBUG", "express:*");
    assert_eq!(level(&machine).0, "error");
    machine = machine.variable("DEBUG", "true");
    assert_eq!(level(&machine), ("debug".into(), "environment (DEBUG)".into()));
    machine = machine.variable("RUST_LOG", "warn");
    assert_eq!(level(&machine), ("warn".into(), "environment (RUST_LOG)".into()));
    machine = machine.flags(Flags::default().log_level("trace".into()));
    assert_eq!(level(&machine), ("trace".into(), "command line".into()));
}

#[test]
fn the_results_file_is_in_the_state_folder_or_the_data_folder() {
    let machine = Machine::new().variable("STATE_DIRECTORY", "/var/lib/prismq:/var/lib/other");
    assert_eq!(*machine.config().results, PathBuf::from("/var/lib/prismq/results.db"));
    let own = Machine::new().variable("STATE_DIRECTORY", "~root/state").config();
    assert!(own.results.is_absolute() && !own.results.to_str().unwrap().contains('~'), "{:?}", own.results);
    let machine = Machine::new();
    let homeless = Sources { config_home: None, data_home: None, ..machine.sources() };
    assert_eq!(*load(homeless).unwrap().results, machine.path("work/results.db"));
    let config = Machine::new().variable("PRISMQ_RESULTS", "/r.db").config();
    assert_eq!(*config.ideas, PathBuf::from("/r.db"));
}

#[test]
fn errors_name_their_place() {
    let flag = |flags| Machine::new().flags(flags);
    for (machine, start) in [
        (
            Machine::new().toml("\n\npoll_interval = 'x'"),
            "work/prismq.toml:3: `poll_interval`: \"x\" is not a duration",
        ),
        (Machine::new().toml("poll_interval = 0"), "work/prismq.toml:1: `poll_interval`: must be more than 0"),
        (Machine::new().toml("grace_period = -1"), "work/prismq.toml:1: `grace_period`: \"-1\" is not a duration"),
        (
            Machine::new().toml("concurrency = true"),
            "work/prismq.toml:1: `concurrency`: \"true\" is not a whole number",
        ),
        (Machine::new().toml("results = ''"), "work/prismq.toml:1: `results`: must not be empty"),
        (Machine::new().toml("a = 1\na = 2"), "work/prismq.toml:2: not valid TOML: the key is defined twice"),
        (Machine::new().toml("\nx = [1,"), "work/prismq.toml:2: not valid TOML: a list is not closed: `]` is missing"),
        (
            Machine::new().toml("status_addr = 'x'"),
            "work/prismq.toml:1: `status_addr`: \"x\" is not an IP address with a port",
        ),
        (
            Machine::new().toml("task_type = 1"),
            "work/prismq.toml:1: `task_type`: must be a list of tables: write [[task",
        ),
        (Machine::new().toml("[task_type]"), "work/prismq.toml:1: `task_type`: must be a list of tables: write [[task"),
        (Machine::new().variable("MAX_BACKOFF", "0"), "environment (MAX_BACKOFF): must be more than 0"),
        (Machine::new().variable("PRISMQ_STATUS_ADDR", ":1"), "environment (PRISMQ_STATUS_ADDR): \":1\" is no"),
        (Machine::new().variable("RUST_LOG", "loud"), "environment (RUST_LOG): \"loud\" is not a log level"),
        (
            Machine::new().file("work/.env", "MAX_RUNS=-1"),
            ".env (MAX_RUNS): must be between 0 and 18446744073709551615, not -1 (0: no limit)",
        ),
        (Machine::new().file("work/.env", "A=1\nB C"), "work/.env:2: not NAME=VALUE"),
        (flag(Flags::default().api_url("nope".into())), "--api-url: \"nope\" is not a valid URL"),
        (flag(Flags::default().log_level("x".into())), "--log-level: \"x\" is not a log level"),
        (flag(Flags::default().worker_id(String::new())), "--worker-id: a worker ID must have"),
    ] {
        let (message, _) = machine.error();
        assert!(message.starts_with(start), "{message:?} does not start with {start:?}");
    }
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    for (text, line, key, nearest) in [
        ("max_tasks = 1\npoll_intervall = 1", 2, "poll_intervall", "poll_interval"),
        ("[[task_type]]\nname = 'a'\nhandlers = 'echo'", 3, "handlers", "handler"),
        ("[[task_type]]\nname = 'a'\nretry = { max_atempts = 1 }", 3, "max_atempts", "max_attempts"),
        ("[[task_types]]\nname = 'a'", 1, "task_types", "task_type"),
    ] {
        let (message, hint) = Machine::new().toml(text).error();
        assert_eq!(message, format!("work/prismq.toml:{line}: unknown key `{key}`"));
        assert_eq!(hint, format!("did you mean `{nearest}`?"));
    }
}

#[test]
fn a_folder_called_dot_env_is_ignored() {
    assert!(Machine::new().file("work/.env/pyvenv.cfg", "").load().is_ok());
}
