//! The only entropy. Cores are handed a seed or an id that was drawn here, once.

use sheaf_types::StoreId;

/// Bytes that nobody can foretell.
///
/// # Panics
/// The system has no entropy: a process that can't draw an id must not start.
#[expect(clippy::disallowed_methods, reason = "the one place that draws from the system")]
fn draw<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has no entropy to draw an id from");
    bytes
}

/// A seed for a generator.
pub fn seed() -> u64 {
    u64::from_le_bytes(draw())
}

/// 128 random bits as 32 hexadecimal digits: a name that no other draw gets.
pub fn name() -> String {
    format!("{:032x}", u128::from_le_bytes(draw()))
}

/// The name of a new data directory.
pub fn store_id() -> StoreId {
    StoreId::from(name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_32_digits_and_differ() {
        let (one, other) = (name(), name());
        assert_eq!((one.len(), other.len()), (32, 32));
        assert_ne!(one, other);
    }
}
