//! What the API means by an answer that is not what was asked for.

use std::time::Duration;

use serde_json::Value;

use super::text::without_markup;

/// The most that is shown of the API's own words, in characters.
const SHOWN: usize = 300;

/// What came back for a call.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// How long the API wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// A call that brought nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: RefusalKind,
    /// One line for a person.
    pub(super) reason: String,
}

/// What follows from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// Trying again may help.
    Again {
        /// After so long, where the API says so.
        after: Option<Duration>,
        /// Whether the API may have counted the units of this try.
        counted: bool,
    },
    /// Nothing is left of the day.
    Quota,
    /// The key is not accepted.
    Key,
    /// There is no such thing.
    Missing,
    /// It makes no sense of what was asked.
    Params,
    /// Something that should not happen.
    Other,
}

impl RefusalKind {
    /// Whether the call cannot have cost the owner of the quota any units.
    pub(super) fn is_free(&self) -> bool {
        matches!(self, Self::Key | Self::Again { counted: false, .. })
    }
}

impl Reply {
    /// The object that was asked for.
    pub(super) fn read(&self) -> Result<Value, Refusal> {
        let body: Option<Value> = serde_json::from_slice(&self.body).ok().filter(Value::is_object);
        match (self.status, body) {
            (200, Some(body)) => Ok(body),
            // What stands between us and the API, most likely.
            (200, None) => Err(Refusal {
                kind: RefusalKind::Again { after: self.retry_after, counted: true },
                reason: "YouTube's answer is not valid JSON".into(),
            }),
            (_, body) => Err(self.refusal(&body.unwrap_or_default()["error"])),
        }
    }

    fn refusal(&self, error: &Value) -> Refusal {
        let text = |place: &str| error.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let message = without_markup(text("/message")).split_whitespace().collect::<Vec<_>>().join(" ");
        let (reason, domain) = (text("/errors/0/reason"), text("/errors/0/domain"));
        let after = self.retry_after;
        let kind = match self.status {
            _ if matches!(reason, "quotaExceeded" | "dailyLimitExceeded") => RefusalKind::Quota,
            // The limits of a day that a project may have beside its units.
            429 if message.contains("per day") => RefusalKind::Quota,
            429 => RefusalKind::Again { after, counted: false },
            403 if matches!(reason, "rateLimitExceeded" | "userRateLimitExceeded") => {
                RefusalKind::Again { after, counted: false }
            }
            500.. => RefusalKind::Again { after, counted: true },
            401 => RefusalKind::Key,
            400 if is_about_key(error, reason, &message) => RefusalKind::Key,
            // By domains such as youtube.playlistItem it says that a thing is not for everybody.
            403 if !domain.starts_with("youtube.") => RefusalKind::Key,
            404 if reason.ends_with("NotFound") => RefusalKind::Missing,
            400 => RefusalKind::Params,
            _ => RefusalKind::Other,
        };
        let message: String = message.chars().take(SHOWN).collect();
        let separator = if message.is_empty() { "" } else { ": " };
        Refusal { kind, reason: format!("YouTube answered with status {}{separator}{message}", self.status) }
    }
}

fn is_about_key(error: &Value, reason: &str, message: &str) -> bool {
    let mut details = error["details"].as_array().into_iter().flatten().filter_map(|detail| detail["reason"].as_str());
    matches!(reason, "keyInvalid" | "keyExpired")
        || details.any(|reason| reason.starts_with("API_KEY_"))
        || message.starts_with("API key ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(status: u16, body: &Value) -> Refusal {
        Reply { status, retry_after: None, body: body.to_string().into_bytes() }.read().unwrap_err()
    }

    fn error(message: &str, domain: &str, reason: &str) -> Value {
        json!({"error": {"message": message, "errors": [{"message": message, "domain": domain, "reason": reason}]}})
    }

    #[test]
    fn the_apis_reasons_are_told_apart() {
        let again = |counted| RefusalKind::Again { after: None, counted };
        for (status, domain, reason, kind) in [
            (403, "youtube.quota", "quotaExceeded", RefusalKind::Quota),
            (403, "usageLimits", "dailyLimitExceeded", RefusalKind::Quota),
            (403, "usageLimits", "rateLimitExceeded", again(false)),
            (403, "usageLimits", "userRateLimitExceeded", again(false)),
            (429, "global", "rateLimitExceeded", again(false)),
            (500, "global", "backendError", again(true)),
            (503, "global", "backendError", again(true)),
            (403, "usageLimits", "accessNotConfigured", RefusalKind::Key),
            (403, "usageLimits", "ipRefererBlocked", RefusalKind::Key),
            (403, "global", "forbidden", RefusalKind::Key),
            (401, "global", "authError", RefusalKind::Key),
            (400, "usageLimits", "keyInvalid", RefusalKind::Key),
            (400, "youtube.parameter", "invalidParameter", RefusalKind::Params),
            (403, "youtube.playlistItem", "playlistItemsNotAccessible", RefusalKind::Other),
            (404, "youtube.playlistItem", "playlistNotFound", RefusalKind::Missing),
            (302, "", "", RefusalKind::Other),
        ] {
            assert_eq!(refusal(status, &error("m", domain, reason)).kind, kind, "{status} {domain} {reason}");
        }
    }

    #[test]
    fn a_limit_of_a_day_is_a_quota_whatever_its_reason_says() {
        let message =
            "Quota exceeded for quota metric 'Search' and limit 'Search per day' of service 'youtube.googleapis.com'";
        assert_eq!(refusal(429, &error(message, "global", "rateLimitExceeded")).kind, RefusalKind::Quota);
    }

    #[test]
    fn a_key_that_is_not_valid_is_known_by_any_sign() {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
        let plain = json!({"error": {"message": "no", "errors": [{"reason": "badRequest"}], "details": details}});
        assert_eq!(refusal(400, &plain).kind, RefusalKind::Key);
        let message = "API key not valid. Please pass a valid API key.";
        assert_eq!(refusal(400, &error(message, "global", "badRequest")).kind, RefusalKind::Key);
    }

    #[test]
    fn the_apis_words_are_one_plain_line() {
        let told =
            refusal(400, &error("The <code>q</code>\nis &quot;x&quot;", "youtube.parameter", "invalidParameter"));
        assert_eq!(told.reason, "YouTube answered with status 400: The q is \"x\"");
        assert!(refusal(400, &error(&"x".repeat(5000), "", "")).reason.len() < 400);
        let page = Reply { status: 404, retry_after: None, body: b"<html>no</html>".into() };
        let told = page.read().unwrap_err();
        assert_eq!((told.kind, told.reason.as_str()), (RefusalKind::Other, "YouTube answered with status 404"));
    }

    #[test]
    fn an_answer_that_is_no_object_is_asked_for_again() {
        for body in ["<html>", "[]", ""] {
            let reply = Reply { status: 200, retry_after: None, body: body.into() };
            assert_eq!(reply.read().unwrap_err().kind, RefusalKind::Again { after: None, counted: true });
        }
    }
}
