//! Files that people write: settings, keys, certificates, params. Read up to a bound, as UTF-8, without the byte order
//! mark that some editors put in front.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::os_error;
use crate::output::say;

/// The longest file of settings, in bytes: `.env`, `prismq.toml`, a key, certificates.
pub(crate) const MAX_SETTINGS: usize = 1 << 20;

const MARK: &[u8] = "\u{feff}".as_bytes();

/// After so long without an end of a pipe, a person wants to know what is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// What is in a file that somebody has named, which may be a pipe: `/dev/stdin`, or `<(…)` of a shell.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    if fs::metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
        return Err(io::Error::other("it is a socket"));
    }
    saying_what_it_waits_for(path, || read_bounded(File::open(path)?, max))
}

/// What is in a file that nobody has named, if it is there. Reading must not wait for anybody, so it has to be a regular
/// file; `/dev/null` is as good as none.
pub(crate) fn read_found(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() => {
            return Err(io::Error::other("it is a link to a file that does not exist"));
        }
        // Where one may not look, as in the home of another user, there is nothing to be found.
        Err(error) if NOT_THERE.contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(error),
    };
    if is_null(&metadata) {
        return Ok(None);
    }
    refuse_irregular(&metadata)?;
    // A pipe that has taken its place since is opened at once this way.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    refuse_irregular(&file.metadata()?)?;
    read_bounded(file, max).map(Some)
}

const NOT_THERE: [ErrorKind; 3] = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::PermissionDenied];

fn refuse_irregular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "folder",
        () if kind.is_fifo() => "named pipe",
        () if kind.is_socket() => "socket",
        () => "device",
    };
    Err(io::Error::other(format!("it is a {what}, not a regular file")))
}

/// Why a file cannot be read, without the system's number for it.
pub(crate) fn reason(error: &io::Error) -> String {
    if error.kind() == ErrorKind::NotFound { "no such file".to_owned() } else { os_error::words(error) }
}

/// The same for one that cannot be written.
pub(crate) fn unwritable(error: &io::Error) -> String {
    if error.kind() == ErrorKind::NotFound { "no such folder".to_owned() } else { reason(error) }
}

fn is_null(metadata: &Metadata) -> bool {
    let null = fs::metadata("/dev/null").map(|null| null.rdev());
    metadata.file_type().is_char_device() && null.is_ok_and(|null| null == metadata.rdev())
}

/// What `input` holds up to its end.
pub(crate) fn read_bounded(input: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!("it is longer than {} MiB", max >> 20)));
    }
    Ok(bytes)
}

/// What `read` returns. If that takes long, because `path` is a pipe or a terminal, says so on standard error.
pub(crate) fn saying_what_it_waits_for<T>(path: &Path, read: impl FnOnce() -> T) -> T {
    let kind = fs::metadata(path).map(|it| it.file_type());
    if !kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device()) {
        return read();
    }
    let (done, over) = channel::<()>();
    let shown = path.display().to_string();
    // Without a thread for it, nothing is said.
    let _ = thread::Builder::new().spawn(move || {
        if over.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
            say(format_args!("waiting for input from {shown}"));
        }
    });
    let read = read();
    drop(done);
    read
}

/// The text that `bytes` hold, without a byte order mark. The error is the end of a sentence that begins with what they
/// are.
pub(crate) fn utf_8(bytes: &[u8]) -> Result<&str, String> {
    if is_utf_16(bytes) {
        return Err("it is UTF-16 or UTF-32, not UTF-8".into());
    }
    std::str::from_utf8(without_mark(bytes)).map_err(|error| {
        format!("byte {} is not UTF-8", bytes.len() - without_mark(bytes).len() + error.valid_up_to() + 1)
    })
}

/// The same, with the line that the error is in.
pub(crate) fn utf_8_lines(bytes: &[u8]) -> Result<&str, (usize, String)> {
    utf_8(bytes).map_err(|problem| {
        let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        (bytes[..valid].split(|byte| *byte == b'\n').count(), problem)
    })
}

/// `bytes` without a byte order mark at their start.
pub(crate) fn without_mark(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(MARK) {
        bytes = rest;
    }
    bytes
}

/// Whether `bytes` are text in UTF-16 or UTF-32: they begin with its byte order mark, or with characters of ASCII that
/// take two or four bytes each.
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
    fn wide_characters_are_told_from_bytes() {
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
    fn a_mark_is_no_part_of_the_text() {
        assert_eq!(utf_8("\u{feff}\u{feff}a\u{feff}".as_bytes()), Ok("a\u{feff}"));
        assert_eq!(utf_8(b"\xef\xbb\xbfa\xff"), Err("byte 5 is not UTF-8".to_owned()));
    }
}
