//! Converts a JSON Schema to form fields, and form input to params.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::json::{self, JsonError};

/// Form input by field name.
pub(super) type FormInput = HashMap<String, String>;

/// The name of the field for params as JSON.
pub(super) const JSON_FIELD: &str = "json";

/// A property of the params.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: InputKind,
    pub(super) is_required: bool,
    pub(super) description: Option<String>,
    /// The default, as input.
    pub(super) default: String,
}

/// The input element of a property.
#[derive(Debug, PartialEq)]
pub(super) enum InputKind {
    Line,
    Number,
    /// One of these values.
    Choice(Vec<Value>),
    /// Anything, as JSON.
    Json,
}

/// Returns the fields for a schema, required ones first.
pub(super) fn of(schema: &Value) -> Vec<Field> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let field = |(name, schema): (&String, &Value)| {
        let kind = InputKind::of(schema);
        Field {
            default: schema.get("default").map_or_else(String::new, |value| kind.input(value)),
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

impl InputKind {
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

    /// Returns the input for `value`.
    pub(super) fn input(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Line, Value::String(text)) => text.clone(),
            _ => value.to_string(),
        }
    }

    /// Parses input. Input of the wrong type becomes a string, which the schema then rejects.
    fn value(&self, text: &str) -> Result<Value, JsonError> {
        match self {
            Self::Line => Ok(text.into()),
            Self::Json => json::read(text),
            Self::Number | Self::Choice(_) => Ok(json::read(text.trim()).unwrap_or_else(|_| text.into())),
        }
    }
}

impl Field {
    /// Returns the property for the initial JSON: its default, or null if it is required.
    pub(super) fn example(&self) -> Option<(String, Value)> {
        let default = self.kind.value(&self.default).ok().filter(|_| !self.default.is_empty());
        let value = default.or(self.is_required.then_some(Value::Null))?;
        Some((self.name.clone(), value))
    }

    /// Returns the name of the form field, with a prefix to keep it apart from others.
    pub(super) fn id(&self) -> String {
        format!("params.{}", self.name)
    }

    /// Returns the JSON pointer to the property.
    fn pointer(&self) -> String {
        format!("/{}", self.name.replace('~', "~0").replace('/', "~1"))
    }

    /// Returns the part of a schema error that is about this property.
    pub(super) fn error_in<'a>(&self, error: &'a str) -> Option<&'a str> {
        let inside = error.strip_prefix(&self.pointer()).filter(|rest| rest.starts_with([':', '/']));
        let missing = || error.starts_with(&format!("{} is a required property", json!(self.name))).then_some(error);
        inside.map(|rest| rest.trim_start_matches(": ")).or_else(missing)
    }
}

/// Parses params and returns them with their errors, in the format of schema errors. Empty and invalid fields are
/// omitted.
pub(super) fn params(fields: &[Field], input: &FormInput) -> (Option<Map<String, Value>>, Vec<String>) {
    if let Some(text) = input.get(JSON_FIELD) {
        return match json::read(text) {
            Ok(Value::Object(params)) => (Some(params), Vec::new()),
            Ok(_) => (None, vec!["the params are not a JSON object".to_owned()]),
            Err(error) => (None, vec![format!("the params are {error}")]),
        };
    }
    let (mut params, mut errors) = (Map::new(), Vec::new());
    for field in fields {
        let text = input.get(&field.id()).map_or("", String::as_str);
        if text.is_empty() {
            continue;
        }
        match field.kind.value(text) {
            Ok(value) => _ = params.insert(field.name.clone(), value),
            Err(error) => errors.push(format!("{}: {error}", field.pointer())),
        }
    }
    (Some(params), errors)
}

/// Parses the priority; `None` if it is not a whole number.
pub(super) fn priority(input: &FormInput) -> Option<i64> {
    match input.get("priority").map_or("", |text| text.trim()) {
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
        let yes_or_no = InputKind::Choice(vec![json!(true), json!(false)]);
        let sizes = InputKind::Choice(vec![json!("s"), json!("m"), json!(3)]);
        assert_eq!(kinds, [&InputKind::Line, &yes_or_no, &InputKind::Number, &sizes, &InputKind::Json]);
        assert_eq!((fields[1].default.as_str(), fields[2].default.as_str()), ("false", "20"));
    }

    #[test]
    fn typed_text_becomes_a_value_of_the_field_s_type() {
        let input = |pairs: &[(&str, &str)]| {
            let input = pairs.iter().map(|(name, text)| (format!("params.{name}"), (*text).to_owned())).collect();
            params(&of(&schema()), &input)
        };
        let read = |pairs: &[(&str, &str)], params: Value| {
            assert_eq!(input(pairs), (params.as_object().cloned(), Vec::new()), "{pairs:?}");
        };
        let all = [("url", "5"), ("deep", "true"), ("limit", " 7"), ("size", "\"m\""), ("tags", "[1, {}]")];
        read(&all, json!({"url": "5", "deep": true, "limit": 7, "size": "m", "tags": [1, {}]}));
        read(&[("url", "x"), ("deep", ""), ("limit", "")], json!({"url": "x"}));
        read(&[("limit", "many")], json!({"limit": "many"}));
        let (params, errors) = input(&[("tags", "[1"), ("url", "x")]);
        assert_eq!(params, json!({"url": "x"}).as_object().cloned());
        assert!(errors.len() == 1 && errors[0].starts_with("/tags: not valid JSON: "), "{errors:?}");
    }

    #[test]
    fn an_error_is_shown_at_its_field() {
        let named = |name: &str| Field {
            name: name.to_owned(),
            kind: InputKind::Line,
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
