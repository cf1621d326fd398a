//! Phase 8: the federation's gate, slots and signatures.

mod federation;
