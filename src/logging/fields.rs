//! Converts the key-values of a log record to JSON.

use log::Record;
use log::kv::{self, Key, VisitSource, VisitValue};
use serde_json::{Number, Value, json};

/// Returns the fields of a record in order, without null values.
pub(super) fn fields(record: &Record<'_>) -> Vec<(String, Value)> {
    let mut fields = Fields(Vec::new());
    // The visitor below never fails.
    let _ = record.key_values().visit(&mut fields);
    fields.0
}

struct Fields(Vec<(String, Value)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let mut json = JsonVisitor(Value::Null);
        value.visit(&mut json)?;
        if !json.0.is_null() {
            self.0.push((key.as_str().to_owned(), json.0));
        }
        Ok(())
    }
}

/// Converts a value to JSON, or to a string if JSON cannot represent it.
struct JsonVisitor(Value);

impl VisitValue<'_> for JsonVisitor {
    fn visit_any(&mut self, value: kv::Value<'_>) -> Result<(), kv::Error> {
        self.0 = Value::String(value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.0 = Number::from_f64(value).map_or_else(|| json!(value.to_string()), Value::Number);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }
}
