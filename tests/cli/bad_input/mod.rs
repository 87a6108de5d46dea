//! How `prismq` meets what is wrong: servers, arguments, files, disks and handlers. Each time the right exit code, one
//! clear line, no panic, and nothing lost.

mod answers;
mod arguments;
mod disk;
mod files;
mod handlers;
mod settings;
mod values;
mod written;
