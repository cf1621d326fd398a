//! Everything a running member writes durably goes through one thread, so that a slow or hung disk holds up neither
//! the runtime nor what has nothing to do with it.
//!
//! [`Storage`] is the thread with its bounded queue; requests are done one after another, in the order in which they
//! were made. [`Disk`] measures every sync, says whether the disk is slow or hangs, and delays syncs in drills.

pub mod disk;
pub(crate) mod files;
pub mod thread;

pub use disk::{Disk, DiskReading};
pub use thread::{Storage, StorageError};
