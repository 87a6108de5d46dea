//! Emulates the published TaskManager on top of the documented API, to test clients without it. Answers match recordings
//! of the published server byte for byte if these include the case.

mod answer;
mod php;

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::body::{integer, read_within};
use super::envelope::{CallError, proxy_page};
use super::large_calls::{LARGE, LargeCalls};
use super::routes::{DEFAULT_LIMIT, Unlimited};

/// Maximum size of a request for the published server's proxy: 1 MiB.
const PROXY_LIMIT: usize = 1 << 20;

/// Size of its database columns, in bytes of JSON.
const COLUMN: usize = 65_535;

/// Wraps the calls of `documented` to answer as the published server does.
pub(super) fn wrap(documented: Router) -> Router {
    // As a fallback service, `documented` can be called more than once.
    let imitate = middleware::from_fn_with_state(Imitation::default(), imitate);
    Router::new().fallback_service(documented).layer(imitate)
}

/// State shared by all calls.
#[derive(Clone, Default)]
struct Imitation {
    progress: Arc<LastProgress>,
    large: LargeCalls,
}

/// The last reported progress of tasks, which the published server keeps when they complete.
#[derive(Default)]
struct LastProgress(Mutex<HashMap<String, Value>>);

impl LastProgress {
    fn set(&self, id: &Value, percent: &Value) {
        self.lock().insert(id.to_string(), percent.clone());
    }

    fn forget(&self, id: &Value) {
        self.lock().remove(&id.to_string());
    }

    fn of(&self, id: &Value) -> Value {
        self.lock().get(&id.to_string()).cloned().unwrap_or(json!(0))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        self.0.lock()
    }
}

/// The calls that the published server answers differently.
#[derive(Debug, Clone, PartialEq)]
enum PublishedCall {
    Health,
    Register,
    ListTypes,
    ShowType,
    Create,
    /// With its limit and offset.
    ListTasks(i64, i64),
    Claim,
    ShowTask,
    Report,
    Complete(String),
    Other,
}

impl PublishedCall {
    fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().strip_prefix("/api/").unwrap_or_default();
        let path: Vec<_> = path.trim_end_matches('/').split('/').collect();
        match (method.as_str(), path.as_slice()) {
            ("GET", ["health"]) => Self::Health,
            ("POST", ["task-types", "register"]) => Self::Register,
            ("GET", ["task-types"]) => Self::ListTypes,
            ("GET", ["task-types", _]) => Self::ShowType,
            ("POST", ["tasks"]) => Self::Create,
            ("GET", ["tasks"]) => {
                Self::ListTasks(number(uri, "limit").unwrap_or(DEFAULT_LIMIT), number(uri, "offset").unwrap_or(0))
            }
            ("POST", ["tasks", "claim"]) => Self::Claim,
            ("GET", ["tasks", _]) => Self::ShowTask,
            ("POST", ["tasks", _, "progress"]) => Self::Report,
            ("POST", ["tasks", id, "complete"]) => Self::Complete((*id).to_owned()),
            _ => Self::Other,
        }
    }
}

/// Removes the paging parameters, to request the whole list; a page of it is taken after sorting. The published server
/// does not support `before`.
fn without_paging(uri: &Uri) -> Option<Uri> {
    let rest = uri.query().unwrap_or_default().split('&');
    let rest = rest.filter(|pair| !["limit=", "offset=", "before="].iter().any(|key| pair.starts_with(key)));
    format!("{}?{}", uri.path(), rest.collect::<Vec<_>>().join("&")).parse().ok()
}

/// A number in the query.
fn number(uri: &Uri, name: &str) -> Option<i64> {
    let Query(mut parameters) = Query::<HashMap<String, String>>::try_from_uri(uri).ok()?;
    parameters.remove(name).map(|text| integer(&text))
}

async fn imitate(State(imitation): State<Imitation>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    // It supports neither long polls nor withdrawing them.
    parts.headers.remove("Prefer");
    if parts.method == Method::DELETE {
        parts.uri = Uri::from_static("/api");
    }
    let Ok(body_sent) = read_within(body, |length| length <= PROXY_LIMIT).await else {
        return proxy_page(StatusCode::PAYLOAD_TOO_LARGE, "413 Request Entity Too Large");
    };
    let call = PublishedCall::of(&parts.method, &parts.uri);
    if let PublishedCall::ListTasks(1.., 0..) = call {
        parts.uri = without_paging(&parts.uri).unwrap_or(parts.uri);
        parts.extensions.insert(Unlimited);
    }
    let is_large = body_sent.len() > LARGE;
    let large = imitation.large.clone();
    let response = respond(imitation, call, parts, body_sent, next);
    if is_large { large.run(response).await } else { response.await }
}

/// Makes the documented call and translates its answer.
async fn respond(
    imitation: Imitation,
    call: PublishedCall,
    parts: Parts,
    mut body_sent: Vec<u8>,
    next: Next,
) -> Response {
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(&body_sent) {
        php::read(&call, &mut fields);
        let documented = Documented { parts: &parts, next: &next };
        if let Some(column) = documented.overflowing_column(&call, &fields).await {
            let error = format!(
                "SQLSTATE[22001]: String data, right truncated: 1406 Data too long for column '{column}' at row 1"
            );
            return CallError::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
        }
        body_sent = Value::Object(fields).to_string().into_bytes();
    }
    let (parts, body) = next.run(Request::from_parts(parts, Body::from(body_sent))).await.into_parts();
    // The bodies are in memory already, so reading them cannot fail.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let is_large = body.len() > LARGE;
    let Imitation { progress, large } = imitation;
    let translated = async move { answer::translate(&call, parts, body, &progress) };
    if is_large { large.run(translated).await } else { translated.await }
}

/// Makes documented calls on behalf of a request.
struct Documented<'a> {
    parts: &'a Parts,
    next: &'a Next,
}

impl Documented<'_> {
    /// Returns the column that is too small for the request, if the call would write it.
    async fn overflowing_column(&self, call: &PublishedCall, fields: &Map<String, Value>) -> Option<&'static str> {
        let is_long_text = |text: &str| text.len() > COLUMN;
        let is_long = |name| fields.get(name).is_some_and(|value| php::encode(&php::stored(value)).len() > COLUMN);
        match call {
            PublishedCall::Create if is_long("params") => {
                let name = utf8_percent_encode(fields.get("type")?.as_str()?, NON_ALPHANUMERIC);
                self.get(&format!("/api/task-types/{name}")).await.map(|_| "params_json")
            }
            PublishedCall::Complete(id) if !fields.get("success")?.is_null() => {
                let is_long_error =
                    || fields.get("error").is_some_and(|error| error.as_str().is_some_and(is_long_text));
                let column = match (is_long("result"), is_long_error()) {
                    (true, _) => "result_json",
                    (_, true) => "error_message",
                    _ => return None,
                };
                let task = self.get(&format!("/api/tasks/{id}")).await?;
                let is_held = task["status"] == "claimed" && Some(&task["claimed_by"]) == fields.get("worker_id");
                is_held.then_some(column)
            }
            _ => None,
        }
    }

    /// Returns the data of a successful answer.
    async fn get(&self, path: &str) -> Option<Value> {
        let mut request = Request::get(path).body(Body::empty()).ok()?;
        request.headers_mut().clone_from(&self.parts.headers);
        request.extensions_mut().clone_from(&self.parts.extensions);
        let body = self.next.clone().run(request).await.into_body();
        let mut body: Value = serde_json::from_slice(&to_bytes(body, usize::MAX).await.ok()?).ok()?;
        (body["success"] == true).then(|| body["data"].take())
    }
}
