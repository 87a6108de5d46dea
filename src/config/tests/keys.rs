//! Sources of keys, and that keys are never shown.

use super::*;

/// A key by its variable, its setting, the description of its file, and its value in a configuration.
type KeySetting = (&'static str, &'static str, &'static str, fn(Config) -> Option<Setting<Secret>>);

const KEYS: [KeySetting; 2] = [
    ("TASKMANAGER_API_KEY", "api_key", "API key file", |config| config.api_key),
    ("YOUTUBE_API_KEY", "youtube_api_key", "YouTube API key file", |config| config.youtube_api_key),
];

#[test]
fn a_key_comes_from_a_variable_or_a_file() {
    for (variable, name, _, key) in KEYS {
        let key = |machine: &Machine| key(machine.config()).map(|key| (key.expose().to_owned(), from(&key)));
        let files = Machine::new().file("work/a", "of-a\n").file("work/b", "of-b").file("work/c", "of-c");
        let mut machine = files.toml(&format!("{name}_file = 'a'"));
        let file = machine.path("work/prismq.toml").display().to_string();
        assert_eq!(key(&machine), Some(("of-a".into(), file)));
        machine = machine.file("work/.env", &format!("{variable}_FILE=c"));
        assert_eq!(key(&machine), Some(("of-c".into(), format!(".env ({variable}_FILE)"))));
        machine = machine.file("work/.env", &format!("{variable}=of-dot-env"));
        assert_eq!(key(&machine), Some(("of-dot-env".into(), format!(".env ({variable})"))));
        machine = machine.variable(&format!("{variable}_FILE"), "b");
        assert_eq!(key(&machine), Some(("of-b".into(), format!("environment ({variable}_FILE)"))));
        machine = machine.variable(variable, "direct");
        assert_eq!(key(&machine), Some(("direct".into(), format!("environment ({variable})"))));
    }
}

#[test]
fn unusable_key_files_and_keys_in_the_wrong_place_are_named() {
    for (variable, name, what, _) in KEYS {
        let file = format!("{variable}_FILE");
        let (message, _) = Machine::new().variable(&file, "gone").error();
        assert!(message.starts_with(&format!("{what} work/gone, from environment ({file}): cannot")), "{message}");
        let (message, _) = Machine::new().file("work/empty", "\n").variable(&file, "empty").error();
        assert!(message.ends_with("the key is empty"), "{message}");
        let (message, hint) = Machine::new().toml(&format!("{name} = 'x'")).error();
        assert_eq!(message, format!("work/prismq.toml:1: `{name}`: keys do not belong in this file"));
        assert!(hint.contains(variable) && hint.contains(&format!("{name}_file")), "{hint}");
    }
}

#[test]
fn a_key_is_never_shown() {
    for name in ["TASKMANAGER_API_KEY", "YOUTUBE_API_KEY"] {
        let machine = Machine::new().variable(name, "hunter2");
        assert!(!format!("{:?}", machine.config()).contains("hunter2"));
        assert!(!format!("{:?}", machine.config().describe()).contains("hunter2"));
    }

    for machine in [
        Machine::new().variable("YOUTUBE_API_KEY", "hunter2\nX: y"),
        Machine::new().toml("youtube_api_key = 'hunter2'"),
        Machine::new().variable("TASKMANAGER_API_KEY", "hunter2\nX: y"),
        Machine::new().toml("api_key = 'hunter2'"),
        Machine::new().toml("api_key = 'hunter2"),
        Machine::new().toml("poll_interval = 1\n'hunter2'"),
        Machine::new().file("work/.env", "TASKMANAGER_API_KEY='hunter2"),
        Machine::new().file("work/.env", "TASKMANAGER_API_KEY hunter2"),
        Machine::new().file("work/k", "hunter2\nhunter2").variable("TASKMANAGER_API_KEY_FILE", "k"),
    ] {
        let (message, hint) = machine.error();
        assert!(!message.contains("hunter2") && !hint.contains("hunter2"), "{message} {hint}");
    }
}
