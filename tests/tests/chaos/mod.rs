//! Phase 6: kills, hostile input, Byzantine members, damaged and slow disks.

mod byzantine;
mod disks;
mod fuzz;
mod hostile;
mod memory;
mod processes;
mod twins;
