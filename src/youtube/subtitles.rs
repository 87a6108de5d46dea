//! Fetches automatic English subtitles with `yt-dlp`, if it is installed: the API returns them only to the video's owner.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::records::watch_url;
use super::session::{ApiSession, TaskError};
use super::text::from_webvtt;
use crate::handler::{Exec, ExecCommand, ExecSettings, Handler, Run};
use crate::task::Claim;

/// Time-out for one video.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Part of the task's time that is reserved for the rest of the task.
const RESERVE: Duration = Duration::from_secs(3);
/// Time from SIGTERM to SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(1);

impl ApiSession<'_> {
    /// Returns the text of a video's subtitles. If there are none, logs why and returns `None`.
    pub(super) fn subtitles(&self, claim: &Claim, id: &str) -> Result<Option<String>, TaskError> {
        let timeout = self.run.time_left().saturating_sub(RESERVE).min(TIMEOUT);
        let read = if timeout.is_zero() {
            Err("the task has no time left for them".to_owned())
        } else {
            fetch(claim, id, &Run::new(timeout, self.run.stop, self.run.listener))
        };
        self.check_stopped()?;
        Ok(read.map_err(|reason| self.run.listener.stderr_line(&format!("no subtitles of {id}: {reason}"))).ok())
    }
}

/// Runs `yt-dlp` and reads its output. The error is one line that says why there are no subtitles.
fn fetch(claim: &Claim, id: &str, run: &Run<'_>) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("cannot create a folder for them: {error}"))?;
    let outcome = Exec::new(settings(folder.path(), id)).kill_after(KILL_AFTER).run(claim, run);
    if let Some(failure) = outcome.failure {
        // The error line comes after other output.
        let mut lines = failure.error.lines();
        let line = lines.clone().rfind(|line| line.starts_with("ERROR")).or_else(|| lines.next());
        return Err(line.unwrap_or_default().to_owned());
    }
    let written = read(folder.path()).map_err(|error| format!("they cannot be read: {error}"))?;
    match written.as_deref().map(from_webvtt) {
        None => Err("the video has none".into()),
        Some(text) if text.is_empty() => Err("they are empty".into()),
        Some(text) => Ok(text),
    }
}

/// Reads the subtitle file in `folder`, if there is one.
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
        &watch_url(id),
    ];
    ExecSettings::new(ExecCommand::Program(words.map(str::to_owned).into()), folder.to_owned())
}
