//! Commands of the command line, one module each, and code that several commands share.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod member;
pub(crate) mod memory;
pub(crate) mod shutdown;
pub(crate) mod status;
