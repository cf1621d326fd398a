//! Which start of this member on its data directory this is.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use alys_cluster::id::Incarnation;

use crate::consensus::guard::sync_directory;

/// Counts a start: reads the last incarnation, writes the next durably, and returns it. A directory without
/// the file has had none.
pub fn next(data_dir: &Path) -> io::Result<Incarnation> {
    let path = data_dir.join("incarnation");
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().map_err(|_| {
            let reason = format!("{} holds {:?}; expected a number", path.display(), text.trim());
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let new_path = path.with_extension("new");
    let mut file = fs::File::create(&new_path)?;
    writeln!(file, "{}", last + 1)?;
    file.sync_all()?;
    fs::rename(&new_path, &path)?;
    sync_directory(&path)?;
    Ok(Incarnation(last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_and_garbage_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(next(dir.path()).expect("first"), Incarnation(1));
        assert_eq!(next(dir.path()).expect("second"), Incarnation(2));
        fs::write(dir.path().join("incarnation"), "many").expect("writes");
        let error = next(dir.path()).expect_err("garbage").to_string();
        assert!(error.contains("\"many\"; expected a number"), "{error}");
    }
}
