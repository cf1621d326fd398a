//! Opens files with secrets, if only the users who may know the secret have access to them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// `O_NONBLOCK` on Linux.
const NONBLOCK: i32 = 0o4000;
/// User id of root, who has access to all files anyway.
const ROOT: u32 = 0;

/// Why a file with a secret is rejected.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The file cannot be opened, or is not a regular file.
    #[error("{what} file {path}: {source}")]
    File {
        /// Kind of secret.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Other users have access to the file.
    #[error(
        "{what} file {path} has mode {mode:04o}; expected 0600, or 0440 where root owns it (run `chmod 600 {path}`, and \
         replace the {what} if others may have read it)"
    )]
    Mode {
        /// Kind of secret.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// Another user owns the file and could replace its content.
    #[error("{what} file {path} belongs to user {owner}; expected user {expected}, who runs this, or root")]
    Owner {
        /// Kind of secret.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// User id of the owner.
        owner: u32,
        /// User id of the expected owner.
        expected: u32,
    },
}

/// Opens a file that holds a secret, such as a `key`; with `is_own` it must belong to this user or root. The checks
/// apply to the opened file, so it cannot be swapped in between. A named pipe without a writer is rejected instead of
/// waited for.
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

/// Whether only the owner, the user `own` and root have access to a file. A file that an orchestrator mounts belongs to
/// root and is readable by the member's group. If the owner could also write the file, it could restrict the mode
/// instead.
fn is_private(mode: u32, owner: u32, own: u32) -> bool {
    let is_mounted = owner == ROOT && (own != ROOT || mode & 0o222 == 0);
    match mode & 0o077 {
        0 => true,
        // The group can only read.
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
            // Mode of a secret that Kubernetes mounts for the group of a pod.
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
