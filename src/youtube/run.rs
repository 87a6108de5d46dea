//! Runs each kind of task and builds its result.

use serde_json::{Value, json};

use super::params::{Search, TaskRequest, Uploads};
use super::records::Video;
use super::session::{ApiSession, TaskError};
use crate::task::Claim;

/// A running task.
pub(super) struct TaskRun<'a> {
    pub(super) claim: &'a Claim,
    pub(super) session: &'a ApiSession<'a>,
    pub(super) subtitles: bool,
}

impl TaskRun<'_> {
    /// Returns the data of the result.
    pub(super) fn data(&self, request: &TaskRequest) -> Result<Value, TaskError> {
        match request {
            TaskRequest::Video(id) => self.video(id),
            TaskRequest::Search(search) => self.search(search),
            TaskRequest::Uploads(uploads) => self.uploads(uploads),
        }
    }

    fn video(&self, id: &str) -> Result<Value, TaskError> {
        let videos = self.session.videos(&[id.to_owned()])?;
        let video = videos.get(id).ok_or_else(|| TaskError::Missing(format!("no public video {id}")))?;
        Ok(json!({
            "video_id": id,
            "title": Video(video).title(),
            "view_count": Video(video).view_count(),
            "idea_id": null,
            "ideas": [self.record(id, video)?],
        }))
    }

    fn search(&self, search: &Search) -> Result<Value, TaskError> {
        let mut data = self.list(&self.session.search(search)?)?;
        data["search_query"] = json!(search.query);
        Ok(data)
    }

    fn uploads(&self, Uploads { channel, max_videos }: &Uploads) -> Result<Value, TaskError> {
        let uploader = self.session.uploader(channel)?;
        let uploader = uploader.ok_or_else(|| TaskError::Missing(format!("no channel {}", channel.name())))?;
        let mut data = self.list(&self.session.uploads(&uploader, *max_videos)?)?;
        data["channel_id"] = json!(uploader.id);
        data["channel_title"] = json!(uploader.title);
        Ok(data)
    }

    /// Returns the videos with these ids, in this order, and an error for each that does not exist.
    fn list(&self, ids: &[String]) -> Result<Value, TaskError> {
        let found = self.session.videos(ids)?;
        let (mut videos, mut errors, mut ideas) = (Vec::new(), Vec::new(), Vec::new());
        for id in ids {
            if let Some(video) = found.get(id) {
                videos.push(json!({"video_id": id, "title": Video(video).title(), "idea_id": null}));
                ideas.push(self.record(id, video)?);
            } else {
                errors.push(json!({"video_id": id, "error": "the video was removed or is not public"}));
            }
        }
        Ok(json!({"videos": videos, "errors": errors, "ideas": ideas}))
    }

    fn record(&self, id: &str, video: &Value) -> Result<Value, TaskError> {
        let subtitles = if self.subtitles { self.session.subtitles(self.claim, id)? } else { None };
        Ok(Video(video).record(subtitles.as_deref()))
    }
}
