//! End-to-end tests on real processes; each module is one promise. They need the built binary, see `sheaf_tests::binary`.
//!
//! Every test starts its own cluster, is bounded, and ends what it started.

mod kills;
mod load_while_changing;
mod stale_routers;
