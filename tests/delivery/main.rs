//! The promise of delivery, tried: kills, outages, lost answers and lost claims, through the real binary.
#![cfg(feature = "server")]

#[path = "../worker/published.rs"]
mod published;
#[path = "../worker/rig.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;

mod again;
mod breaker;
mod connections;
mod kills;
mod lost_claims;
mod outages;
mod overlaps;
mod recovery;
mod refusals;
