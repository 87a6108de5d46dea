//! The promise of delivery, tried: kills, outages, lost answers and lost claims, through the real binary.

mod again;
mod batch_faults;
mod batch_kills;
mod breaker;
mod connections;
mod kills;
mod lost_claims;
mod outages;
mod overlaps;
mod recovery;
mod refusals;
mod server_kills;
