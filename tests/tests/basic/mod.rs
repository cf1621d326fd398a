//! Phase 1: actors, their registry, configuration, events and logs, and the rules that the sources keep.

mod configuration;
mod events;
mod exposure;
mod glossary;
mod layers;
mod logs;
mod registry;
