//! Reading what a schema applies where, of any draft.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{Plan, Subschema};
use crate::schema::pattern::Pattern;

/// Items of a list, such as of `enum` or `required`, that are looked at for one unit of work.
const ITEMS: usize = 16;

/// The plan of the subschemas that can be reached from `schema`, itself first.
pub(super) fn plan(schema: &Value) -> Plan {
    let mut document =
        Document { resource_of: HashMap::new(), resources: Vec::new(), anchors: Vec::new(), root: schema };
    document.read(schema, schema);
    let mut builder = Builder { document, numbers: HashMap::new(), found: Vec::new(), has_alternatives: false };
    builder.number(schema);
    let mut subschemas = Vec::new();
    while let Some(schema) = builder.found.get(subschemas.len()) {
        subschemas.push(builder.subschema(schema));
    }
    Plan { subschemas, has_alternatives: builder.has_alternatives }
}

/// By where it is: the same text at two places is two subschemas.
type Place = *const Value;

/// What references can lead to.
struct Document<'a> {
    root: &'a Value,
    /// What each object's references are relative to, where that is not the root.
    resource_of: HashMap<Place, &'a Value>,
    /// By their `$id`.
    resources: Vec<(&'a str, &'a Value)>,
    anchors: Vec<(&'a str, &'a Value)>,
}

impl<'a> Document<'a> {
    fn read(&mut self, value: &'a Value, resource: &'a Value) {
        match value {
            Value::Object(fields) => self.read_object(value, fields, resource),
            Value::Array(items) => items.iter().for_each(|item| self.read(item, resource)),
            _ => {}
        }
    }

    fn read_object(&mut self, value: &'a Value, fields: &'a Map<String, Value>, mut resource: &'a Value) {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        for id in [text("$id"), text("id")].into_iter().flatten() {
            if let Some(anchor) = id.strip_prefix('#') {
                self.anchors.push((anchor, value));
            } else {
                self.resources.push((id, value));
                resource = value;
            }
        }
        let anchors = [text("$anchor"), text("$dynamicAnchor")].into_iter().flatten();
        self.anchors.extend(anchors.map(|anchor| (anchor, value)));
        self.resource_of.insert(value, resource);
        fields.values().for_each(|field| self.read(field, resource));
    }

    /// All that a reference of `schema` may lead to: where URIs end alike, each of them.
    fn targets(&self, schema: &'a Value, reference: &str) -> Vec<&'a Value> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let fragment = percent_decode_str(fragment).decode_utf8_lossy();
        let bases: Vec<&Value> = match uri {
            "" => vec![self.resource_of.get(&std::ptr::from_ref(schema)).copied().unwrap_or(self.root)],
            _ => self.resources.iter().filter(|(id, _)| last(id) == last(uri)).map(|(_, value)| *value).collect(),
        };
        match &*fragment {
            "" => bases,
            pointer if pointer.starts_with('/') => bases.iter().filter_map(|base| base.pointer(pointer)).collect(),
            name => self.anchored(name),
        }
    }

    fn anchored(&self, name: &str) -> Vec<&'a Value> {
        self.anchors.iter().filter(|(anchor, _)| *anchor == name).map(|(_, value)| *value).collect()
    }
}

/// The last part of a URI's path.
fn last(uri: &str) -> &str {
    uri.trim_end_matches('#').rsplit(['/', ':']).next().unwrap_or_default()
}

struct Builder<'a> {
    document: Document<'a>,
    numbers: HashMap<Place, usize>,
    found: Vec<&'a Value>,
    has_alternatives: bool,
}

impl<'a> Builder<'a> {
    fn number(&mut self, schema: &'a Value) -> usize {
        let found = &mut self.found;
        *self.numbers.entry(schema).or_insert_with(|| {
            found.push(schema);
            found.len() - 1
        })
    }

    fn numbers(&mut self, schemas: Option<&'a Value>) -> Vec<usize> {
        match schemas {
            Some(Value::Array(schemas)) => schemas.iter().map(|schema| self.number(schema)).collect(),
            Some(schema) => vec![self.number(schema)],
            None => Vec::new(),
        }
    }

    fn subschema(&mut self, schema: &'a Value) -> Subschema {
        let mut found = Subschema::default();
        let Some(fields) = schema.as_object() else { return found };
        for (keyword, value) in fields {
            match keyword.as_str() {
                "allOf" | "if" | "then" | "else" | "not" => found.in_place.extend(self.numbers(Some(value))),
                "anyOf" | "oneOf" => {
                    self.has_alternatives = true;
                    found.in_place.extend(self.numbers(Some(value)));
                }
                "$ref" | "$dynamicRef" | "$recursiveRef" => self.refer(schema, keyword, value, &mut found),
                "dependentSchemas" | "dependencies" => {
                    let dependent = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array());
                    found.dependent.extend(dependent.map(|(name, value)| (name.clone(), self.number(value))));
                }
                "properties" | "patternProperties" | "additionalProperties" | "propertyNames" => {
                    self.properties(keyword, value, &mut found);
                }
                "prefixItems" | "items" | "additionalItems" | "contains" => self.items(keyword, value, &mut found),
                "unevaluatedProperties" => {
                    found.looks_again = true;
                    found.other_properties.push(self.number(value));
                }
                "unevaluatedItems" => {
                    found.looks_again = true;
                    found.other_items.push(self.number(value));
                }
                "uniqueItems" => found.is_unique = value == &Value::Bool(true),
                "pattern" => found.pattern = value.as_str().map(Pattern::new),
                _ => {}
            }
            found.own += length(value);
        }
        found
    }

    fn refer(&mut self, schema: &'a Value, keyword: &str, value: &Value, found: &mut Subschema) {
        let Some(reference) = value.as_str() else { return };
        let mut targets = self.document.targets(schema, reference);
        let anchor = reference.rsplit_once('#').map(|(_, name)| name).filter(|_| keyword == "$dynamicRef");
        targets.extend(anchor.into_iter().flat_map(|name| self.document.anchored(name)));
        if keyword == "$recursiveRef" {
            targets.push(self.document.root);
        }
        found.leads_out |= targets.is_empty();
        for target in targets {
            let number = self.number(target);
            if !found.in_place.contains(&number) {
                found.in_place.push(number);
            }
        }
    }

    fn properties(&mut self, keyword: &str, value: &'a Value, found: &mut Subschema) {
        let named = value.as_object().into_iter().flatten();
        match keyword {
            "properties" => found.properties = named.map(|(name, value)| (name.clone(), self.number(value))).collect(),
            "patternProperties" => {
                found.pattern_properties =
                    named.map(|(name, value)| (Pattern::new(name), self.number(value))).collect();
            }
            "additionalProperties" => found.other_properties.push(self.number(value)),
            _ => found.names = Some(self.number(value)),
        }
    }

    fn items(&mut self, keyword: &str, value: &'a Value, found: &mut Subschema) {
        match (keyword, value) {
            ("contains", _) => found.contains = Some(self.number(value)),
            ("prefixItems", _) | ("items", Value::Array(_)) => found.first_items = self.numbers(Some(value)),
            _ => found.other_items.push(self.number(value)),
        }
    }
}

/// The work for a keyword with a long list, in units.
fn length(value: &Value) -> u64 {
    let items = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    (items / ITEMS) as u64
}
