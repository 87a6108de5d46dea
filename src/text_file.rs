//! Reads files written by users (settings, keys, certificates, params) with a size limit, as UTF-8, without byte order
//! marks.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::os_error;
use crate::output::say;

/// Maximum size of `.env`, `prismq.toml`, keys and certificates, in bytes.
pub(crate) const MAX_SETTINGS: usize = 1 << 20;

const BOM: &[u8] = "\u{feff}".as_bytes();

/// How long to wait for the end of a pipe before a message is printed.
const MESSAGE_AFTER: Duration = Duration::from_secs(1);

/// Reads a file named by the user, which may be a pipe: `/dev/stdin`, or `<(…)` of a shell.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    if fs::metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
        return Err(io::Error::other("it is a socket"));
    }
    with_wait_message(path, || read_bounded(File::open(path)?, max))
}

/// Reads a file at a default path, if it exists. It must be a regular file, so that reading cannot block; `/dev/null`
/// counts as missing.
pub(crate) fn read_found(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() => {
            return Err(io::Error::other("it is a link to a file that does not exist"));
        }
        // Without permission, as in another user's home, the file counts as missing.
        Err(error) if NOT_THERE.contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(error),
    };
    if is_null(&metadata) {
        return Ok(None);
    }
    refuse_irregular(&metadata)?;
    // Opening does not block even if a pipe has replaced the file meanwhile.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    refuse_irregular(&file.metadata()?)?;
    read_bounded(file, max).map(Some)
}

const NOT_THERE: [ErrorKind; 3] = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::PermissionDenied];

fn refuse_irregular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "folder"
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    Err(io::Error::other(format!("it is a {what}, not a regular file")))
}

/// Returns why a file cannot be read, without the error number.
pub(crate) fn reason(error: &io::Error) -> String {
    if error.kind() == ErrorKind::NotFound { "no such file".to_owned() } else { os_error::message(error) }
}

/// Returns why a file cannot be written, without the error number.
pub(crate) fn unwritable(error: &io::Error) -> String {
    if error.kind() == ErrorKind::NotFound { "no such folder".to_owned() } else { reason(error) }
}

fn is_null(metadata: &Metadata) -> bool {
    let null = fs::metadata("/dev/null").map(|null| null.rdev());
    metadata.file_type().is_char_device() && null.is_ok_and(|null| null == metadata.rdev())
}

/// Reads `input` up to its end, at most `max` bytes.
pub(crate) fn read_bounded(input: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!("it is longer than {} MiB", max >> 20)));
    }
    Ok(bytes)
}

/// Runs `read`. If it takes long because `path` is a pipe or a terminal, prints a message to standard error.
pub(crate) fn with_wait_message<T>(path: &Path, read: impl FnOnce() -> T) -> T {
    let kind = fs::metadata(path).map(|it| it.file_type());
    if !kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device()) {
        return read();
    }
    let (done, over) = channel::<()>();
    let shown = path.display().to_string();
    // Without a thread, no message is printed.
    let _ = thread::Builder::new().spawn(move || {
        if over.recv_timeout(MESSAGE_AFTER) == Err(RecvTimeoutError::Timeout) {
            say(format_args!("waiting for input from {shown}"));
        }
    });
    let read = read();
    drop(done);
    read
}

/// Decodes UTF-8 without a byte order mark. The error completes a sentence whose subject is the file.
pub(crate) fn utf_8(bytes: &[u8]) -> Result<&str, String> {
    if is_utf_16(bytes) {
        return Err("it is UTF-16 or UTF-32, not UTF-8".into());
    }
    std::str::from_utf8(without_bom(bytes)).map_err(|error| {
        format!("byte {} is not UTF-8", bytes.len() - without_bom(bytes).len() + error.valid_up_to() + 1)
    })
}

/// Decodes UTF-8; the error includes the line number.
pub(crate) fn utf_8_lines(bytes: &[u8]) -> Result<&str, (usize, String)> {
    utf_8(bytes).map_err(|problem| {
        let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        (bytes[..valid].split(|byte| *byte == b'\n').count(), problem)
    })
}

/// Removes byte order marks at the start of `bytes`.
pub(crate) fn without_bom(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(BOM) {
        bytes = rest;
    }
    bytes
}

/// Whether `bytes` are UTF-16 or UTF-32: they start with a byte order mark, or with ASCII characters of two or four bytes.
pub(crate) fn is_utf_16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => {
            true
        }
        [a, 0] | [0, a] | [a, 0, 0, 0, ..] | [0, 0, 0, a, ..] => a.is_ascii() && *a != 0,
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] => a.is_ascii() && b.is_ascii() && *a != 0 && *b != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_16_and_utf_32_are_recognised() {
        for text in ["{}", "[1,2]", "\"x\"", "5", "A=1", "# a", "-----BEGIN", "\u{feff}é"] {
            let (mut le, mut be): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
            for unit in text.encode_utf16() {
                le.extend(unit.to_le_bytes());
                be.extend(unit.to_be_bytes());
            }
            let wider = |bytes: fn(u32) -> [u8; 4]| text.chars().flat_map(|it| bytes(it as u32)).collect::<Vec<_>>();
            for bytes in [le, be, wider(u32::to_le_bytes), wider(u32::to_be_bytes)] {
                assert!(is_utf_16(&bytes), "{bytes:?}");
                assert!(utf_8(&bytes).unwrap_err().contains("UTF-16"), "{bytes:?}");
            }
        }
        for bytes in
            [&b""[..], b"\0", b"a", b"ab", b"a\0b", b"\0abc", b"\0\0\0\0", b"ab\0\0", "é\0".as_bytes(), b"\xff"]
        {
            assert!(!is_utf_16(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn byte_order_marks_are_removed() {
        assert_eq!(utf_8("\u{feff}\u{feff}a\u{feff}".as_bytes()), Ok("a\u{feff}"));
        assert_eq!(utf_8(b"\xef\xbb\xbfa\xff"), Err("byte 5 is not UTF-8".to_owned()));
    }
}
