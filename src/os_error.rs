//! Errors of the operating system for users: without numbers, and the same on every system.

use std::io::{self, ErrorKind};

/// Returns the text of `error`. Errors that are not the system's own keep theirs.
pub(crate) fn message(error: &io::Error) -> String {
    if error.get_ref().is_some() {
        return error.to_string();
    }
    let known = match error.kind() {
        ErrorKind::NotFound => "no such file or folder",
        ErrorKind::AlreadyExists => "a file of that name exists already",
        ErrorKind::NotADirectory => "a part of its path is not a folder",
        ErrorKind::IsADirectory => "it is a folder",
        ErrorKind::PermissionDenied => "permission denied",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        ErrorKind::StorageFull => "the disk is full",
        ErrorKind::QuotaExceeded => "the disk quota is used up",
        ErrorKind::FileTooLarge => "the file would be too large",
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::ConnectionReset => "the connection was reset",
        ErrorKind::ConnectionAborted => "the connection was aborted",
        ErrorKind::BrokenPipe => "the connection was closed",
        ErrorKind::AddrInUse => "the address is already in use",
        ErrorKind::AddrNotAvailable => "this machine does not have the address",
        ErrorKind::HostUnreachable => "no route to the host",
        ErrorKind::NetworkUnreachable => "the network is unreachable",
        ErrorKind::NetworkDown => "the network is down",
        ErrorKind::TimedOut => "timed out",
        _ => return without_number(error),
    };
    known.to_owned()
}

/// Returns the system's text for the middle of a sentence, without its number.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|code| format!(" (os error {code})")).unwrap_or_default();
    let text = text.strip_suffix(&number).unwrap_or(&text);
    // An acronym, such as `RPC`, is not changed.
    let is_word = text.chars().nth(1).is_some_and(char::is_lowercase);
    match text.chars().next() {
        Some(first) if is_word => first.to_lowercase().chain(text.chars().skip(1)).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_no_numbers() {
        for code in 1..134 {
            let message = message(&io::Error::from_raw_os_error(code));
            assert!(!message.is_empty() && !message.contains("os error"), "{code}: {message}");
        }
        assert_eq!(message(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), "connection refused");
        assert_eq!(message(&io::Error::from_raw_os_error(libc::ELOOP)), "too many levels of symbolic links");
    }

    #[test]
    fn other_errors_keep_their_message() {
        assert_eq!(message(&ErrorKind::IsADirectory.into()), "it is a folder");
        assert_eq!(message(&io::Error::other("it is longer than 1 MiB")), "it is longer than 1 MiB");
    }
}
