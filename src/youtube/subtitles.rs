//! The automatic English subtitles of a video, by `yt-dlp` where it is there: the API gives them to nobody but the
//! video's owner.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::error::TaskError;
use super::records::address;
use super::session::ApiSession;
use super::text::of_subtitles;
use crate::handler::{Command, Exec, ExecSettings, Handler, Run};
use crate::task::Claim;

/// The longest that it may take for one video.
const LONGEST: Duration = Duration::from_secs(60);
/// How much of the task's time is left to what comes after.
const RESERVE: Duration = Duration::from_secs(3);
/// How long it has to end when it is asked to.
const KILL_AFTER: Duration = Duration::from_secs(1);

impl ApiSession<'_> {
    /// The text of the subtitles of a video; `None` where there are none to be had, which is said on the log.
    pub(super) fn subtitles(&self, claim: &Claim, id: &str) -> Result<Option<String>, TaskError> {
        let timeout = self.left().saturating_sub(RESERVE).min(LONGEST);
        let read = if timeout.is_zero() {
            Err("the task has no time left for them".to_owned())
        } else {
            fetch(claim, id, &Run::new(timeout, self.run.stop, self.run.listener))
        };
        self.go_on()?;
        Ok(read.map_err(|reason| self.run.listener.stderr_line(&format!("no subtitles of {id}: {reason}"))).ok())
    }
}

/// Has the subtitles written into a folder, and reads them. The error is one line on why there are none.
fn fetch(claim: &Claim, id: &str, run: &Run<'_>) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("there can be no folder for them: {error}"))?;
    let outcome = Exec::new(settings(folder.path(), id)).kill_after(KILL_AFTER).run(claim, run);
    if let Some(failure) = outcome.failure {
        // It says much before it says what was wrong.
        let mut lines = failure.error.lines();
        let line = lines.clone().rfind(|line| line.starts_with("ERROR")).or_else(|| lines.next());
        return Err(line.unwrap_or_default().to_owned());
    }
    let written = read(folder.path()).map_err(|error| format!("they cannot be read: {error}"))?;
    match written.as_deref().map(of_subtitles) {
        None => Err("the video has none".into()),
        Some(text) if text.is_empty() => Err("they are empty".into()),
        Some(text) => Ok(text),
    }
}

/// The file of subtitles in `folder`, if there is one.
fn read(folder: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "vtt") {
            let text = String::from_utf8_lossy(&fs::read(path)?).replace("\r\n", "\n");
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn settings(folder: &Path, id: &str) -> ExecSettings {
    let words = [
        "yt-dlp",
        "--ignore-config",
        "--quiet",
        "--no-progress",
        "--no-playlist",
        "--skip-download",
        "--write-auto-subs",
        "--sub-langs",
        "en",
        "--sub-format",
        "vtt",
        "--output",
        "subtitles.%(ext)s",
        "--",
        &address(id),
    ];
    ExecSettings {
        command: Command::Program(words.map(str::to_owned).into()),
        dir: folder.to_owned(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        clean_env: false,
        secrets: Vec::new(),
    }
}
