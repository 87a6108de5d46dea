//! Estimates the work of a check before it runs.

use std::collections::HashMap;

use serde_json::Value;

use super::subschema::Subschema;
use crate::schema::stop;

/// Maximum number of results that are cached, of some tens of bytes each.
const MAX_CACHED: usize = 250_000;
/// Bytes of a string that are read in one unit of work.
const BYTES: usize = 256;

/// A limit on the work of a check.
#[derive(Debug, Clone, Copy)]
pub(in crate::schema) struct WorkLimit {
    /// A unit takes some tens of nanoseconds, at most half a microsecond.
    pub(in crate::schema) units: u64,
    /// Maximum recursion depth.
    pub(in crate::schema) depth: usize,
}

impl WorkLimit {
    /// Some milliseconds, with a normal stack.
    pub(in crate::schema) const LIGHT: Self = Self { units: 20_000, depth: 150 };
    /// Usually seconds, since the estimate for alternatives is much too high. A check that takes longer than its caller waits
    /// is stopped.
    pub(in crate::schema) const HEAVY: Self = Self { units: 1_000_000_000, depth: 4_000 };
    /// Maximum work of a single keyword for one value, which cannot be stopped.
    const ATOMIC: u64 = 5_000_000;
}

/// Where a walk through schema and params is.
#[derive(Clone, Copy)]
struct Depth {
    /// How many more levels the recursion may take.
    left: usize,
    /// The index in `above` of the first subschema that applies to the same value.
    same_value_from: usize,
}

/// Estimates the work of a check. The methods return `None` if it exceeds the limit.
pub(super) struct WorkEstimate<'a> {
    subschemas: &'a [Subschema],
    /// Possible targets of the dynamic references of meta-schemas.
    dynamic: &'a [usize],
    /// The subschemas that count once for each array and object; none if this is empty.
    pub(super) cycle_entries: &'a [bool],
    pub(super) is_caching: bool,
    /// The units of work that are left.
    left: u64,
    /// The subschemas that lead to the one that is applied.
    above: Vec<usize>,
    /// The work of a subschema for a value, and how many levels were left then; at most [`MAX_CACHED`] entries. With it,
    /// work that doubles at each level is estimated once for each level.
    cache: HashMap<(usize, *const Value), (u64, usize)>,
}

impl<'a> WorkEstimate<'a> {
    /// Creates an estimate for a schema, the first of `subschemas`.
    pub(super) fn new(subschemas: &'a [Subschema], dynamic: &'a [usize]) -> Self {
        Self {
            subschemas,
            dynamic,
            cycle_entries: &[],
            is_caching: true,
            left: 0,
            above: Vec::new(),
            cache: HashMap::new(),
        }
    }

    /// Whether a check of `params` stays within `limit`.
    pub(super) fn fits(mut self, params: &Value, limit: WorkLimit) -> bool {
        self.left = limit.units;
        self.apply(0, params, Depth { left: limit.depth, same_value_from: 0 }).is_some()
    }

    fn spend(&mut self, units: u64) -> Option<()> {
        self.left = self.left.checked_sub(units)?;
        Some(())
    }

    /// Spends work that cannot be stopped.
    fn spend_atomic(&mut self, units: u64) -> Option<()> {
        if units > WorkLimit::ATOMIC { None } else { self.spend(units) }
    }

    fn apply(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        stop::check_stopped();
        // The library ends a cycle of references at one place, too.
        if self.above[depth.same_value_from..].contains(&number) {
            return Some(());
        }
        if self.cycle_entries.get(number) == Some(&true) && (value.is_array() || value.is_object()) {
            return self.apply_cycle_entry(number, value, depth);
        }
        if !self.is_caching || self.above.len() > depth.same_value_from || !has_levels(value) {
            return self.apply_uncached(number, value, depth);
        }
        let key = (number, std::ptr::from_ref(value));
        if let Some((units, room)) = self.cache.get(&key).copied()
            && depth.left >= room
        {
            return self.spend(units);
        }
        let before = self.left;
        self.apply_uncached(number, value, depth)?;
        self.insert_cached(key, (before - self.left, depth.left));
        Some(())
    }

    /// Applies a subschema to which references lead back. A result that is known, or being computed, is not computed again.
    fn apply_cycle_entry(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        let key = (number, std::ptr::from_ref(value));
        if self.cache.get(&key).is_some_and(|(_, room)| depth.left >= *room) {
            return self.spend(1);
        }
        self.insert_cached(key, (1, depth.left));
        self.apply_uncached(number, value, depth)
    }

    fn insert_cached(&mut self, key: (usize, *const Value), result: (u64, usize)) {
        if self.cache.len() < MAX_CACHED {
            self.cache.insert(key, result);
        }
    }

    fn apply_uncached(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        let subschema = &self.subschemas[number];
        self.spend(1 + subschema.own)?;
        let here = Depth { left: depth.left.checked_sub(1)?, ..depth };
        self.above.push(number);
        for next in subschema.same_value(value) {
            self.apply(next, value, here)?;
            if subschema.has_unevaluated {
                self.reevaluate(next, value, here)?;
            }
        }
        let below = Depth { same_value_from: self.above.len(), ..here };
        for meta_schema in &subschema.meta_schemas {
            self.spend(64 * parts(value))?;
            for schema in meta_schema.schemas(value) {
                self.dynamic.iter().try_for_each(|next| self.apply(*next, schema, below))?;
            }
        }
        match value {
            Value::String(text) => self.text(subschema, text)?,
            Value::Array(items) => self.items(subschema, items, below)?,
            Value::Object(_) => self.properties(subschema, value, below)?,
            _ => {}
        }
        self.above.pop();
        Some(())
    }

    /// Estimates the second evaluation that finds out which items or properties are unevaluated.
    fn reevaluate(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        if self.above[depth.same_value_from..].contains(&number) {
            return Some(());
        }
        let subschema = &self.subschemas[number];
        let here = Depth { left: depth.left.checked_sub(1)?, ..depth };
        self.above.push(number);
        let below = Depth { same_value_from: self.above.len(), ..here };
        for item in value.as_array().into_iter().flatten() {
            self.spend(1)?;
            let others = subschema.other_items.iter().filter(|_| subschema.has_unevaluated);
            subschema.contains.iter().chain(others).try_for_each(|next| self.apply(*next, item, below))?;
        }
        for (name, field) in value.as_object().into_iter().flatten() {
            self.spend(1)?;
            subschema.pattern_properties.iter().try_for_each(|(pattern, _)| self.spend(pattern.work(name.len())))?;
            let mut others = subschema.other_properties.iter().filter(|_| subschema.has_unevaluated);
            others.try_for_each(|next| self.apply(*next, field, below))?;
        }
        for next in subschema.same_value(value) {
            self.apply(next, value, here)?;
            self.reevaluate(next, value, here)?;
        }
        self.above.pop();
        Some(())
    }

    fn text(&mut self, subschema: &Subschema, text: &str) -> Option<()> {
        self.spend((text.len() / BYTES) as u64)?;
        subschema.pattern.map_or(Some(()), |pattern| self.spend_atomic(pattern.work(text.len())))
    }

    fn items(&mut self, subschema: &Subschema, items: &[Value], below: Depth) -> Option<()> {
        if subschema.is_unique {
            // Items are compared by hashes, which collide for some values.
            let alike = items.iter().filter(|item| is_hashed_badly(item, 0)).count() as u64;
            let parts: u64 = items.iter().map(parts).sum();
            self.spend_atomic(parts.saturating_mul(4).saturating_add(alike.saturating_mul(alike) / 8))?;
        }
        for (next, item) in subschema.first_items.iter().zip(items) {
            self.apply(*next, item, below)?;
        }
        for item in items {
            subschema.contains.map_or(Some(()), |next| self.apply(next, item, below))?;
        }
        for item in items.iter().skip(subschema.first_items.len()) {
            subschema.other_items.iter().try_for_each(|next| self.apply(*next, item, below))?;
        }
        Some(())
    }

    fn properties(&mut self, subschema: &Subschema, value: &Value, below: Depth) -> Option<()> {
        self.spend(subschema.properties.len() as u64 / 8)?;
        let fields = value.as_object()?;
        if subschema.pattern_properties.is_empty() && subschema.other_properties.is_empty() && subschema.names.is_none()
        {
            // Only named properties.
            if subschema.properties.len() < fields.len() {
                for (name, next) in &subschema.properties {
                    fields.get(name).map_or(Some(()), |field| self.apply(*next, field, below))?;
                }
                return Some(());
            }
        }
        for (name, field) in fields {
            match subschema.properties.get(name) {
                Some(next) => self.apply(*next, field, below)?,
                None => subschema.other_properties.iter().try_for_each(|next| self.apply(*next, field, below))?,
            }
            for (pattern, next) in &subschema.pattern_properties {
                self.spend_atomic(pattern.work(name.len()))?;
                self.apply(*next, field, below)?;
            }
            if let Some(next) = subschema.names {
                self.apply(next, &Value::String(name.clone()), below)?;
            }
        }
        Some(())
    }
}

/// Whether one of the first items or fields is an array or an object.
fn has_levels(value: &Value) -> bool {
    const FIRST: usize = 8;
    let is_level = |value: &Value| value.is_array() || value.is_object();
    match value {
        Value::Array(items) => items.iter().take(FIRST).any(is_level),
        Value::Object(fields) => fields.values().take(FIRST).any(is_level),
        _ => false,
    }
}

/// Counts the nested values, and the bytes of strings in units.
fn parts(value: &Value) -> u64 {
    match value {
        Value::String(text) => 1 + (text.len() / BYTES) as u64,
        Value::Array(items) => 1 + items.iter().map(parts).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(parts).sum::<u64>(),
        _ => 1,
    }
}

/// Whether different values may have the same hash: long numbers that round to the same float, and nested arrays.
fn is_hashed_badly(value: &Value, depth: usize) -> bool {
    match value {
        Value::Number(number) => number.as_str().len() > 15,
        Value::Array(items) => {
            items.is_empty() || depth > 0 || items.iter().any(|item| is_hashed_badly(item, depth + 1))
        }
        Value::Object(fields) => fields.is_empty() || fields.values().any(|field| is_hashed_badly(field, depth + 1)),
        _ => false,
    }
}
