//! The meta-schemas of JSON Schema, which are known without being in the document.
//!
//! Their dynamic references lead to a schema that extends them, if the document has one.

use serde_json::Value;

/// A meta-schema, by the parts of a schema that it validates recursively.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetaSchema {
    Core,
    Applicator,
    Unevaluated,
    Content,
    /// No recursion.
    Flat,
    /// All parts.
    Whole,
}

impl MetaSchema {
    /// Returns the meta-schema whose URI ends with `last`.
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

    /// Returns the meta-schema that defines a keyword with subschemas.
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
            // In 2019-09, they belong to the applicator.
            "unevaluatedItems" | "unevaluatedProperties" => Some(Self::Unevaluated),
            "contentSchema" => Some(Self::Content),
            "definitions" | "dependencies" => Some(Self::Whole),
            _ => None,
        }
    }

    /// Returns the subschemas in `value` that it validates.
    pub(super) fn schemas(self, value: &Value) -> Vec<&Value> {
        let mut schemas = Vec::new();
        for (keyword, field) in value.as_object().into_iter().flatten() {
            let Some(meta_schema) = Self::describes(keyword) else { continue };
            let is_looked_into = self == meta_schema
                || self == Self::Whole
                || (self, meta_schema) == (Self::Applicator, Self::Unevaluated);
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
