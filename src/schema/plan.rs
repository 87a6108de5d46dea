//! Models which subschemas apply where, to estimate the work of a check before it runs.
//!
//! The estimate is an upper bound: it counts all branches of alternatives, and all patterns as if they matched.

mod build;
mod meta;

use std::collections::HashMap;

use serde_json::Value;

use self::meta::MetaSchema;
use super::pattern::Pattern;
use super::stop;

/// Maximum number of subschemas that apply at one place in the params, including references.
const MAX_IN_PLACE: u64 = 10_000;
/// Maximum length of a chain of subschemas at one place.
const MAX_CHAIN: usize = 128;
/// Maximum number of states of all patterns, with counted repetitions expanded. Each takes at most half a kilobyte.
const MAX_STATES: u64 = 500_000;
/// Maximum number of steps for counting, since references may be circular.
const MAX_COUNTING: u64 = 2_000_000;
/// The most results of a reckoning that are kept, of some tens of bytes each.
const MAX_CACHED: usize = 250_000;
/// Bytes of a string that are read in one unit of work.
const BYTES: usize = 256;

/// The subschemas of a schema. The first is the schema itself.
pub(super) struct Plan {
    subschemas: Vec<Subschema>,
    /// Possible targets of the dynamic references of meta-schemas.
    dynamic: Vec<usize>,
    /// Whether it refers to a meta-schema.
    uses_meta_schemas: bool,
    /// Whether it contains `anyOf` or `oneOf`.
    pub(super) has_alternatives: bool,
    /// Which subschemas references lead back to, so that each circle has one; none if the library may check them anew.
    cycle_entries: Vec<bool>,
}

/// A subschema with the indices of the ones that it applies.
#[derive(Default)]
struct Subschema {
    /// Work of its own keywords, in units.
    own: u64,
    /// Applied to the same value.
    in_place: Vec<usize>,
    /// Applied to the same value if a property exists.
    dependent: Vec<(String, usize)>,
    /// Has `unevaluatedProperties` or `unevaluatedItems`, which evaluate the subschemas of the same value again.
    has_unevaluated: bool,
    /// Referenced meta-schemas, which are not in the document.
    meta_schemas: Vec<MetaSchema>,
    properties: HashMap<String, usize>,
    pattern_properties: Vec<(Pattern, usize)>,
    /// Applied to other properties.
    other_properties: Vec<usize>,
    names: Option<usize>,
    first_items: Vec<usize>,
    /// Applied to items after `first_items`.
    other_items: Vec<usize>,
    /// Applied to all items.
    contains: Option<usize>,
    is_unique: bool,
    pattern: Option<Pattern>,
}

impl Subschema {
    /// Whether it takes almost no work for any value.
    fn is_trivial(&self) -> bool {
        let applies = [&self.in_place, &self.other_properties, &self.first_items, &self.other_items];
        let applies_named = [self.dependent.is_empty(), self.properties.is_empty(), self.pattern_properties.is_empty()];
        applies.iter().all(|subschemas| subschemas.is_empty())
            && applies_named.iter().all(|is_empty| *is_empty)
            && self.meta_schemas.is_empty()
            && self.names.or(self.contains).is_none()
            && !self.is_unique
            && self.pattern.is_none()
            && self.own == 0
    }

    /// All that it applies, anywhere.
    fn all(&self) -> impl Iterator<Item = usize> + '_ {
        let lists = [&self.in_place, &self.other_properties, &self.first_items, &self.other_items];
        let named = self.dependent.iter().map(|(_, next)| next).chain(self.properties.values());
        let matching = self.pattern_properties.iter().map(|(_, next)| next);
        let single = self.names.iter().chain(&self.contains);
        lists.into_iter().flatten().chain(named).chain(matching).chain(single).copied()
    }

    /// Returns the subschemas that are applied to the same `value`.
    fn same_value<'a>(&'a self, value: &'a Value) -> impl Iterator<Item = usize> + 'a {
        let has = |name: &String| value.get(name.as_str()).is_some();
        let dependent = self.dependent.iter().filter(move |(name, _)| has(name)).map(|(_, next)| *next);
        self.in_place.iter().copied().chain(dependent)
    }
}

impl Plan {
    /// Creates the plan, and returns the schema to compile, with the keyword that makes checks stoppable. Fails if a limit is
    /// exceeded.
    pub(super) fn new(schema: &Value) -> Result<(Self, Value), String> {
        let (this, pointers) = build::plan(schema);
        if this.states() > MAX_STATES {
            return Err(format!("its patterns have more than {MAX_STATES} states, counted repetitions written out"));
        }
        let mut count = SubschemaCounter { plan: &this, sizes: vec![None; this.subschemas.len()], steps: 0 };
        for number in 0..this.subschemas.len() {
            count.in_place(number, &mut Vec::new())?;
        }
        let much = this.subschemas.iter().zip(pointers).filter(|(subschema, _)| !subschema.is_trivial());
        let schema = stop::with_stop_keyword(schema, &much.map(|(_, pointer)| pointer).collect());
        Ok((this, schema))
    }

    /// Returns the number of states of all patterns.
    pub(super) fn states(&self) -> u64 {
        let named = self.subschemas.iter().flat_map(|subschema| &subschema.pattern_properties);
        let patterns = named.map(|(pattern, _)| *pattern).chain(self.subschemas.iter().filter_map(|it| it.pattern));
        patterns.fold(0, |sum, pattern| sum.saturating_add(pattern.size()))
    }

    /// Whether it takes no more than so much work to tell what is wrong with `params`, and where.
    pub(super) fn work(&self, params: &Value, most: WorkLimit) -> bool {
        // The estimate for meta-schemas is rough.
        if self.uses_meta_schemas && most.units <= WorkLimit::LIGHT.units {
            return false;
        }
        self.estimate(params, most, &[], most.units > WorkLimit::LIGHT.units)
    }

    /// The same if only whether they are valid is asked for: then the library checks a value once against each subschema
    /// that references lead back to, however many ways lead there.
    pub(super) fn work_of_validity(&self, params: &Value, most: WorkLimit) -> bool {
        self.estimate(params, most, &self.cycle_entries, true)
    }

    fn estimate(&self, params: &Value, most: WorkLimit, cycle_entries: &[bool], is_caching: bool) -> bool {
        let cache = HashMap::new();
        let mut estimate =
            WorkEstimate { plan: self, left: most.units, cycle_entries, is_caching, above: Vec::new(), cache };
        estimate.apply(0, params, Depth { all: most.depth, place: 0 }).is_some()
    }
}

/// Which subschemas are met again below themselves, in a walk from the first.
fn cycle_entries(subschemas: &[Subschema]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        None,
        Open,
        Done,
    }
    let (mut visits, mut cycle_entries) = (vec![Visit::None; subschemas.len()], vec![false; subschemas.len()]);
    for first in 0..subschemas.len() {
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = Some(first);
        loop {
            match next.take() {
                Some(number) if visits[number] == Visit::None => {
                    visits[number] = Visit::Open;
                    path.push((number, subschemas[number].all().collect()));
                }
                Some(number) => cycle_entries[number] |= visits[number] == Visit::Open,
                None => {}
            }
            let Some((number, below)) = path.last_mut() else { break };
            next = below.pop();
            if next.is_none() {
                visits[*number] = Visit::Done;
                path.pop();
            }
        }
    }
    cycle_entries
}

/// A limit on the work of a check.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkLimit {
    /// A unit takes some tens of nanoseconds, at most half a microsecond.
    pub(super) units: u64,
    /// Maximum recursion depth.
    pub(super) depth: usize,
}

impl WorkLimit {
    /// Some milliseconds, with a normal stack.
    pub(super) const LIGHT: Self = Self { units: 20_000, depth: 150 };
    /// Usually seconds, since the estimate for alternatives is much too high. A check that takes longer than its caller waits
    /// is stopped.
    pub(super) const HEAVY: Self = Self { units: 1_000_000_000, depth: 4_000 };
    /// Maximum work of a single keyword for one value, which cannot be stopped.
    const ATOMIC: u64 = 5_000_000;
}

/// Counts the subschemas that apply at one place.
struct SubschemaCounter<'a> {
    plan: &'a Plan,
    /// For each subschema, how many it leads to, including itself, and the length of the longest chain.
    sizes: Vec<Option<(u64, usize)>>,
    steps: u64,
}

impl SubschemaCounter<'_> {
    /// Returns the number of subschemas that apply where `number` does, and the longest chain; `above` lead here. Circular
    /// references end the recursion.
    fn in_place(&mut self, number: usize, above: &mut Vec<usize>) -> Result<(u64, usize), String> {
        if let Some(size) = self.sizes[number] {
            return Ok(size);
        }
        if above.contains(&number) {
            return Ok((0, 0));
        }
        self.steps += 1;
        if self.steps > MAX_COUNTING {
            return Err("its references form too many cycles".into());
        }
        if above.len() >= MAX_CHAIN {
            return Err(format!("more than {MAX_CHAIN} subschemas in a chain apply at one place"));
        }
        above.push(number);
        let subschema = &self.plan.subschemas[number];
        let (mut size, mut chain) = (0_u64, 0);
        for next in subschema.in_place.iter().chain(subschema.dependent.iter().map(|(_, next)| next)) {
            let (more, longer) = self.in_place(*next, above)?;
            size = size.saturating_add(more);
            chain = chain.max(longer);
        }
        above.pop();
        let times = if subschema.has_unevaluated { 2 } else { 1 };
        let counted = (size.saturating_mul(times).saturating_add(1), chain + 1);
        if counted.0 > MAX_IN_PLACE {
            return Err(format!("more than {MAX_IN_PLACE} subschemas apply at one place, references followed"));
        }
        // In a cycle, the count depends on where it was entered.
        if above.is_empty() || !subschema.in_place.iter().any(|next| above.contains(next)) {
            self.sizes[number] = Some(counted);
        }
        Ok(counted)
    }
}

/// How deep there is still to go, and where the subschemas begin that lead to one at the same place.
#[derive(Clone, Copy)]
struct Depth {
    all: usize,
    place: usize,
}

/// Estimates the work of a check. The methods return `None` if it exceeds the limit.
struct WorkEstimate<'a> {
    plan: &'a Plan,
    left: u64,
    /// The subschemas that count once for each array and object; none if this is empty.
    cycle_entries: &'a [bool],
    is_caching: bool,
    /// The subschemas that lead to the one that is applied.
    above: Vec<usize>,
    /// At most [`MAX_CACHED`]. What was reckoned of a subschema and a value, and how deep there was to go then: what doubles at each level is
    /// reckoned once at each.
    cache: HashMap<(usize, *const Value), (u64, usize)>,
}

impl WorkEstimate<'_> {
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
        // In a circle at one place, the check ends as well.
        if self.above[depth.place..].contains(&number) {
            return Some(());
        }
        if self.cycle_entries.get(number) == Some(&true) && (value.is_array() || value.is_object()) {
            return self.apply_cycle_entry(number, value, depth);
        }
        if !self.is_caching || self.above.len() > depth.place || !has_levels(value) {
            return self.apply_uncached(number, value, depth);
        }
        let key = (number, std::ptr::from_ref(value));
        if let Some((units, room)) = self.cache.get(&key).copied()
            && depth.all >= room
        {
            return self.spend(units);
        }
        let before = self.left;
        self.apply_uncached(number, value, depth)?;
        self.insert_cached(key, (before - self.left, depth.all));
        Some(())
    }

    /// Where references lead back to: what is known, or under way, is not checked again.
    fn apply_cycle_entry(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        let key = (number, std::ptr::from_ref(value));
        if self.cache.get(&key).is_some_and(|(_, room)| depth.all >= *room) {
            return self.spend(1);
        }
        self.insert_cached(key, (1, depth.all));
        self.apply_uncached(number, value, depth)
    }

    fn insert_cached(&mut self, key: (usize, *const Value), cache: (u64, usize)) {
        if self.cache.len() < MAX_CACHED {
            self.cache.insert(key, cache);
        }
    }

    fn apply_uncached(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        let plan = self.plan;
        let subschema = &plan.subschemas[number];
        self.spend(1 + subschema.own)?;
        let here = Depth { all: depth.all.checked_sub(1)?, ..depth };
        self.above.push(number);
        for next in subschema.same_value(value) {
            self.apply(next, value, here)?;
            if subschema.has_unevaluated {
                self.reevaluate(next, value, here)?;
            }
        }
        let below = Depth { place: self.above.len(), ..here };
        for meta_schema in &subschema.meta_schemas {
            self.spend(64 * parts(value))?;
            for schema in meta_schema.schemas(value).into_iter().filter(|_| !plan.dynamic.is_empty()) {
                plan.dynamic.iter().try_for_each(|next| self.apply(*next, schema, below))?;
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
        if self.above[depth.place..].contains(&number) {
            return Some(());
        }
        let subschema = &self.plan.subschemas[number];
        let here = Depth { all: depth.all.checked_sub(1)?, ..depth };
        self.above.push(number);
        let below = Depth { place: self.above.len(), ..here };
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

/// Whether its first parts include arrays or objects.
fn has_levels(value: &Value) -> bool {
    const FIRST: usize = 8;
    let is_level = |meta_schema: &Value| meta_schema.is_array() || meta_schema.is_object();
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
