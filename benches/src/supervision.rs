//! Fixtures of the supervision bench: the pure core with children that fail in turn ([`core`]), the same worker under a
//! real supervisor and under bare ractor ([`tree`]), and the memory of thousands of workers ([`census`]).

pub mod census;
pub mod core;
pub mod tree;
