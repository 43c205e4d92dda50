//! Engines in front of real database servers: the conformance suite, and servers that are killed, frozen and cut off. Needs `quiver`.

mod quiver;
mod quiver_cluster;
mod quiver_failures;
