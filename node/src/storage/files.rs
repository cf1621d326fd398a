//! Writes files that only this user can access, whatever the umask, and that appear completely or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::disk::{Look, RESERVE_BYTES, Room};

/// Options for a file that is created if it is missing.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

/// Creates a directory and its parents, unless they exist.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates an empty file, unless there is one.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.sync_all().and_then(|()| sync_directory(path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a file that atomically replaces the one at `path`. Returns it, locked and open for appending.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let new_path = path.with_extension("new");
    let mut new = options().read(true).append(true).open(&new_path)?;
    new.set_len(0)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    new.try_lock()?;
    fs::rename(&new_path, path)?;
    sync_directory(path)?;
    Ok(new)
}

/// Writes a new file; fails if there is one.
pub(crate) fn create_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    // An unpredictable name that must not exist yet, so that nobody else chooses the file's mode or where it leads.
    name.push(format!(".{:032x}.new", rand::random::<u128>()));
    let draft = path.with_file_name(name);
    let written = options().write(true).create_new(true).open(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, a hard link does not replace an existing file; not every file system has hard links.
        fs::hard_link(&draft, path).or_else(|error| match fs::symlink_metadata(path) {
            Ok(_) if !path.exists() => {
                Err(io::Error::new(error.kind(), "a symbolic link that leads nowhere is there"))
            }
            Ok(_) => Err(error),
            Err(_) => fs::rename(&draft, path),
        })
    });
    // There is nothing to remove after a rename.
    let _ = fs::remove_file(&draft);
    written.and_then(|()| sync_directory(path))
}

/// Makes a rename or a new file in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Measures the space on the file system of a directory, and what its files use; `None` if the system does not say.
pub(crate) fn room(directory: &Path, look: Look) -> Option<Room> {
    let gone = Room { free: 0, data: 0, refused: Some(Errno::ENOENT as i32) };
    let system = match statvfs(directory) {
        Err(Errno::ENOENT) => return Some(gone),
        system => system.ok()?,
    };
    let size = |entry: io::Result<fs::DirEntry>| Some(entry.ok()?.metadata().ok()?.len());
    let sizes: Vec<_> = fs::read_dir(directory).ok()?.filter_map(size).collect();
    let free = system.blocks_available() * system.fragment_size();
    let is_tried = look == Look::Reserve && free >= RESERVE_BYTES;
    let refused = is_tried.then(|| reserve(directory, sizes.iter().max().copied().unwrap_or(0))).flatten();
    Some(Room { free, data: sizes.into_iter().sum(), refused })
}

/// A directory, identified by its inode: a directory that later appears at the same path is another one, whether it was
/// recreated or uncovered by an unmount.
pub(crate) struct Directory {
    path: PathBuf,
    id: (u64, u64),
}

impl Directory {
    /// The directory that is at `path` now.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { path: path.into(), id: (found.dev(), found.ino()) })
    }

    /// Like [`room`], but refuses space if another directory is at the path.
    pub(crate) fn room(&self, look: Look) -> Option<Room> {
        let is_another = |found: &fs::Metadata| (found.dev(), found.ino()) != self.id;
        if fs::metadata(&self.path).is_ok_and(|found| is_another(&found)) {
            return Some(Room { free: 0, data: 0, refused: Some(Errno::ESTALE as i32) });
        }
        room(&self.path, look)
    }
}

/// Error number with which the system refuses to allocate space behind the first `offset` bytes of an unnamed file,
/// which disappears with its descriptor. `None` also if the system supports no such files or allocations.
fn reserve(directory: &Path, offset: u64) -> Option<i32> {
    let file = OpenOptions::new().write(true).mode(0o600).custom_flags(nix::libc::O_TMPFILE).open(directory);
    let outcome = match file {
        Err(error) => Err(Errno::from_raw(error.raw_os_error()?)),
        Ok(file) => fallocate(file, FallocateFlags::empty(), offset as i64, RESERVE_BYTES as i64),
    };
    let refusals = [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG, Errno::EROFS, Errno::EIO, Errno::ENOENT];
    outcome.err().filter(|error| refusals.contains(error)).map(|error| error as i32)
}
