//! `init`: the files that it writes work, and existing files stay.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::support::{Rig, Sandbox, complains, names_in};

/// Runs the commands that `init` shows, except for `serve`: the rig has a TaskManager.
fn follow(rig: &Rig, init: &Value) {
    let next: Vec<&str> = init["next"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!((next.first(), next.len()), (Some(&"prismq serve"), 5));
    for line in &next[1..] {
        rig.run(line.strip_prefix("prismq ").unwrap()).exits(0);
    }
}

/// A folder with links to these programs only.
fn programs(sandbox: &Sandbox, names: &[&str]) -> String {
    let folder = sandbox.home("bin");
    fs::create_dir(&folder).unwrap();
    for name in names {
        let found = ["/usr/bin", "/bin"].map(|folder| std::path::Path::new(folder).join(name));
        symlink(found.iter().find(|path| path.exists()).unwrap(), folder.join(name)).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

#[test]
fn the_starter_files_work() {
    let rig = Rig::empty();
    let init = rig.run("init --json").exits(0).json();
    assert_eq!((&init["written"], &init["kept"]), (&json!([".env", "hello.py", "prismq.toml"]), &json!([])));
    assert_eq!(names_in(&rig.sandbox.path("")), [".env", "hello.py", "prismq.toml"]);
    follow(&rig, &init);
    let results = rig.results();
    assert_eq!((results.len(), &results[0]["data"]), (1, &json!({"greeting": "Hello, Ada!"})));

    rig.create("example.hello", &json!({"name": " "}));
    rig.run("work --drain").exits(0);
    let failed = &rig.results()[1];
    assert_eq!((&failed["error_type"], &failed["retryable"]), (&json!("validation"), &json!(false)));
    assert!(failed["error"].as_str().unwrap().contains("name is empty"), "{failed}");
}

#[test]
fn the_starter_files_work_without_python() {
    let rig = Rig::empty();
    let path = programs(&rig.sandbox, &["sh", "sed"]);
    let init = rig.prismq("init --json").env("PATH", &path).run().exits(0).json();
    assert_eq!(init["written"], json!([".env", "hello.sh", "prismq.toml"]));
    follow(&rig, &init);
    assert_eq!(rig.results()[0]["data"], json!({"greeting": "Hello, Ada!"}));
    rig.create("example.hello", &json!({"name": ""}));
    rig.run("work --drain").exits(0);
    assert_eq!(rig.results()[1]["error_type"], "validation");
}

#[test]
fn every_setting_in_the_starter_env_can_be_set() {
    let sandbox = Sandbox::new();
    let output = sandbox.prismq(["init"]).run().exits(0);
    assert_eq!(output.stdout, "written: .env\nwritten: hello.py\nwritten: prismq.toml\n");
    assert!(output.stderr.contains("prismq register-type --all"), "{}", output.stderr);
    let mode = fs::metadata(sandbox.path(".env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for name in ["prismq.toml", ".env"] {
        let text = sandbox.read(name);
        let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        assert!(text.lines().filter(is_setting).count() > 5, "{text}");
        assert!(!text.contains("Copy this file"), "{text}");
    }
    // Settings have no space after the `#`; prose has one.
    let set = sandbox.read("prismq.toml").replace("\n#", "\n").replace("\n ", "\n# ");
    sandbox.write("prismq.toml", set);
    let config = sandbox.prismq(["config"]).run().exits(0);
    assert!(config.stdout.contains("example.hello") && config.stdout.contains("720h"), "{}", config.stdout);
}

#[test]
fn init_overwrites_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("prismq.toml", "nonsense");
    let output = sandbox.prismq(["init"]).run().exits(0);
    assert_eq!(output.stdout, "written: .env\n");
    assert_eq!(output.stderr, "prismq.toml already exists: left unchanged\n");
    assert_eq!(sandbox.read("prismq.toml"), "nonsense");
    assert_eq!(names_in(&sandbox.path("")), [".env", "prismq.toml"]);

    let sandbox = Sandbox::new();
    symlink("nowhere", sandbox.path(".env")).unwrap();
    sandbox.write("hello.py", "mine");
    let output = sandbox.prismq(["init", "--json"]).run().exits(0).json();
    assert_eq!((&output["written"], &output["kept"]), (&json!(["prismq.toml"]), &json!([".env", "hello.py"])));
    assert_eq!((sandbox.read("hello.py"), sandbox.path("nowhere").exists()), ("mine".into(), false));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let sandbox = Sandbox::new();
    fs::remove_dir(sandbox.path("")).unwrap();
    symlink("/proc/self", sandbox.home("../work")).unwrap();
    let output = sandbox.prismq(["init"]).run();
    complains(&output, 1, &["cannot write .env: "]);
}
