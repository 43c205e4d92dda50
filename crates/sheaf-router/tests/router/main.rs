//! What the router's core promises, tried through its only interface.

mod gathers;
mod merging;
mod points;
mod properties;
mod world;
