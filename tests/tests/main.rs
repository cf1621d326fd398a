//! Cross-package tests, one module for each of the specification's eight phases.

mod basic;
mod blockchain;
mod chaos;
mod health;
mod integration;
mod load;
mod shutdown;
mod supervision;
