//! Interprets the API's error answers.

use std::time::Duration;

use serde_json::Value;

use super::text::without_markup;

/// Maximum length of an API message that is shown, in characters.
const SHOWN: usize = 300;

/// The answer to a call.
#[derive(Debug)]
pub(super) struct ApiReply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// A failed call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiFailure {
    pub(super) kind: FailureKind,
    /// One line for users.
    pub(super) reason: String,
}

/// The kind of failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// A retry may succeed.
    Retryable {
        /// The time from `Retry-After`.
        after: Option<Duration>,
        /// Whether the API may have counted the units.
        counted: bool,
    },
    /// The day's quota is used up.
    Quota,
    /// The API refused the key.
    Key,
    /// The requested object does not exist.
    Missing,
    /// The parameters are invalid.
    Params,
    /// An unexpected error.
    Other,
}

impl FailureKind {
    /// Whether the call cannot have cost any units.
    pub(super) fn is_uncharged(&self) -> bool {
        matches!(self, Self::Key | Self::Retryable { counted: false, .. })
    }
}

impl ApiReply {
    /// Parses the answer.
    pub(super) fn read(&self) -> Result<Value, ApiFailure> {
        let body: Option<Value> = serde_json::from_slice(&self.body).ok().filter(Value::is_object);
        match (self.status, body) {
            (200, Some(body)) => Ok(body),
            // Most likely from a proxy.
            (200, None) => Err(ApiFailure {
                kind: FailureKind::Retryable { after: self.retry_after, counted: true },
                reason: "YouTube's answer is not valid JSON".into(),
            }),
            (_, body) => Err(self.refusal(&body.unwrap_or_default()["error"])),
        }
    }

    fn refusal(&self, error: &Value) -> ApiFailure {
        let text = |place: &str| error.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let message = without_markup(text("/message")).split_whitespace().collect::<Vec<_>>().join(" ");
        let (reason, domain) = (text("/errors/0/reason"), text("/errors/0/domain"));
        let after = self.retry_after;
        let kind = match self.status {
            _ if matches!(reason, "quotaExceeded" | "dailyLimitExceeded") => FailureKind::Quota,
            // A project may have other daily limits in addition to its units.
            429 if message.contains("per day") => FailureKind::Quota,
            429 => FailureKind::Retryable { after, counted: false },
            403 if matches!(reason, "rateLimitExceeded" | "userRateLimitExceeded") => {
                FailureKind::Retryable { after, counted: false }
            }
            500.. => FailureKind::Retryable { after, counted: true },
            401 => FailureKind::Key,
            400 if is_about_key(error, reason, &message) => FailureKind::Key,
            // Domains such as youtube.playlistItem mean that an object is not public.
            403 if !domain.starts_with("youtube.") => FailureKind::Key,
            404 if reason.ends_with("NotFound") => FailureKind::Missing,
            400 => FailureKind::Params,
            _ => FailureKind::Other,
        };
        let message: String = message.chars().take(SHOWN).collect();
        let separator = if message.is_empty() { "" } else { ": " };
        ApiFailure { kind, reason: format!("YouTube answered with status {}{separator}{message}", self.status) }
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

    fn refusal(status: u16, body: &Value) -> ApiFailure {
        ApiReply { status, retry_after: None, body: body.to_string().into_bytes() }.read().unwrap_err()
    }

    fn error(message: &str, domain: &str, reason: &str) -> Value {
        json!({"error": {"message": message, "errors": [{"message": message, "domain": domain, "reason": reason}]}})
    }

    #[test]
    fn the_api_s_reasons_are_distinguished() {
        let again = |counted| FailureKind::Retryable { after: None, counted };
        for (status, domain, reason, kind) in [
            (403, "youtube.quota", "quotaExceeded", FailureKind::Quota),
            (403, "usageLimits", "dailyLimitExceeded", FailureKind::Quota),
            (403, "usageLimits", "rateLimitExceeded", again(false)),
            (403, "usageLimits", "userRateLimitExceeded", again(false)),
            (429, "global", "rateLimitExceeded", again(false)),
            (500, "global", "backendError", again(true)),
            (503, "global", "backendError", again(true)),
            (403, "usageLimits", "accessNotConfigured", FailureKind::Key),
            (403, "usageLimits", "ipRefererBlocked", FailureKind::Key),
            (403, "global", "forbidden", FailureKind::Key),
            (401, "global", "authError", FailureKind::Key),
            (400, "usageLimits", "keyInvalid", FailureKind::Key),
            (400, "youtube.parameter", "invalidParameter", FailureKind::Params),
            (403, "youtube.playlistItem", "playlistItemsNotAccessible", FailureKind::Other),
            (404, "youtube.playlistItem", "playlistNotFound", FailureKind::Missing),
            (302, "", "", FailureKind::Other),
        ] {
            assert_eq!(refusal(status, &error("m", domain, reason)).kind, kind, "{status} {domain} {reason}");
        }
    }

    #[test]
    fn a_daily_limit_is_a_quota_for_any_reason() {
        let message =
            "Quota exceeded for quota metric 'Search' and limit 'Search per day' of service 'youtube.googleapis.com'";
        assert_eq!(refusal(429, &error(message, "global", "rateLimitExceeded")).kind, FailureKind::Quota);
    }

    #[test]
    fn a_key_that_is_not_valid_is_known_by_any_sign() {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
        let plain = json!({"error": {"message": "no", "errors": [{"reason": "badRequest"}], "details": details}});
        assert_eq!(refusal(400, &plain).kind, FailureKind::Key);
        let message = "API key not valid. Please pass a valid API key.";
        assert_eq!(refusal(400, &error(message, "global", "badRequest")).kind, FailureKind::Key);
    }

    #[test]
    fn the_apis_words_are_one_plain_line() {
        let result =
            refusal(400, &error("The <code>q</code>\nis &quot;x&quot;", "youtube.parameter", "invalidParameter"));
        assert_eq!(result.reason, "YouTube answered with status 400: The q is \"x\"");
        assert!(refusal(400, &error(&"x".repeat(5000), "", "")).reason.len() < 400);
        let page = ApiReply { status: 404, retry_after: None, body: b"<html>no</html>".into() };
        let result = page.read().unwrap_err();
        assert_eq!((result.kind, result.reason.as_str()), (FailureKind::Other, "YouTube answered with status 404"));
    }

    #[test]
    fn an_answer_that_is_no_object_is_asked_for_again() {
        for body in ["<html>", "[]", ""] {
            let reply = ApiReply { status: 200, retry_after: None, body: body.into() };
            assert_eq!(reply.read().unwrap_err().kind, FailureKind::Retryable { after: None, counted: true });
        }
    }
}
