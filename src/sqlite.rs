//! What the results file and the embedded TaskManager's database have in common.

pub(crate) mod anchor;
