//! The gate's core, with engines in memory, through transitions that are driven by hand. Runs no coordinator and no shell.

mod adoption;
mod bounds;
mod rivals;
mod transition;
mod world;
