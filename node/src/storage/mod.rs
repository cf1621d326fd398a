//! Everything a running member writes durably goes through one thread, so that a slow or hung disk holds up neither
//! the runtime nor what has nothing to do with it.
//!
//! [`Storage`] is the thread with its bounded queue; requests are done one after another, in the order in which they
//! were made, but for reads while the disk is full, when nothing is written. [`Disk`] measures every sync, says whether the disk is slow or hangs, and delays syncs in drills.

use std::time::Duration;

pub mod disk;
pub(crate) mod files;
pub(crate) mod overlay;
pub mod thread;

pub use disk::{Disk, DiskReading};
pub use thread::{Storage, StorageError};

/// The longest that an actor may take to open its files, with the repair of a store that was not closed.
pub const OPEN_DEADLINE: Duration = Duration::from_mins(1);
