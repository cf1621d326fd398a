//! Persists the incarnation of this member: a number that grows with every start.
//!
//! The first incarnation of a data directory is the wall clock in seconds, so that a member with a replaced disk is
//! newer than the incarnation its peers remember. Each later incarnation is the previous one plus one, so that peers
//! can detect that a data directory is an older copy.

use std::fs;
use std::io;
use std::path::Path;

use alys_cluster::clock::WallTime;
use alys_cluster::id::Incarnation;

use crate::storage::files::replace;

/// Reads the last incarnation, durably writes the next one, and returns it.
pub fn next(data_dir: &Path, wall: WallTime) -> io::Result<Incarnation> {
    let path = data_dir.join("incarnation");
    let next = last(data_dir)?.map_or(wall.0 / 1_000, |last| last.0 + 1);
    replace(&path, format!("{next}\n").as_bytes())?;
    Ok(Incarnation(next))
}

/// Raises the stored incarnation to `known`, which peers have seen, so that the next start is later.
pub fn raise(data_dir: &Path, known: Incarnation) -> io::Result<()> {
    if last(data_dir)?.is_none_or(|last| last < known) {
        replace(&data_dir.join("incarnation"), format!("{known}\n").as_bytes())?;
    }
    Ok(())
}

/// Returns the last incarnation written, if any. It is less than `u64::MAX`, so the next one is representable.
pub fn last(data_dir: &Path) -> io::Result<Option<Incarnation>> {
    let path = data_dir.join("incarnation");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let last = text.trim().parse::<u64>().ok().filter(|last| *last < u64::MAX);
            last.map(|last| Some(Incarnation(last))).ok_or_else(|| {
                let reason = format!("{} holds {:?}; expected a number", path.display(), text.trim());
                io::Error::new(io::ErrorKind::InvalidData, reason)
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_from_the_wall_clock_and_garbage_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let wall = WallTime(1_800_000_000_000);
        assert_eq!(next(dir.path(), wall).expect("first"), Incarnation(1_800_000_000));
        assert_eq!(next(dir.path(), WallTime(0)).expect("second"), Incarnation(1_800_000_001));
        raise(dir.path(), Incarnation(1_800_000_009)).expect("told by peers");
        raise(dir.path(), Incarnation(7)).expect("no news");
        assert_eq!(next(dir.path(), wall).expect("third"), Incarnation(1_800_000_010));
        for garbage in ["many", "-1", &u64::MAX.to_string()] {
            fs::write(dir.path().join("incarnation"), garbage).expect("writes");
            let error = next(dir.path(), wall).expect_err("garbage").to_string();
            assert!(error.contains(garbage) && error.contains("expected a number"), "{error}");
        }
    }
}
