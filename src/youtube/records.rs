//! Builds the record of a video in the format of `IdeaInspiration`.

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde_json::{Value, json};

/// Maximum duration of a Short.
const MAX_SHORT: SignedDuration = SignedDuration::from_secs(180);
/// Maximum number of tags among the keywords.
const TAGS: usize = 5;

/// A video object of the API, any part of which may be missing.
pub(super) struct Video<'a>(pub(super) &'a Value);

impl Video<'_> {
    pub(super) fn id(&self) -> &str {
        self.text("/id")
    }

    /// Returns the title, or a placeholder.
    pub(super) fn title(&self) -> &str {
        match self.text("/snippet/title").trim() {
            "" => "Untitled Video",
            title => title,
        }
    }

    /// Returns the number of views, or null if it is hidden.
    pub(super) fn view_count(&self) -> Value {
        self.text("/statistics/viewCount").parse::<u64>().map_or(Value::Null, Value::from)
    }

    /// Returns the record of the video.
    pub(super) fn record(&self, subtitles: Option<&str>) -> Value {
        let id = self.id();
        json!({
            "title": self.title(),
            "description": self.text("/snippet/description"),
            "content": subtitles.unwrap_or_default(),
            "keywords": self.keywords(),
            "source_type": "video",
            "metadata": {
                "video_id": id,
                "channel_id": self.text("/snippet/channelId"),
                "channel_title": self.text("/snippet/channelTitle"),
                "published_at": self.text("/snippet/publishedAt"),
                "duration": self.text("/contentDetails/duration"),
                "view_count": self.text("/statistics/viewCount"),
                "like_count": self.text("/statistics/likeCount"),
                "comment_count": self.text("/statistics/commentCount"),
                "category_id": self.text("/snippet/categoryId"),
                "subtitles_available": subtitles.is_some().to_string(),
            },
            "source_id": id,
            "source_url": watch_url(id),
            "source_platform": "youtube",
            "source_created_by": present(self.text("/snippet/channelTitle")),
            "source_created_at": present(self.text("/snippet/publishedAt")),
        })
    }

    fn keywords(&self) -> Vec<String> {
        let mut keywords = vec!["youtube_video".to_owned()];
        if self.is_short() {
            keywords.push("youtube_shorts".to_owned());
        }
        keywords.extend(present(self.text("/snippet/channelTitle")).map(str::to_owned));
        keywords.extend(present(self.text("/snippet/categoryId")).map(|id| format!("category_{id}")));
        let tags = self.0.pointer("/snippet/tags").and_then(Value::as_array).into_iter().flatten();
        keywords.extend(tags.filter_map(|tag| present(tag.as_str()?)).take(TAGS).map(str::to_owned));
        keywords
    }

    /// Whether it is a Short. Live broadcasts have a duration of zero.
    fn is_short(&self) -> bool {
        let span: Option<Span> = self.text("/contentDetails/duration").parse().ok();
        let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        duration.is_some_and(|duration| duration.is_positive() && duration <= MAX_SHORT)
    }

    /// Returns the string at a JSON pointer, or an empty one. Counts are strings too.
    fn text(&self, place: &str) -> &str {
        self.0.pointer(place).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Returns the URL of a video.
pub(super) fn watch_url(id: &str) -> String {
    format!("https://www.youtube.com/watch?v={id}")
}

/// Trims `text`; `None` if nothing is left.
fn present(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Value {
        json!({
            "kind": "youtube#video",
            "id": "dQw4w9WgXcQ",
            "snippet": {
                "publishedAt": "2009-10-25T06:57:33Z", "channelId": "UC38IQsAvIsxxjztdMZQtwHA", "title": "A song",
                "description": "Words\nand more", "channelTitle": "A channel", "categoryId": "10",
                "tags": [" one ", "", "two", "  ", "three", "four", "five", "six"],
            },
            "contentDetails": {"duration": "PT3M33S"},
            "statistics": {"viewCount": "18446744073709551615", "likeCount": "7", "commentCount": "3"},
        })
    }

    #[test]
    fn a_record_has_what_is_known_of_a_video() {
        let expected = json!({
            "title": "A song",
            "description": "Words\nand more",
            "content": "",
            "keywords": ["youtube_video", "A channel", "category_10", "one", "two", "three", "four", "five"],
            "source_type": "video",
            "metadata": {
                "video_id": "dQw4w9WgXcQ", "channel_id": "UC38IQsAvIsxxjztdMZQtwHA", "channel_title": "A channel",
                "published_at": "2009-10-25T06:57:33Z", "duration": "PT3M33S", "view_count": "18446744073709551615",
                "like_count": "7", "comment_count": "3", "category_id": "10", "subtitles_available": "false",
            },
            "source_id": "dQw4w9WgXcQ",
            "source_url": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            "source_platform": "youtube",
            "source_created_by": "A channel",
            "source_created_at": "2009-10-25T06:57:33Z",
        });
        assert_eq!(Video(&full()).record(None), expected);
        assert_eq!(Video(&full()).view_count(), json!(u64::MAX));
    }

    #[test]
    fn subtitles_are_the_content() {
        let record = Video(&full()).record(Some("la la"));
        assert_eq!((&record["content"], &record["metadata"]["subtitles_available"]), (&json!("la la"), &json!("true")));
    }

    #[test]
    fn missing_fields_are_empty() {
        let bare = json!({"id": "dQw4w9WgXcQ"});
        let record = Video(&bare).record(None);
        assert_eq!((&record["title"], &record["description"]), (&json!("Untitled Video"), &json!("")));
        assert_eq!(record["keywords"], json!(["youtube_video"]));
        assert_eq!((&record["source_created_by"], &record["source_created_at"]), (&Value::Null, &Value::Null));
        let metadata = record["metadata"].as_object().unwrap();
        assert_eq!(metadata.len(), 10);
        assert!(metadata.iter().all(|(name, value)| match name.as_str() {
            "video_id" => value == "dQw4w9WgXcQ",
            "subtitles_available" => value == "false",
            _ => value == "",
        }));
        assert_eq!(Video(&bare).view_count(), Value::Null);
    }

    #[test]
    fn shorts_have_up_to_three_minutes() {
        for (duration, short) in [
            ("PT1S", true),
            ("PT59S", true),
            ("PT3M", true),
            ("PT2M60S", true),
            ("PT3M1S", false),
            ("PT1H", false),
            ("P1D", false),
            ("P1DT1S", false),
            ("P0D", false),
            ("PT0S", false),
            ("", false),
            ("soon", false),
        ] {
            let video = json!({"contentDetails": {"duration": duration}});
            let keywords = Video(&video).keywords();
            assert_eq!(keywords.contains(&"youtube_shorts".to_owned()), short, "{duration}");
        }
    }
}
