//! How an id of any length becomes columns that an index of PostgreSQL can hold, in the order of bytes.
//!
//! An index takes 2,704 bytes a row, an id may have more. So `id` holds its first bytes, `id_rest` what follows (mostly
//! nothing), and `id_digest` tells long ids apart. `(id, id_rest)` orders like the whole id.

use sha2::{Digest, Sha256};
use sheaf_types::PointId;

/// Bytes of an id in the column `id`. With a digest it fits into an index.
const HEAD_BYTES_MAX: usize = 2_000;
const _: () = assert!(HEAD_BYTES_MAX + 32 + 64 < 2_704);

/// An id as columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    pub id: &'a [u8],
    pub rest: &'a [u8],
    /// SHA-256 of the whole id when there is a rest, else nothing.
    pub digest: Vec<u8>,
}

impl<'a> Key<'a> {
    pub fn of(id: &'a PointId) -> Self {
        let whole = id.as_str().as_bytes();
        match whole.split_at_checked(HEAD_BYTES_MAX) {
            Some((head, rest)) if !rest.is_empty() => {
                Self { id: head, rest, digest: Sha256::digest(whole).to_vec() }
            }
            _ => Self { id: whole, rest: &[], digest: Vec::new() },
        }
    }
}

/// The id that these columns hold; `None`: they hold none.
pub fn point_id(id: &[u8], rest: &[u8]) -> Option<PointId> {
    if rest.is_empty() {
        return std::str::from_utf8(id).ok().map(PointId::from);
    }
    String::from_utf8([id, rest].concat()).ok().map(PointId::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_hold_every_id_and_keep_the_order_of_bytes() {
        let long = "é".repeat(1_001);
        let ids = ["", "\0", "a", &long[..2_000], &long, &format!("{long}x"), "ê", "ê\u{10ffff}"]
            .map(PointId::from);
        let mut columns = Vec::new();
        for id in &ids {
            let key = Key::of(id);
            assert_eq!(point_id(key.id, key.rest).as_ref(), Some(id));
            assert_eq!(key.rest.is_empty(), key.digest.is_empty());
            columns.push((key.id, key.rest));
        }
        assert!(ids.is_sorted_by(|a, b| a < b), "the sample is in order");
        assert!(columns.is_sorted_by(|a, b| a < b));
        assert_eq!(point_id(&[0xff], &[]), None);
    }

    #[test]
    fn a_head_may_end_inside_a_letter() {
        let id = PointId::from(format!("x{}", "é".repeat(1_500)));
        let key = Key::of(&id);
        assert!(std::str::from_utf8(key.id).is_err());
        assert_eq!(point_id(key.id, key.rest), Some(id.clone()));
    }
}
