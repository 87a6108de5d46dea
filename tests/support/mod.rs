//! What tests share: the real binary in a sandbox, a scripted HTTP server, plain requests, recorded answers of the published
//! TaskManager, a clock that does not wait, and one that is set.

#![allow(dead_code, unused_imports)] // every test binary uses a part of it

mod at_once;
mod clock;
mod exchange;
mod ports;
mod prismq;
mod recordings;
mod server;
#[cfg(target_os = "linux")]
mod set_clock;

pub(crate) use at_once::at_once;
pub(crate) use clock::FakeClock;
pub(crate) use exchange::{Exchange, exchange, send};
pub(crate) use ports::free_port;
pub(crate) use prismq::{Output, Prismq, Running, Sandbox, wait_for, with_usual_signals};
pub(crate) use recordings::{Body, Recording, recorded, recordings};
pub(crate) use server::{Answer, Request, Server};
#[cfg(target_os = "linux")]
pub(crate) use set_clock::{set_clock, with_clock};
