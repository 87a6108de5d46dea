//! The handlers that read YouTube, against a stand-in of its API on a real socket, which is strict about what it is
//! asked.

#[path = "../support/mod.rs"]
mod support;

mod bench;
#[cfg(feature = "server")]
mod binary;
mod channel;
mod contract;
mod day;
mod quota;
mod resilience;
#[cfg(feature = "server")]
#[path = "../commands/rig.rs"]
mod rig;
mod search;
mod standin;
#[cfg(feature = "server")]
mod subtitles;
mod video;
