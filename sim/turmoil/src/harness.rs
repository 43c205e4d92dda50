//! What this harness is called, and what the parts know of it that another harness uses, too.

/// Its name, as in `cargo xtask sim NAME`.
pub const NAME: &str = "turmoil";
/// Whose events are those of the simulated network.
pub const NETWORK: &str = "turmoil";
/// Whether it was built so that all chance comes from the seed, and what is so if it wasn't.
pub const IS_SEEDED: bool = cfg!(tokio_unstable);
pub const NOT_SEEDED: &str =
    "built without --cfg tokio_unstable: tokio's random choices would not come from the seed";
/// Where its log lines come from.
pub const TARGET: &str = "sheaf_turmoil";
/// Simulated seconds in which a cluster without faults must be founded.
pub const SETUP_S_MAX: u64 = 60;

/// Where this shard's node is asked.
pub fn shard_url(number: u32) -> String {
    crate::net::url(&crate::operator::shard_name(number))
}
