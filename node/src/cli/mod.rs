//! Commands of the command line, a file each, and what several of them share.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod member;
pub(crate) mod memory;
pub(crate) mod shutdown;
pub(crate) mod status;
