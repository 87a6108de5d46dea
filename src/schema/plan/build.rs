//! Builds the plan of a schema of any draft.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::Plan;
use super::meta::MetaSchema;
use super::subschema::{Subschema, cycle_entries};
use crate::schema::pattern::Pattern;

/// Number of list items, for example of `enum`, that are processed in one unit of work.
const ITEMS: usize = 16;

/// Returns the plan of all subschemas reachable from `schema`, and pointers to them.
pub(super) fn plan(schema: &Value) -> (Plan, Vec<SchemaPtr>) {
    let mut targets = ReferenceTargets {
        scope_of: HashMap::new(),
        scopes: vec![(schema, None)],
        resources: Vec::new(),
        anchors: Vec::new(),
        dynamic: Vec::new(),
    };
    targets.read(schema, 0);
    let dynamic = targets.dynamic.clone();
    let mut builder = Builder {
        targets,
        numbers: HashMap::new(),
        found: Vec::new(),
        has_alternatives: false,
        has_dynamic_references: false,
    };
    builder.number(schema);
    let dynamic = dynamic.into_iter().map(|schema| builder.number(schema)).collect();
    let mut subschemas = Vec::new();
    while let Some(schema) = builder.found.get(subschemas.len()) {
        subschemas.push(builder.subschema(schema));
    }
    let uses_meta_schemas = subschemas.iter().any(|subschema| !subschema.meta_schemas.is_empty());
    // The library may check some of these each time.
    let is_special =
        uses_meta_schemas || builder.has_dynamic_references || subschemas.iter().any(|it| it.has_unevaluated);
    let cycle_entries = if is_special { Vec::new() } else { cycle_entries(&subschemas) };
    let pointers = builder.found.into_iter().map(std::ptr::from_ref).collect();
    (
        Plan { subschemas, dynamic, uses_meta_schemas, has_alternatives: builder.has_alternatives, cycle_entries },
        pointers,
    )
}

/// The identity of a subschema: equal schemas at different places are different subschemas.
pub(super) type SchemaPtr = *const Value;

/// The possible targets of references. How resources are named depends on the draft; here, a reference leads to its
/// targets in all drafts.
struct ReferenceTargets<'a> {
    /// The index of the scope of each object.
    scope_of: HashMap<SchemaPtr, usize>,
    /// The root and all schemas with an id, each with its enclosing scope.
    scopes: Vec<(&'a Value, Option<usize>)>,
    /// Schemas by `$id`.
    resources: Vec<(String, &'a Value)>,
    anchors: Vec<(&'a str, &'a Value)>,
    /// Possible targets of the dynamic references of meta-schemas.
    dynamic: Vec<&'a Value>,
}

impl<'a> ReferenceTargets<'a> {
    fn read(&mut self, value: &'a Value, scope: usize) {
        match value {
            Value::Object(fields) => self.read_object(value, fields, scope),
            Value::Array(items) => items.iter().for_each(|item| self.read(item, scope)),
            _ => {}
        }
    }

    fn read_object(&mut self, value: &'a Value, fields: &'a Map<String, Value>, mut scope: usize) {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        for id in [text("$id"), text("id")].into_iter().flatten() {
            let (uri, anchor) = id.split_once('#').unwrap_or((id, ""));
            if !anchor.is_empty() {
                self.anchors.push((anchor, value));
            }
            if !uri.is_empty() {
                self.resources.push((uri.to_owned(), value));
                self.scopes.push((value, Some(scope)));
                scope = self.scopes.len() - 1;
            }
        }
        let anchors = [text("$anchor"), text("$dynamicAnchor")].into_iter().flatten();
        self.anchors.extend(anchors.map(|anchor| (anchor, value)));
        if text("$dynamicAnchor") == Some("meta") || fields.get("$recursiveAnchor") == Some(&Value::Bool(true)) {
            self.dynamic.push(value);
        }
        self.scope_of.insert(value, scope);
        fields.values().for_each(|field| self.read(field, scope));
    }

    /// Returns all possible targets of a reference in `schema`.
    fn of(&self, schema: &'a Value, reference: &str) -> Vec<&'a Value> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let bases = if uri.is_empty() { self.enclosing(schema) } else { self.named(uri) };
        let decoded = percent_decode_str(fragment).decode_utf8_lossy();
        match &*decoded {
            "" => bases,
            pointer if pointer.starts_with('/') => bases.iter().filter_map(|base| base.pointer(pointer)).collect(),
            name if name == fragment => self.anchored(name),
            name => [self.anchored(name), self.anchored(fragment)].concat(),
        }
    }

    /// Returns the resources that contain a schema.
    fn enclosing(&self, schema: &'a Value) -> Vec<&'a Value> {
        let mut enclosing = Vec::new();
        let mut next = Some(self.scope_of.get(&std::ptr::from_ref(schema)).copied().unwrap_or(0));
        while let Some((scope, above)) = next.and_then(|number| self.scopes.get(number)) {
            enclosing.push(*scope);
            next = *above;
        }
        enclosing
    }

    /// Returns the resources that a URI may name: all whose last path segment is the same, or all if the segment is unclear.
    fn named(&self, uri: &str) -> Vec<&'a Value> {
        let wanted = last(uri);
        let is_odd = |last: &str| matches!(last, "" | "." | "..");
        let alike = |id: &str| is_odd(&wanted) || is_odd(&last(id)) || last(id) == wanted;
        let mut named: Vec<&Value> =
            self.resources.iter().filter(|(id, _)| alike(id)).map(|(_, value)| *value).collect();
        if is_odd(&wanted) || named.is_empty() && !self.is_meta(uri) {
            named.extend(self.resources.iter().map(|(_, value)| *value));
            named.push(self.scopes[0].0);
        }
        named
    }

    /// Whether a URI may name a meta-schema.
    fn is_meta(&self, uri: &str) -> bool {
        let is_theirs = |uri: &str| decoded(uri).contains("json-schema.org");
        META_SCHEMAS.contains(&&*last(uri)) && (is_theirs(uri) || self.resources.iter().any(|(id, _)| is_theirs(id)))
    }

    fn anchored(&self, name: &str) -> Vec<&'a Value> {
        self.anchors.iter().filter(|(anchor, _)| *anchor == name).map(|(_, value)| *value).collect()
    }
}

/// Last path segments of the URIs of meta-schemas.
const META_SCHEMAS: [&str; 10] = [
    "schema",
    "core",
    "applicator",
    "unevaluated",
    "validation",
    "content",
    "meta-data",
    "format",
    "format-annotation",
    "format-assertion",
];

/// Normalizes a URI.
fn decoded(uri: &str) -> String {
    percent_decode_str(uri).decode_utf8_lossy().to_lowercase()
}

/// Returns the last segment of a URI's path, normalized.
fn last(uri: &str) -> String {
    let path = uri.split(['#', '?']).next().unwrap_or_default();
    decoded(path.rsplit(['/', ':']).next().unwrap_or_default())
}

struct Builder<'a> {
    targets: ReferenceTargets<'a>,
    numbers: HashMap<SchemaPtr, usize>,
    found: Vec<&'a Value>,
    has_alternatives: bool,
    has_dynamic_references: bool,
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
                    found.has_unevaluated = true;
                    found.other_properties.push(self.number(value));
                }
                "unevaluatedItems" => {
                    found.has_unevaluated = true;
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
        self.has_dynamic_references |= keyword != "$ref";
        let mut targets = self.targets.of(schema, reference);
        let (uri, name) = reference.split_once('#').unwrap_or((reference, ""));
        if keyword == "$dynamicRef" {
            targets.extend(self.targets.anchored(name));
        }
        if keyword == "$recursiveRef" {
            targets.push(self.targets.scopes[0].0);
            targets.extend(&self.targets.dynamic);
        }
        if targets.is_empty() || self.targets.is_meta(uri) {
            found.meta_schemas.push(MetaSchema::of(&last(uri)));
        }
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

/// Returns the work of a keyword with a list, in units.
fn length(value: &Value) -> u64 {
    let items = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    (items / ITEMS) as u64
}
