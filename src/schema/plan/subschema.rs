//! Subschemas: what each applies, how many apply at one place, and which lead back to themselves.

use std::collections::HashMap;

use serde_json::Value;

use super::meta::MetaSchema;
use crate::schema::pattern::Pattern;

/// Maximum number of subschemas that apply at one place in the params, including references.
const MAX_IN_PLACE: u64 = 10_000;
/// Maximum length of a chain of subschemas at one place.
const MAX_CHAIN: usize = 128;
/// Maximum number of steps for counting, since references may be circular.
const MAX_COUNTING: u64 = 2_000_000;

/// A subschema with the indices of the ones that it applies.
#[derive(Default)]
pub(super) struct Subschema {
    /// Work of its own keywords, in units.
    pub(super) own: u64,
    /// Applied to the same value.
    pub(super) in_place: Vec<usize>,
    /// Applied to the same value if a property exists.
    pub(super) dependent: Vec<(String, usize)>,
    /// Has `unevaluatedProperties` or `unevaluatedItems`, which evaluate the subschemas of the same value again.
    pub(super) has_unevaluated: bool,
    /// Referenced meta-schemas, which are not in the document.
    pub(super) meta_schemas: Vec<MetaSchema>,
    pub(super) properties: HashMap<String, usize>,
    pub(super) pattern_properties: Vec<(Pattern, usize)>,
    /// Applied to other properties.
    pub(super) other_properties: Vec<usize>,
    pub(super) names: Option<usize>,
    pub(super) first_items: Vec<usize>,
    /// Applied to items after `first_items`.
    pub(super) other_items: Vec<usize>,
    /// Applied to all items.
    pub(super) contains: Option<usize>,
    pub(super) is_unique: bool,
    pub(super) pattern: Option<Pattern>,
}

impl Subschema {
    /// Whether it takes almost no work for any value.
    pub(super) fn is_trivial(&self) -> bool {
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

    /// Returns all subschemas that it applies, to any value.
    fn all(&self) -> impl Iterator<Item = usize> + '_ {
        let lists = [&self.in_place, &self.other_properties, &self.first_items, &self.other_items];
        let named = self.dependent.iter().map(|(_, next)| next).chain(self.properties.values());
        let matching = self.pattern_properties.iter().map(|(_, next)| next);
        let single = self.names.iter().chain(&self.contains);
        lists.into_iter().flatten().chain(named).chain(matching).chain(single).copied()
    }

    /// Returns the subschemas that are applied to the same `value`.
    pub(super) fn same_value<'a>(&'a self, value: &'a Value) -> impl Iterator<Item = usize> + 'a {
        let has = |name: &String| value.get(name.as_str()).is_some();
        let dependent = self.dependent.iter().filter(move |(name, _)| has(name)).map(|(_, next)| *next);
        self.in_place.iter().copied().chain(dependent)
    }
}

/// Checks that not too many subschemas apply at one place.
pub(super) fn check_count(subschemas: &[Subschema]) -> Result<(), String> {
    let mut counter = SubschemaCounter { subschemas, sizes: vec![None; subschemas.len()], steps: 0 };
    (0..subschemas.len()).try_for_each(|number| counter.in_place(number, &mut Vec::new()).map(drop))
}

/// Counts the subschemas that apply at one place.
struct SubschemaCounter<'a> {
    subschemas: &'a [Subschema],
    /// For each subschema, how many it leads to, including itself, and the length of the longest chain.
    sizes: Vec<Option<(u64, usize)>>,
    steps: u64,
}

impl SubschemaCounter<'_> {
    /// Returns the number of subschemas that apply where `number` does, and the length of the longest chain. `above` are
    /// the subschemas that lead to it; circular references end the recursion.
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
        let subschema = &self.subschemas[number];
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
            return Err(format!("more than {MAX_IN_PLACE} subschemas apply at one place, with references resolved"));
        }
        // In a cycle, the count depends on where it was entered.
        if above.is_empty() || !subschema.in_place.iter().any(|next| above.contains(next)) {
            self.sizes[number] = Some(counted);
        }
        Ok(counted)
    }
}

/// Returns for each subschema whether a reference leads back to it, in a depth-first walk: each cycle has one.
pub(super) fn cycle_entries(subschemas: &[Subschema]) -> Vec<bool> {
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
