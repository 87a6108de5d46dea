//! From a JSON Schema to the fields of a form, and from what was typed back to params.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::json::{self, JsonError};

/// What a browser sent, by the names of its fields.
pub(super) type Typed = HashMap<String, String>;

/// The field for params that are written as JSON.
pub(super) const WHOLE: &str = "json";

/// A property of the params.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
    pub(super) description: Option<String>,
    /// What it is when nobody changes it, as it would be typed.
    pub(super) default: String,
}

/// How a property is typed.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Line,
    Number,
    /// One of these values.
    Choice(Vec<Value>),
    /// Anything, as JSON.
    Json,
}

/// The fields for params of that schema, those first that are required. None where it names no properties.
pub(super) fn of(schema: &Value) -> Vec<Field> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let field = |(name, schema): (&String, &Value)| {
        let kind = Kind::of(schema);
        Field {
            default: schema.get("default").map_or_else(String::new, |value| kind.typed(value)),
            description: schema["description"].as_str().map(str::to_owned),
            is_required: required.contains(&name.as_str()),
            name: name.clone(),
            kind,
        }
    };
    let mut fields: Vec<_> = properties.iter().map(field).collect();
    fields.sort_by_key(|field| !field.is_required);
    fields
}

impl Kind {
    fn of(schema: &Value) -> Self {
        if let Some(values) = schema["enum"].as_array() {
            return Self::Choice(values.clone());
        }
        match schema["type"].as_str() {
            Some("string") => Self::Line,
            Some("integer" | "number") => Self::Number,
            Some("boolean") => Self::Choice(vec![json!(true), json!(false)]),
            _ => Self::Json,
        }
    }

    /// What one types for `value`.
    pub(super) fn typed(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Line, Value::String(text)) => text.clone(),
            _ => value.to_string(),
        }
    }

    /// The value that was typed. What is none of its kind is the text: the schema is there to refuse it.
    fn value(&self, text: &str) -> Result<Value, JsonError> {
        match self {
            Self::Line => Ok(text.into()),
            Self::Json => json::read(text),
            Self::Number | Self::Choice(_) => Ok(json::read(text.trim()).unwrap_or_else(|_| text.into())),
        }
    }
}

impl Field {
    /// A property for params to begin with: its default, or what shows that it is required.
    pub(super) fn example(&self) -> Option<(String, Value)> {
        let default = self.kind.value(&self.default).ok().filter(|_| !self.default.is_empty());
        let value = default.or(self.is_required.then_some(Value::Null))?;
        Some((self.name.clone(), value))
    }

    /// What it is called in the form, where other fields must not be mistaken for it.
    pub(super) fn id(&self) -> String {
        format!("params.{}", self.name)
    }

    /// Where it is in the params, as the schema's check says it.
    fn pointer(&self) -> String {
        format!("/{}", self.name.replace('~', "~0").replace('/', "~1"))
    }

    /// What `error`, in the words of the schema's check, says of it.
    pub(super) fn error_in<'a>(&self, error: &'a str) -> Option<&'a str> {
        let inside = error.strip_prefix(&self.pointer()).filter(|rest| rest.starts_with([':', '/']));
        let missing = || error.starts_with(&format!("{} is a required property", json!(self.name))).then_some(error);
        inside.map(|rest| rest.trim_start_matches(": ")).or_else(missing)
    }
}

/// The params that were typed, and what is wrong with them, in the words of the schema's check. A field that is empty, or
/// wrong, is left out.
pub(super) fn params(fields: &[Field], typed: &Typed) -> (Option<Map<String, Value>>, Vec<String>) {
    if let Some(text) = typed.get(WHOLE) {
        return match json::read(text) {
            Ok(Value::Object(params)) => (Some(params), Vec::new()),
            Ok(_) => (None, vec!["the params are not a JSON object".to_owned()]),
            Err(error) => (None, vec![format!("the params are {error}")]),
        };
    }
    let (mut params, mut wrong) = (Map::new(), Vec::new());
    for field in fields {
        let text = typed.get(&field.id()).map_or("", String::as_str);
        if text.is_empty() {
            continue;
        }
        match field.kind.value(text) {
            Ok(value) => _ = params.insert(field.name.clone(), value),
            Err(error) => wrong.push(format!("{}: {error}", field.pointer())),
        }
    }
    (Some(params), wrong)
}

/// The priority that was typed; `None` where that is no whole number.
pub(super) fn priority(typed: &Typed) -> Option<i64> {
    match typed.get("priority").map_or("", |text| text.trim()) {
        "" => Some(0),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["url"],
            "properties": {
                "deep": {"type": "boolean", "default": false},
                "limit": {"type": "integer", "default": 20},
                "size": {"enum": ["s", "m", 3]},
                "tags": {"type": "array"},
                "url": {"type": "string", "description": "where it is"},
            },
        })
    }

    #[test]
    fn each_property_has_a_field_of_its_kind() {
        let fields = of(&schema());
        let names: Vec<_> = fields.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["url", "deep", "limit", "size", "tags"], "what is required comes first");
        let kinds: Vec<_> = fields.iter().map(|it| &it.kind).collect();
        let yes_or_no = Kind::Choice(vec![json!(true), json!(false)]);
        let sizes = Kind::Choice(vec![json!("s"), json!("m"), json!(3)]);
        assert_eq!(kinds, [&Kind::Line, &yes_or_no, &Kind::Number, &sizes, &Kind::Json]);
        assert_eq!((fields[1].default.as_str(), fields[2].default.as_str()), ("false", "20"));
    }

    #[test]
    fn what_is_typed_becomes_a_value_of_its_kind() {
        let typed = |pairs: &[(&str, &str)]| {
            let typed = pairs.iter().map(|(name, text)| (format!("params.{name}"), (*text).to_owned())).collect();
            params(&of(&schema()), &typed)
        };
        let read = |pairs: &[(&str, &str)], params: Value| {
            assert_eq!(typed(pairs), (params.as_object().cloned(), Vec::new()), "{pairs:?}");
        };
        let all = [("url", "5"), ("deep", "true"), ("limit", " 7"), ("size", "\"m\""), ("tags", "[1, {}]")];
        read(&all, json!({"url": "5", "deep": true, "limit": 7, "size": "m", "tags": [1, {}]}));
        read(&[("url", "x"), ("deep", ""), ("limit", "")], json!({"url": "x"}));
        read(&[("limit", "many")], json!({"limit": "many"}));
        let (params, wrong) = typed(&[("tags", "[1"), ("url", "x")]);
        assert_eq!(params, json!({"url": "x"}).as_object().cloned());
        assert!(wrong.len() == 1 && wrong[0].starts_with("/tags: not valid JSON: "), "{wrong:?}");
    }

    #[test]
    fn an_error_is_shown_at_the_field_that_it_means() {
        let named = |name: &str| Field {
            name: name.to_owned(),
            kind: Kind::Line,
            is_required: false,
            description: None,
            default: String::new(),
        };
        for (name, error, said) in [
            ("max", "/max: value is too large", Some("value is too large")),
            ("a/b", "/a~1b/1: value is not valid", Some("/1: value is not valid")),
            ("query", "\"query\" is a required property", Some("\"query\" is a required property")),
            ("max", "/maximum: value is too large", None),
        ] {
            assert_eq!(named(name).error_in(error), said);
        }
    }
}
