//! Which start of this member this is: a number that only grows.
//!
//! The first on a data directory is the wall clock in seconds, so that a member whose disk was replaced is newer than what
//! its peers remember of it; each later one is the last plus one, so that peers see when a directory is an older copy.

use std::fs;
use std::io;
use std::path::Path;

use alys_cluster::clock::WallTime;
use alys_cluster::id::Incarnation;

use crate::storage::files::replace;

/// Counts a start: reads the last incarnation, writes the next durably, and returns it.
pub fn next(data_dir: &Path, wall: WallTime) -> io::Result<Incarnation> {
    let path = data_dir.join("incarnation");
    let next = last(data_dir)?.map_or(wall.0 / 1_000, |last| last.0 + 1);
    replace(&path, format!("{next}\n").as_bytes())?;
    Ok(Incarnation(next))
}

/// Peers know this start of the member: the next one is later.
pub fn raise(data_dir: &Path, known: Incarnation) -> io::Result<()> {
    if last(data_dir)?.is_none_or(|last| last < known) {
        replace(&data_dir.join("incarnation"), format!("{known}\n").as_bytes())?;
    }
    Ok(())
}

/// The last incarnation that was written down, if there was one. One more is a number too.
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
