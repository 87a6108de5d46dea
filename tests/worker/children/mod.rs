//! What a worker's process owes its children and hides from them: in processes of their own, which can be killed.

mod binary;
mod group;
mod killed;
mod role;
mod secrecy;
