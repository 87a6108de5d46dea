//! `~` at the start of a path, for settings that no shell has seen.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

/// `path` with a home folder in place of `~` or `~user` at its start, as a shell would have it. `./~` stays what it is.
pub(crate) fn expand_home(path: &Path) -> Result<PathBuf, String> {
    let Some(rest) = path.as_os_str().as_bytes().strip_prefix(b"~") else {
        return Ok(path.to_owned());
    };
    let (user, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len()));
    let home = if user.is_empty() { own_home()? } else { home_of(user)? };
    // A second slash would make the rest absolute.
    let rest = Path::new(OsStr::from_bytes(rest));
    Ok(home.join(rest.strip_prefix("/").unwrap_or(rest)).components().collect())
}

fn own_home() -> Result<PathBuf, String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.or_else(|| User::from_uid(Uid::current()).ok().flatten().map(|user| user.dir))
        .ok_or_else(|| format!("cannot expand `~`: HOME is not set, and there is no user {}", Uid::current()))
}

fn home_of(user: &[u8]) -> Result<PathBuf, String> {
    let name = String::from_utf8_lossy(user);
    match User::from_name(&name) {
        Ok(Some(user)) => Ok(user.dir),
        Ok(None) => Err(format!("cannot expand `~{name}`: no such user {name:?} (./~{name} is a name)")),
        Err(error) => Err(format!("`~{name}` stands for no folder: cannot look up {name:?}: {error}")),
    }
}
