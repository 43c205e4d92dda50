//! The coordinator's core in a world of its own: what it decides, stores, sends and answers. Runs no gate and no shell.

mod adoption;
mod catalogue;
mod leadership;
mod membership;
mod rivals;
mod scripts;
mod transition;
mod world;
