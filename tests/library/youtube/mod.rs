//! The handlers that read YouTube, against a stand-in of its API on a real socket, which is strict about what it is
//! asked.

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
