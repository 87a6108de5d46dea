//! Models which subschemas apply where, to estimate the work of a check before it runs.
//!
//! The estimate is an upper bound: it counts all branches of alternatives, and all patterns as if they matched.

mod build;
mod estimate;
mod meta;
mod subschema;

use serde_json::Value;

use self::estimate::WorkEstimate;
pub(super) use self::estimate::WorkLimit;
use self::subschema::Subschema;
use super::stop;

/// Maximum number of states of all patterns, with counted repetitions expanded. Each takes at most half a kilobyte.
const MAX_STATES: u64 = 500_000;

/// The subschemas of a schema. The first is the schema itself.
pub(super) struct Plan {
    subschemas: Vec<Subschema>,
    /// Possible targets of the dynamic references of meta-schemas.
    dynamic: Vec<usize>,
    /// Whether a reference leads to a meta-schema.
    uses_meta_schemas: bool,
    /// Whether the schema contains `anyOf` or `oneOf`.
    pub(super) has_alternatives: bool,
    /// For each subschema, whether references lead back to it; empty if the library may check those repeatedly.
    cycle_entries: Vec<bool>,
}

impl Plan {
    /// Creates the plan, and returns the schema to compile, with the keyword that makes checks stoppable. Fails if a limit is
    /// exceeded.
    pub(super) fn new(schema: &Value) -> Result<(Self, Value), String> {
        let (plan, pointers) = build::plan(schema);
        if plan.states() > MAX_STATES {
            return Err(format!("its patterns have more than {MAX_STATES} states, with counted repetitions expanded"));
        }
        subschema::check_count(&plan.subschemas)?;
        let costly = plan.subschemas.iter().zip(pointers).filter(|(subschema, _)| !subschema.is_trivial());
        let schema = stop::with_stop_keyword(schema, &costly.map(|(_, pointer)| pointer).collect());
        Ok((plan, schema))
    }

    /// Returns the number of states of all patterns.
    pub(super) fn states(&self) -> u64 {
        let named = self.subschemas.iter().flat_map(|subschema| &subschema.pattern_properties);
        let patterns = named.map(|(pattern, _)| *pattern).chain(self.subschemas.iter().filter_map(|it| it.pattern));
        patterns.fold(0, |sum, pattern| sum.saturating_add(pattern.size()))
    }

    /// Whether finding out what is wrong with `params`, and where, stays within `limit`.
    pub(super) fn work(&self, params: &Value, limit: WorkLimit) -> bool {
        let is_light = limit.units <= WorkLimit::LIGHT.units;
        // The estimate for meta-schemas is rough.
        if self.uses_meta_schemas && is_light {
            return false;
        }
        let mut estimate = WorkEstimate::new(&self.subschemas, &self.dynamic);
        estimate.is_caching = !is_light;
        estimate.fits(params, limit)
    }

    /// Whether finding out only if `params` are valid stays within `limit`. For that, the library checks a value once
    /// against each subschema to which references lead back, however many paths lead there.
    pub(super) fn work_of_validity(&self, params: &Value, limit: WorkLimit) -> bool {
        let mut estimate = WorkEstimate::new(&self.subschemas, &self.dynamic);
        estimate.cycle_entries = &self.cycle_entries;
        estimate.fits(params, limit)
    }
}
