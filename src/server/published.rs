//! The published TaskManager's ways, laid over the documented ones, for trying clients without it: the answers are
//! those of its recordings, to the byte where they have the case.

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
use super::envelope::{Failure, proxy_page};
use super::large::{LARGE, LargeCalls};
use super::routes::{DEFAULT_LIMIT, Whole};

/// What the proxy before the published server takes of a request: 1 MiB.
const PROXY_LIMIT: usize = 1 << 20;

/// What a column of its database holds, in bytes of JSON.
const COLUMN: usize = 65_535;

/// The calls of `documented`, answered as the published server does.
pub(super) fn over(documented: Router) -> Router {
    // As a fallback service it is one whole, which can be asked for something else first.
    let imitate = middleware::from_fn_with_state(Imitation::default(), imitate);
    Router::new().fallback_service(documented).layer(imitate)
}

/// What its calls share.
#[derive(Clone, Default)]
struct Imitation {
    progress: Arc<Progress>,
    large: LargeCalls,
}

/// How far tasks are by their last report: the published server leaves it so when they end.
#[derive(Default)]
struct Progress(Mutex<HashMap<String, Value>>);

impl Progress {
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

/// The calls on which the published server has ways of its own.
#[derive(Debug, Clone, PartialEq)]
enum Call {
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

impl Call {
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

/// The same for the whole list, of which a part is taken once it is sorted. It knows nothing of `before`.
fn of_all(uri: &Uri) -> Option<Uri> {
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
    // It knows of no claims that wait, and of nothing to withdraw.
    parts.headers.remove("Prefer");
    if parts.method == Method::DELETE {
        parts.uri = Uri::from_static("/api");
    }
    let Ok(sent) = read_within(body, |length| length <= PROXY_LIMIT).await else {
        return proxy_page(StatusCode::PAYLOAD_TOO_LARGE, "413 Request Entity Too Large");
    };
    let call = Call::of(&parts.method, &parts.uri);
    if let Call::ListTasks(1.., 0..) = call {
        parts.uri = of_all(&parts.uri).unwrap_or(parts.uri);
        parts.extensions.insert(Whole);
    }
    let is_large = sent.len() > LARGE;
    let large = imitation.large.clone();
    let answered = answered(imitation, call, parts, sent, next);
    if is_large { large.run(answered).await } else { answered.await }
}

/// The answer to a call that was read.
async fn answered(imitation: Imitation, call: Call, parts: Parts, mut sent: Vec<u8>, next: Next) -> Response {
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(&sent) {
        php::read(&call, &mut fields);
        let documented = Documented { parts: &parts, next: &next };
        if let Some(column) = documented.overflows(&call, &fields).await {
            let error = format!(
                "SQLSTATE[22001]: String data, right truncated: 1406 Data too long for column '{column}' at row 1"
            );
            return Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
        }
        sent = Value::Object(fields).to_string().into_bytes();
    }
    let (parts, body) = next.run(Request::from_parts(parts, Body::from(sent))).await.into_parts();
    // The bodies of the calls are in memory as they are: none ends early.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let is_large = body.len() > LARGE;
    let Imitation { progress, large } = imitation;
    let translated = async move { answer::translate(&call, parts, body, &progress) };
    if is_large { large.run(translated).await } else { translated.await }
}

/// The calls below, asked on behalf of a request.
struct Documented<'a> {
    parts: &'a Parts,
    next: &'a Next,
}

impl Documented<'_> {
    /// The column that cannot hold what is sent, where the call comes so far as to write it.
    async fn overflows(&self, call: &Call, fields: &Map<String, Value>) -> Option<&'static str> {
        let is_long_text = |text: &str| text.len() > COLUMN;
        let is_long = |name| fields.get(name).is_some_and(|value| php::encode(&php::stored(value)).len() > COLUMN);
        match call {
            Call::Create if is_long("params") => {
                let name = utf8_percent_encode(fields.get("type")?.as_str()?, NON_ALPHANUMERIC);
                self.get(&format!("/api/task-types/{name}")).await.map(|_| "params_json")
            }
            Call::Complete(id) if !fields.get("success")?.is_null() => {
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

    /// The data of an answer, where there is one.
    async fn get(&self, path: &str) -> Option<Value> {
        let mut request = Request::get(path).body(Body::empty()).ok()?;
        request.headers_mut().clone_from(&self.parts.headers);
        request.extensions_mut().clone_from(&self.parts.extensions);
        let body = self.next.clone().run(request).await.into_body();
        let mut body: Value = serde_json::from_slice(&to_bytes(body, usize::MAX).await.ok()?).ok()?;
        (body["success"] == true).then(|| body["data"].take())
    }
}
