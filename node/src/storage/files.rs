//! Files that only this user reads and writes, whatever the umask, and that are there as a whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::disk::Room;

/// How a file is opened that is made if it is missing.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

/// Makes a directory, and those above it, unless it is there.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes an empty file unless there is one.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.sync_all().and_then(|()| sync_directory(path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a file that replaces the one at `path` at once. Gives it, locked, and open for appending.
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

/// Writes a new file, and refuses where there is one.
pub(crate) fn create_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    // A name that nobody can have made before, and that must not be there: neither its mode nor where it leads is another's.
    name.push(format!(".{:032x}.new", rand::random::<u128>()));
    let draft = path.with_file_name(name);
    let written = options().write(true).create_new(true).open(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, a second name for a file takes nobody's place; not every file system has such names.
        fs::hard_link(&draft, path)
            .or_else(|error| if path.exists() { Err(error) } else { fs::rename(&draft, path) })
    });
    // It is gone where it was renamed.
    let _ = fs::remove_file(&draft);
    written.and_then(|()| sync_directory(path))
}

/// Makes a rename or a new file in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// A new directory of a name that nobody can have made before, where nobody else looks; it is gone with this.
pub(crate) struct PrivateDirectory(pub(crate) PathBuf);

impl PrivateDirectory {
    /// Makes one where temporary files go.
    pub(crate) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("alys-{:032x}", rand::random::<u128>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // What can not be removed is the system's to clear, like all that is there.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The room on the file system of a directory, and what its files take; none if the system does not say.
pub(crate) fn room(directory: &Path) -> Option<Room> {
    let system = nix::sys::statvfs::statvfs(directory).ok()?;
    let size = |entry: io::Result<fs::DirEntry>| Some(entry.ok()?.metadata().ok()?.len());
    let data = fs::read_dir(directory).ok()?.filter_map(size).sum();
    Some(Room { free: system.blocks_available() * system.fragment_size(), data })
}
