//! Invalid servers, arguments, files, disks and handlers: each gives the right exit code and one clear line, without a
//! panic or loss of data.

mod answers;
mod arguments;
mod disk;
mod files;
mod handlers;
mod settings;
mod values;
mod written;
