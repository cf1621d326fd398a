//! Fixtures of the supervision bench: the pure core with children that fail in turn ([`core`]), the same actor
//! under a real supervisor and under bare ractor ([`tree`]), and what thousands of them weigh ([`census`]).

pub mod census;
pub mod core;
pub mod tree;
