//! A router's public API over a small cluster in memory. Time is paused: nothing here waits.

mod catalogue;
mod cluster;
mod errors;
mod points;
mod searches;
