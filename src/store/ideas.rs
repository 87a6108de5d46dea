//! Ideas that handlers find: rows of the table `IdeaInspiration`, in the results file or in a database that is shared
//! with other programs.

mod database;
mod entry;
mod table;

pub(super) use database::IdeaDatabase;
pub(crate) use entry::check_ideas;
pub(super) use entry::{Idea, fill, ideas_of};
pub(super) use table::{exists, keep, recognise};
