//! What tests share: a scripted HTTP server, recorded answers of the published TaskManager, a clock that does not wait.

#![allow(dead_code)] // every test binary uses a part of it

mod clock;
mod recordings;
mod server;

pub(crate) use clock::FakeClock;
pub(crate) use recordings::{Body, Recording, recorded, recordings};
pub(crate) use server::{Answer, Request, Server};
