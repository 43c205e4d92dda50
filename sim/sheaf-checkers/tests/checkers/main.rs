//! Every checker, told made-up facts: it fires where the promise is broken, and stays quiet where it isn't.
//!
//! A checker that never fires proves nothing. Runs no core.

mod clients;
mod cluster;
mod engines;
mod facts;
mod gates;
