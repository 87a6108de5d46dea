//! The handlers for YouTube, against a strict stand-in of its API on a real socket.

mod bench;
#[cfg(feature = "server")]
mod binary;
mod channel;
mod contract;
mod day;
mod quota;
mod resilience;
mod search;
mod standin;
#[cfg(feature = "server")]
mod subtitles;
mod video;
