//! What the meta-schemas of JSON Schema apply where, which are known without being in the document.
//!
//! Their references to themselves lead to whatever extends them, if that is in the document.

use serde_json::Value;

/// A meta-schema, by which parts of a schema it looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Core,
    Applicator,
    Unevaluated,
    Content,
    /// It looks into none.
    Flat,
    /// It looks into all of them.
    Whole,
}

impl Part {
    /// The one whose URI ends with `last`.
    pub(super) fn of(last: &str) -> Self {
        match last {
            "core" => Self::Core,
            "applicator" => Self::Applicator,
            "unevaluated" => Self::Unevaluated,
            "content" => Self::Content,
            "validation" | "meta-data" | "format" | "format-annotation" | "format-assertion" => Self::Flat,
            _ => Self::Whole,
        }
    }

    /// Which part describes a keyword that holds schemas.
    fn describes(keyword: &str) -> Option<Self> {
        match keyword {
            "$defs" => Some(Self::Core),
            "prefixItems"
            | "items"
            | "additionalItems"
            | "contains"
            | "additionalProperties"
            | "properties"
            | "patternProperties"
            | "dependentSchemas"
            | "propertyNames"
            | "if"
            | "then"
            | "else"
            | "allOf"
            | "anyOf"
            | "oneOf"
            | "not" => Some(Self::Applicator),
            // In 2019-09, they are the applicator's.
            "unevaluatedItems" | "unevaluatedProperties" => Some(Self::Unevaluated),
            "contentSchema" => Some(Self::Content),
            "definitions" | "dependencies" => Some(Self::Whole),
            _ => None,
        }
    }

    /// The schemas in `value` that it looks into.
    pub(super) fn schemas(self, value: &Value) -> Vec<&Value> {
        let mut schemas = Vec::new();
        for (keyword, field) in value.as_object().into_iter().flatten() {
            let Some(part) = Self::describes(keyword) else { continue };
            let is_looked_into =
                self == part || self == Self::Whole || (self, part) == (Self::Applicator, Self::Unevaluated);
            match (keyword.as_str(), field) {
                _ if !is_looked_into => {}
                (_, Value::Array(items)) => schemas.extend(items),
                (
                    "$defs" | "definitions" | "properties" | "patternProperties" | "dependentSchemas" | "dependencies",
                    Value::Object(fields),
                ) => schemas.extend(fields.values()),
                _ => schemas.push(field),
            }
        }
        schemas
    }
}
