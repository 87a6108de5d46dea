//! Recorded exchanges with the published TaskManager, from `tests/fixtures/recordings.json`.

use std::sync::LazyLock;

use serde_json::Value;

use super::Answer;

/// One exchange.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) method: String,
    /// With its query, without the base URL.
    pub(crate) path: String,
    pub(crate) with_key: bool,
    pub(crate) body: Body,
    pub(crate) answer: Answer,
}

/// A request body.
#[derive(Debug)]
pub(crate) enum Body {
    None,
    Json(Value),
    NotJson(String),
    /// JSON of this many bytes, which was not recorded.
    Long(usize),
}

/// All recordings in order.
pub(crate) fn recordings() -> &'static [Recording] {
    static ALL: LazyLock<Vec<Recording>> = LazyLock::new(|| {
        let all: Vec<Value> = serde_json::from_str(include_str!("../fixtures/recordings.json")).unwrap();
        all.iter().map(read).collect()
    });
    &ALL
}

/// The answer recorded under `name`.
pub(crate) fn recorded(name: &str) -> Answer {
    let recording = recordings().iter().find(|recording| recording.name == name);
    recording.unwrap_or_else(|| panic!("no recording is called {name:?}")).answer.clone()
}

fn read(exchange: &Value) -> Recording {
    let (request, response) = (&exchange["request"], &exchange["response"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut answer = Answer::new(
        response["status"].as_u64().unwrap().try_into().unwrap(),
        &text(&response["content_type"]),
        text(&response["body"]),
    );
    for (name, value) in response["headers"].as_object().into_iter().flatten() {
        answer = answer.header(name, value.as_str().unwrap());
    }
    Recording {
        name: text(&exchange["name"]),
        method: text(&request["method"]),
        path: text(&request["path"]),
        with_key: request["headers"].as_array().unwrap().contains(&"X-API-Key".into()),
        body: read_body(request),
        answer,
    }
}

fn read_body(request: &Value) -> Body {
    match (&request["body"], &request["raw_body"]) {
        (Value::Null, Value::Null) => Body::None,
        (Value::String(omitted), _) => {
            Body::Long(omitted.trim_matches(['<', '>']).split_once(' ').unwrap().0.parse().unwrap())
        }
        (_, Value::String(raw)) => serde_json::from_str(raw).map_or_else(|_| Body::NotJson(raw.clone()), Body::Json),
        (json, _) => Body::Json(json.clone()),
    }
}
