//! Sources of keys, and that keys are never shown.

use super::*;

#[test]
fn the_key_comes_from_a_variable_or_a_file() {
    let key = |machine: &Machine| machine.config().api_key.map(|key| (key.expose().to_owned(), from(&key)));
    let mut machine = Machine::new().file("work/a", "of-a\n").file("work/b", "of-b").toml("api_key_file = 'a'");
    let file = machine.path("work/prismq.toml").display().to_string();
    assert_eq!(key(&machine), Some(("of-a".into(), file)));
    machine = machine.file("work/.env", "TASKMANAGER_API_KEY=of-dot-env");
    assert_eq!(key(&machine), Some(("of-dot-env".into(), ".env (TASKMANAGER_API_KEY)".into())));
    machine = machine.variable("TASKMANAGER_API_KEY_FILE", "b");
    assert_eq!(key(&machine), Some(("of-b".into(), "environment (TASKMANAGER_API_KEY_FILE)".into())));
    machine = machine.variable("TASKMANAGER_API_KEY", "direct");
    assert_eq!(key(&machine), Some(("direct".into(), "environment (TASKMANAGER_API_KEY)".into())));
}

#[test]
fn the_youtube_key_comes_from_the_same_places() {
    let key = |machine: &Machine| machine.config().youtube_api_key.map(|key| (key.expose().to_owned(), from(&key)));
    let mut machine = Machine::new().file("work/a", "of-a\n").file("work/b", "of-b").toml("youtube_api_key_file = 'a'");
    let file = machine.path("work/prismq.toml").display().to_string();
    assert_eq!(key(&machine), Some(("of-a".into(), file)));
    machine = machine.file("work/.env", "YOUTUBE_API_KEY_FILE=b");
    assert_eq!(key(&machine), Some(("of-b".into(), ".env (YOUTUBE_API_KEY_FILE)".into())));
    machine = machine.variable("YOUTUBE_API_KEY", "direct");
    assert_eq!(key(&machine), Some(("direct".into(), "environment (YOUTUBE_API_KEY)".into())));
    let (message, _) = Machine::new().variable("YOUTUBE_API_KEY_FILE", "gone").error();
    assert!(message.starts_with("YouTube API key file work/gone (environment (YOUTUBE_API_KEY_FILE)): "), "{message}");
    let (message, hint) = Machine::new().toml("youtube_api_key = 'x'").error();
    assert_eq!(message, "work/prismq.toml:1: `youtube_api_key`: keys do not belong in this file");
    assert!(hint.contains("YOUTUBE_API_KEY") && hint.contains("youtube_api_key_file"));
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
