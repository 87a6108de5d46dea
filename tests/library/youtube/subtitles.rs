//! Subtitles, with a script as `yt-dlp`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::binary;
use super::standin::{KEY, YouTube, id, video};
use crate::support::{Output, Prismq, Rig};

/// Writes subtitles as the real one does: next to the name given by `--output`.
const WRITES: &str = r#"echo "$@" > "$TOLD"
env > "$TOLD.env"
while [ "$1" != --output ]; do shift; done
printf 'WEBVTT\nKind: captions\n\n00:00:00.080 --> 00:00:02.470 align:start position:0%%\nwe&#39;re<00:00:00.320><c> no</c>\n
00:00:02.470 --> 00:00:02.480\nwe&#39;re no\n\n00:00:02.480 --> 00:00:04.000\nwe&#39;re no\nstrangers\n' > "${2%'%(ext)s'}en.vtt"
"#;

struct Scene {
    rig: Rig,
    _api: YouTube,
}

impl Scene {
    /// Configures a type with subtitles, and this script as `yt-dlp`, if any.
    fn new(script: Option<&str>, settings: &str) -> Self {
        let api = YouTube::start().with_videos([video(1), video(2)]);
        let table = "[[task_type]]\nname = \"a.video\"\nhandler = \"youtube.video\"\n";
        let rig = binary::rig(&api, &format!("{table}{settings}\n"));
        rig.run("register-type --all").exits(0);
        fs::create_dir(rig.sandbox.path("bin")).unwrap();
        if let Some(script) = script {
            let path = rig.sandbox.write("bin/yt-dlp", format!("#!/bin/sh\n{script}"));
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        Self { rig, _api: api }
    }

    fn run(&self) -> Output {
        self.claim().run()
    }

    /// Runs a task of the type with `claim --run`.
    fn claim(&self) -> Prismq {
        self.rig.create("a.video", &json!({"video_id": id(1)}));
        let path = format!("{}:/usr/bin:/bin", self.rig.sandbox.path("bin").display());
        let told = self.rig.sandbox.path("told").display().to_string();
        let claim = self.rig.prismq("claim a.video --once --run --json");
        claim.env("PATH", &path).env("TOLD", &told).env("YOUTUBE_API_KEY", KEY)
    }
}

/// Asserts that a task succeeded without subtitles, and that the log says why.
#[track_caller]
fn assert_without(output: Output, words: &str) {
    let output = output.exits(0);
    let idea = &output.json()["data"]["ideas"][0];
    assert_eq!((&idea["content"], &idea["metadata"]["subtitles_available"]), (&json!(""), &json!("false")));
    assert!(
        output.stderr.contains("no subtitles of video000001: ") && output.stderr.contains(words),
        "{}",
        output.stderr
    );
}

#[test]
fn subtitles_become_the_content() {
    let scene = Scene::new(Some(WRITES), "subtitles = true");
    let idea: Value = scene.run().exits(0).json()["data"]["ideas"][0].clone();
    assert_eq!(idea["content"], "we're no\nstrangers");
    assert_eq!(idea["metadata"]["subtitles_available"], "true");
    let told = scene.rig.sandbox.read("told");
    for words in
        ["--skip-download", "--write-auto-subs", "--sub-langs en", "-- https://www.youtube.com/watch?v=video000001"]
    {
        assert!(told.contains(words), "{told}");
    }
    let env = scene.rig.sandbox.read("told.env");
    assert!(env.contains("PRISMQ_TASK_ID") && !env.contains(KEY), "{env}");
}

#[test]
fn no_call_is_made_if_subtitles_are_not_wanted() {
    let scene = Scene::new(Some(WRITES), "");
    let output = scene.run().exits(0);
    assert_eq!(output.json()["data"]["ideas"][0]["metadata"]["subtitles_available"], "false");
    assert_eq!((scene.rig.sandbox.read("told"), output.stderr.contains("subtitles")), (String::new(), false));
}

#[test]
fn a_task_goes_on_without_subtitles() {
    let cases = [
        (None, "\"yt-dlp\" is not on the PATH"),
        (Some("echo 'WARNING: slow' >&2; echo 'ERROR: Video unavailable' >&2; exit 1"), ": ERROR: Video unavailable"),
        (Some("exit 0"), "the video has none"),
        (Some("echo WEBVTT > subtitles.en.vtt"), "they are empty"),
        (Some("kill -9 $$"), "signal 9"),
    ];
    for (script, words) in cases {
        assert_without(Scene::new(script, "subtitles = true").run(), words);
    }
}

#[test]
fn subtitles_that_take_too_long_are_left() {
    let scene = Scene::new(Some("exec sleep 600"), "subtitles = true\ntimeout = \"4s\"");
    let start = Instant::now();
    assert_without(scene.run(), "timed out after");
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_signal_ends_the_search_for_subtitles() {
    let scene = Scene::new(Some("echo \"here is $$\" >&2; exec sleep 600"), "subtitles = true");
    let mut claim = scene.claim().start();
    claim.wait_for_stderr("here is ");
    let start = Instant::now();
    claim.terminate();
    let ended = claim.wait().exits(130);
    assert_eq!(ended.json()["error_type"], "shutdown");
    assert!(start.elapsed() < Duration::from_secs(5));
    let pid = ended.stderr.lines().find_map(|line| line.split_once("here is ")).unwrap().1.trim().parse().unwrap();
    assert!(rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_err(), "it lives");
}
