//! What this harness is called, and what the parts know of it that it shares with turmoil's.

/// Its name, as in `cargo xtask sim NAME`.
pub const NAME: &str = "madsim";
/// Whose events are those of the simulated network.
pub const NETWORK: &str = "network";
/// Whether it was built so that all chance comes from the seed, and what is so if it wasn't.
pub const IS_SEEDED: bool = cfg!(madsim);
pub const NOT_SEEDED: &str =
    "built without --cfg madsim: nothing would be simulated, and nothing would come from the seed";
/// Where its log lines come from.
pub const TARGET: &str = "sheaf_madsim";
/// Simulated seconds in which a cluster without faults must be founded.
pub const SETUP_S_MAX: u64 = 120;

/// Where this shard's node is asked.
pub fn shard_url(number: u32) -> String {
    crate::place::url(&crate::place::shard_name(number))
}
