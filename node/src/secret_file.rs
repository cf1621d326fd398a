//! Files with secrets: only who may know them can reach them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// `O_NONBLOCK` of Linux.
const NONBLOCK: i32 = 0o4000;
/// The user whom nothing is kept from anyway.
const ROOT: u32 = 0;

/// Why a file with a secret is not read.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// It can not be opened, or is none.
    #[error("{what} file {path}: {source}")]
    File {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can reach it.
    #[error(
        "{what} file {path} has mode {mode:04o}; expected 0600, or 0440 where root owns it (run `chmod 600 {path}`, and \
         replace the {what} if others may have read it)"
    )]
    Mode {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is somebody else's, who could put another one there.
    #[error("{what} file {path} belongs to user {owner}; expected user {expected}, who runs this, or root")]
    Owner {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        expected: u32,
    },
}

/// Opens a file that holds a secret, such as a `key`, and must be this user's or root's if `is_own`. What is looked at is
/// what was opened: nobody can put another file there in between. A pipe that nobody writes to is refused and not waited
/// for.
pub(crate) fn open(what: &'static str, path: &Path, is_own: bool) -> Result<File, SecretFileError> {
    let failed = |source| SecretFileError::File { what, path: path.into(), source };
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("not a file")));
    }
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    let own = fs::metadata("/proc/self").map_err(failed)?.uid();
    if !is_private(mode, owner, own) {
        return Err(SecretFileError::Mode { what, path: path.into(), mode });
    }
    if is_own && owner != own && owner != ROOT {
        return Err(SecretFileError::Owner { what, path: path.into(), owner, expected: own });
    }
    Ok(file)
}

/// Whether nobody but the owner, the user `own` and root can reach a file. What an orchestrator mounts is root's, and the
/// group that may read it is the member's; who could write it could narrow its mode as well.
fn is_private(mode: u32, owner: u32, own: u32) -> bool {
    let is_mounted = owner == ROOT && (own != ROOT || mode & 0o222 == 0);
    match mode & 0o077 {
        0 => true,
        // Its group reads it, no more.
        0o040 => is_mounted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_reads_or_writes_a_secret() {
        let member = 1_000;
        for (mode, owner, own, private) in [
            (0o600, member, member, true),
            (0o400, ROOT, member, true),
            // As Kubernetes mounts a secret for the group of a pod.
            (0o440, ROOT, member, true),
            (0o640, ROOT, member, true),
            (0o440, ROOT, ROOT, true),
            (0o640, ROOT, ROOT, false),
            (0o640, member, member, false),
            (0o440, member, member, false),
            (0o460, ROOT, member, false),
            (0o444, ROOT, member, false),
            (0o450, ROOT, member, false),
            (0o604, ROOT, ROOT, false),
        ] {
            assert_eq!(is_private(mode, owner, own), private, "{mode:o} of {owner} for {own}");
        }
    }
}
