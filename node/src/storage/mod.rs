//! Runs everything that a running member writes durably on one thread, so that a slow or hanging disk blocks neither
//! the runtime nor anything unrelated.
//!
//! [`Storage`] is a handle to the thread and its bounded queue. Requests run one after another, in the order in which
//! they were made; only reads overtake while the disk is full and nothing is written. [`Disk`] measures every sync,
//! reports whether the disk is slow or hangs, and delays syncs for fault injection.

use std::time::Duration;

pub mod disk;
pub(crate) mod files;
pub(crate) mod overlay;
pub mod thread;

pub use disk::{Disk, DiskReading};
pub use thread::{Storage, StorageError};

/// Deadline for an actor to open its files, including the repair of a store that was not closed.
pub const OPEN_DEADLINE: Duration = Duration::from_mins(1);
