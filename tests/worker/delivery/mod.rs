//! The promise of delivery, tried: kills, outages, lost answers and lost claims, through the real binary.

mod again;
mod breaker;
mod connections;
mod kills;
mod lost_claims;
mod outages;
mod overlaps;
mod recovery;
mod refusals;
