//! What a schema applies where, to reckon the work of a check before it is done.
//!
//! More is counted than is done: every branch of an alternative, and every pattern as if it matched.

mod build;
mod meta;

use std::collections::HashMap;

use serde_json::Value;

use self::meta::Part;
use super::pattern::Pattern;
use super::stop;

/// The most subschemas that apply at one place in the params, references followed.
const MAX_IN_PLACE: u64 = 10_000;
/// The most subschemas at one place of which each leads to the next.
const MAX_CHAIN: usize = 128;
/// The most states of all patterns together, counted repetitions written out: each takes half a kilobyte at worst.
const MAX_STATES: u64 = 500_000;
/// Steps for counting them, where references go in circles.
const MAX_COUNTING: u64 = 2_000_000;
/// The most results of a reckoning that are kept, of some tens of bytes each.
const MAX_KNOWN: usize = 250_000;
/// Bytes of a text that are read for one unit of work.
const BYTES: usize = 256;

/// The subschemas of a schema, by what they apply to. The first is the schema itself.
pub(super) struct Plan {
    subschemas: Vec<Subschema>,
    /// What the references of a meta-schema may lead back to.
    dynamic: Vec<usize>,
    /// It refers to a meta-schema.
    leads_out: bool,
    /// Somewhere, one of several must fit.
    pub(super) has_alternatives: bool,
    /// Which subschemas references lead back to, so that each circle has one; none if the library may check them anew.
    heads: Vec<bool>,
}

/// What one subschema applies, by numbers of other ones.
#[derive(Default)]
struct Subschema {
    /// The work of its own keywords, in units.
    own: u64,
    /// At the same place.
    in_place: Vec<usize>,
    /// At the same place, where a property is there.
    dependent: Vec<(String, usize)>,
    /// What applies at the same place is looked at again for what it has left over.
    looks_again: bool,
    /// It leads to meta-schemas, which are not in the document.
    out: Vec<Part>,
    properties: HashMap<String, usize>,
    pattern_properties: Vec<(Pattern, usize)>,
    /// To properties that are not among those.
    other_properties: Vec<usize>,
    names: Option<usize>,
    first_items: Vec<usize>,
    /// To items after those.
    other_items: Vec<usize>,
    /// To all items.
    contains: Option<usize>,
    is_unique: bool,
    pattern: Option<Pattern>,
}

impl Subschema {
    /// Whether it is next to no work, whatever it is applied to.
    fn is_little(&self) -> bool {
        let applies = [&self.in_place, &self.other_properties, &self.first_items, &self.other_items];
        let applies_named = [self.dependent.is_empty(), self.properties.is_empty(), self.pattern_properties.is_empty()];
        applies.iter().all(|subschemas| subschemas.is_empty())
            && applies_named.iter().all(|is_empty| *is_empty)
            && self.out.is_empty()
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

    /// What applies at the same place, where that is `value`.
    fn here<'a>(&'a self, value: &'a Value) -> impl Iterator<Item = usize> + 'a {
        let has = |name: &String| value.get(name.as_str()).is_some();
        let dependent = self.dependent.iter().filter(move |(name, _)| has(name)).map(|(_, next)| *next);
        self.in_place.iter().copied().chain(dependent)
    }
}

impl Plan {
    /// With the schema that is to be compiled, whose checks can be stopped. The error says what is beyond a limit.
    pub(super) fn new(schema: &Value) -> Result<(Self, Value), String> {
        let (this, places) = build::plan(schema);
        if this.states() > MAX_STATES {
            return Err(format!("its patterns have more than {MAX_STATES} states, counted repetitions written out"));
        }
        let mut count = Count { plan: &this, sizes: vec![None; this.subschemas.len()], steps: 0 };
        for number in 0..this.subschemas.len() {
            count.in_place(number, &mut Vec::new())?;
        }
        let much = this.subschemas.iter().zip(places).filter(|(subschema, _)| !subschema.is_little());
        let schema = stop::with_looks(schema, &much.map(|(_, place)| place).collect());
        Ok((this, schema))
    }

    /// The states of all patterns.
    pub(super) fn states(&self) -> u64 {
        let named = self.subschemas.iter().flat_map(|subschema| &subschema.pattern_properties);
        let patterns = named.map(|(pattern, _)| *pattern).chain(self.subschemas.iter().filter_map(|it| it.pattern));
        patterns.fold(0, |sum, pattern| sum.saturating_add(pattern.size()))
    }

    /// Whether it takes no more than so much work to tell what is wrong with `params`, and where.
    pub(super) fn work(&self, params: &Value, most: Work) -> bool {
        // What is done elsewhere is reckoned roughly.
        if self.leads_out && most.units <= Work::LIGHT.units {
            return false;
        }
        self.reckon(params, most, &[], most.units > Work::LIGHT.units)
    }

    /// The same if only whether they are valid is asked for: then the library checks a value once against each subschema
    /// that references lead back to, however many ways lead there.
    pub(super) fn work_of_verdict(&self, params: &Value, most: Work) -> bool {
        self.reckon(params, most, &self.heads, true)
    }

    fn reckon(&self, params: &Value, most: Work, heads: &[bool], remembers: bool) -> bool {
        let known = HashMap::new();
        let mut reckoning = Reckoning { plan: self, left: most.units, heads, remembers, above: Vec::new(), known };
        reckoning.apply(0, params, Depth { all: most.depth, place: 0 }).is_some()
    }
}

/// Which subschemas are met again below themselves, in a walk from the first.
fn heads(subschemas: &[Subschema]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        None,
        Open,
        Done,
    }
    let (mut visits, mut heads) = (vec![Visit::None; subschemas.len()], vec![false; subschemas.len()]);
    for first in 0..subschemas.len() {
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = Some(first);
        loop {
            match next.take() {
                Some(number) if visits[number] == Visit::None => {
                    visits[number] = Visit::Open;
                    path.push((number, subschemas[number].all().collect()));
                }
                Some(number) => heads[number] |= visits[number] == Visit::Open,
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
    heads
}

/// A bound of the work of a check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Each takes some tens of nanoseconds, and half a microsecond at worst.
    pub(super) units: u64,
    /// How deep it recurses.
    pub(super) depth: usize,
}

impl Work {
    /// Some milliseconds, on any stack.
    pub(super) const LIGHT: Self = Self { units: 20_000, depth: 150 };
    /// Seconds as a rule: where one of several alternatives must fit, much less is done than is reckoned. What takes longer
    /// than anybody waits is stopped.
    pub(super) const HEAVY: Self = Self { units: 1_000_000_000, depth: 4_000 };
    /// What cannot be stopped: one keyword at one place.
    const ONE: u64 = 5_000_000;
}

/// Counts what applies at one place.
struct Count<'a> {
    plan: &'a Plan,
    /// How many there are below each, itself included, and how long a chain they make.
    sizes: Vec<Option<(u64, usize)>>,
    steps: u64,
}

impl Count<'_> {
    /// How many apply where `number` does, and in how long a chain; `above` lead here. One that leads to itself ends there.
    fn in_place(&mut self, number: usize, above: &mut Vec<usize>) -> Result<(u64, usize), String> {
        if let Some(size) = self.sizes[number] {
            return Ok(size);
        }
        if above.contains(&number) {
            return Ok((0, 0));
        }
        self.steps += 1;
        if self.steps > MAX_COUNTING {
            return Err("its references go in too many circles".into());
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
        let times = if subschema.looks_again { 2 } else { 1 };
        let counted = (size.saturating_mul(times).saturating_add(1), chain + 1);
        if counted.0 > MAX_IN_PLACE {
            return Err(format!("more than {MAX_IN_PLACE} subschemas apply at one place, references followed"));
        }
        // In a circle, what was counted depends on where it was entered.
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

/// Reckons the work of a check, until it is too much: then it is `None`.
struct Reckoning<'a> {
    plan: &'a Plan,
    left: u64,
    /// The subschemas that count once for each array and object; none if this is empty.
    heads: &'a [bool],
    remembers: bool,
    /// The subschemas that lead to the one that is applied.
    above: Vec<usize>,
    /// At most [`MAX_KNOWN`]. What was reckoned of a subschema and a value, and how deep there was to go then: what doubles at each level is
    /// reckoned once at each.
    known: HashMap<(usize, *const Value), (u64, usize)>,
}

impl Reckoning<'_> {
    fn spend(&mut self, units: u64) -> Option<()> {
        self.left = self.left.checked_sub(units)?;
        Some(())
    }

    /// The same for what cannot be stopped.
    fn spend_at_once(&mut self, units: u64) -> Option<()> {
        if units > Work::ONE { None } else { self.spend(units) }
    }

    fn apply(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        stop::look();
        // In a circle at one place, the check ends as well.
        if self.above[depth.place..].contains(&number) {
            return Some(());
        }
        if self.heads.get(number) == Some(&true) && (value.is_array() || value.is_object()) {
            return self.apply_head(number, value, depth);
        }
        if !self.remembers || self.above.len() > depth.place || !has_levels(value) {
            return self.apply_anew(number, value, depth);
        }
        let key = (number, std::ptr::from_ref(value));
        if let Some((units, room)) = self.known.get(&key).copied()
            && depth.all >= room
        {
            return self.spend(units);
        }
        let before = self.left;
        self.apply_anew(number, value, depth)?;
        self.remember(key, (before - self.left, depth.all));
        Some(())
    }

    /// Where references lead back to: what is known, or under way, is not checked again.
    fn apply_head(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        let key = (number, std::ptr::from_ref(value));
        if self.known.get(&key).is_some_and(|(_, room)| depth.all >= *room) {
            return self.spend(1);
        }
        self.remember(key, (1, depth.all));
        self.apply_anew(number, value, depth)
    }

    fn remember(&mut self, key: (usize, *const Value), known: (u64, usize)) {
        if self.known.len() < MAX_KNOWN {
            self.known.insert(key, known);
        }
    }

    fn apply_anew(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        let plan = self.plan;
        let subschema = &plan.subschemas[number];
        self.spend(1 + subschema.own)?;
        let here = Depth { all: depth.all.checked_sub(1)?, ..depth };
        self.above.push(number);
        for next in subschema.here(value) {
            self.apply(next, value, here)?;
            if subschema.looks_again {
                self.look_again(next, value, here)?;
            }
        }
        let below = Depth { place: self.above.len(), ..here };
        for part in &subschema.out {
            self.spend(64 * parts(value))?;
            for schema in part.schemas(value).into_iter().filter(|_| !plan.dynamic.is_empty()) {
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

    /// Which items or fields are left over by what applies at the same place is looked at by each of those for all of them,
    /// if it fits.
    fn look_again(&mut self, number: usize, value: &Value, depth: Depth) -> Option<()> {
        if self.above[depth.place..].contains(&number) {
            return Some(());
        }
        let subschema = &self.plan.subschemas[number];
        let here = Depth { all: depth.all.checked_sub(1)?, ..depth };
        self.above.push(number);
        let below = Depth { place: self.above.len(), ..here };
        for item in value.as_array().into_iter().flatten() {
            self.spend(1)?;
            let others = subschema.other_items.iter().filter(|_| subschema.looks_again);
            subschema.contains.iter().chain(others).try_for_each(|next| self.apply(*next, item, below))?;
        }
        for (name, field) in value.as_object().into_iter().flatten() {
            self.spend(1)?;
            subschema.pattern_properties.iter().try_for_each(|(pattern, _)| self.spend(pattern.work(name.len())))?;
            let mut others = subschema.other_properties.iter().filter(|_| subschema.looks_again);
            others.try_for_each(|next| self.apply(*next, field, below))?;
        }
        for next in subschema.here(value) {
            self.apply(next, value, here)?;
            self.look_again(next, value, here)?;
        }
        self.above.pop();
        Some(())
    }

    fn text(&mut self, subschema: &Subschema, text: &str) -> Option<()> {
        self.spend((text.len() / BYTES) as u64)?;
        subschema.pattern.map_or(Some(()), |pattern| self.spend_at_once(pattern.work(text.len())))
    }

    fn items(&mut self, subschema: &Subschema, items: &[Value], below: Depth) -> Option<()> {
        if subschema.is_unique {
            // They are told apart by hashes, which are the same for some.
            let alike = items.iter().filter(|item| is_hashed_badly(item, 0)).count() as u64;
            let parts: u64 = items.iter().map(parts).sum();
            self.spend_at_once(parts.saturating_mul(4).saturating_add(alike.saturating_mul(alike) / 8))?;
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
            // Nothing but the named ones.
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
                self.spend_at_once(pattern.work(name.len()))?;
                self.apply(*next, field, below)?;
            }
            if let Some(next) = subschema.names {
                self.apply(next, &Value::String(name.clone()), below)?;
            }
        }
        Some(())
    }
}

/// Whether there are arrays or objects in it, by its first parts.
fn has_levels(value: &Value) -> bool {
    const FIRST: usize = 8;
    let is_level = |part: &Value| part.is_array() || part.is_object();
    match value {
        Value::Array(items) => items.iter().take(FIRST).any(is_level),
        Value::Object(fields) => fields.values().take(FIRST).any(is_level),
        _ => false,
    }
}

/// The values in a value, and the bytes of its texts by units.
fn parts(value: &Value) -> u64 {
    match value {
        Value::String(text) => 1 + (text.len() / BYTES) as u64,
        Value::Array(items) => 1 + items.iter().map(parts).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(parts).sum::<u64>(),
        _ => 1,
    }
}

/// Whether others that differ may have its hash: long numbers that round alike, and arrays that differ by their brackets.
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
