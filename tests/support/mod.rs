//! Shared by tests: the real binary in a sandbox, a TaskManager and scripted servers, plain requests, recorded answers of
//! the published TaskManager, a clock that does not wait, and one that can be set.

#![allow(dead_code, unused_imports)] // every test binary uses a part of it

mod at_once;
mod clock;
mod exchange;
mod output_asserts;
mod ports;
mod prismq;
mod process;
mod promtool;
pub(crate) mod published;
mod recordings;
mod refusals;
mod rig;
mod rows;
mod server;
#[cfg(target_os = "linux")]
mod set_clock;
mod status_worker;
mod taskmanager;
mod wait;

pub(crate) use at_once::at_once;
pub(crate) use clock::FakeClock;
pub(crate) use exchange::{Exchange, exchange, send};
pub(crate) use output_asserts::{complains, complains_in_json, finds_nothing, says_once};
pub(crate) use ports::free_port;
pub(crate) use prismq::{Output, Prismq, Running, Sandbox, with_usual_signals};
pub(crate) use process::{assert_ends, is_alive, is_zombie, memory, pid_in, processes_in};
pub(crate) use promtool::promtool;
pub(crate) use recordings::{Body, Recording, recorded, recordings};
pub(crate) use refusals::Refusal;
pub(crate) use rig::{ANY, NOBODY, Rig, WORKER, cases, names_in, output, plain, plain_program, sandbox, type_found};
pub(crate) use rows::{read_rows, rows, without_moments, without_times};
pub(crate) use server::{Answer, Request, ScriptedServer};
#[cfg(target_os = "linux")]
pub(crate) use set_clock::{set_clock, with_clock};
pub(crate) use status_worker::StatusWorker;
pub(crate) use taskmanager::EmbeddedTaskManager;
pub(crate) use wait::wait_for;
