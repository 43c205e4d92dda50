//! Digests: equal contents have equal digests, in any order of insertion.

use std::fmt;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::{CollectionId, PointId};

/// 128-bit XXH3 of a point: its collection, id and body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointHash(pub u128);

impl PointHash {
    /// The hash of the point `id` with the encoded `body` (see [`crate::PointBody`]).
    pub fn of(collection: CollectionId, id: &PointId, body: &[u8]) -> Self {
        let mut hasher = XxHash3_128::with_seed(collection.0);
        hasher.write(&(id.as_str().len() as u64).to_le_bytes());
        hasher.write(id.as_str().as_bytes());
        hasher.write(body);
        Self(hasher.finish_128())
    }
}

impl fmt::Debug for PointHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Count and wrapping sum of the hashes of a set of points: a point can be added and taken out again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest {
    pub points: u64,
    #[serde(with = "hex128")]
    pub sum: u128,
}

impl Digest {
    /// The digest of these hashes.
    pub fn of<'a>(hashes: impl IntoIterator<Item = &'a PointHash>) -> Self {
        let mut digest = Self::default();
        for hash in hashes {
            digest.add(*hash);
        }
        digest
    }

    /// Adds a point. `points` wraps back when more was taken out before, see [`Digest::take`].
    pub fn add(&mut self, hash: PointHash) {
        self.points = self.points.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash.0);
    }

    /// Takes out a point that was added before.
    ///
    /// `points` wraps when more is taken out than was added: a digest is compared, never trusted, and
    /// two sides that disagree must be able to say so.
    pub fn take(&mut self, hash: PointHash) {
        self.points = self.points.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash.0);
    }

    /// This digest with a part of the set taken out; wraps as [`Digest::take`] does.
    #[must_use]
    pub fn minus(self, part: Self) -> Self {
        Self { points: self.points.wrapping_sub(part.points), sum: self.sum.wrapping_sub(part.sum) }
    }

    /// The digest of both sets together; they must be disjoint.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            points: self.points.wrapping_add(other.points),
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.points, self.sum)
    }
}

/// JSON has no 128-bit numbers: hexadecimal text instead.
mod hex128 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_does_not_depend_on_order_and_forgets_what_is_taken_out() {
        let hash = |n: u64| PointHash::of(CollectionId(1), &PointId::from(n.to_string()), b"x");
        let forwards = Digest::of(&[hash(1), hash(2), hash(3)]);
        let mut backwards = Digest::of(&[hash(3), hash(9), hash(2), hash(1)]);
        assert_ne!(forwards, backwards);
        backwards.take(hash(9));
        assert_eq!(forwards, backwards);
    }

    #[test]
    fn a_hash_tells_apart_collection_id_and_body_and_where_they_meet() {
        let of =
            |c, id: &str, body: &[u8]| PointHash::of(CollectionId(c), &PointId::from(id), body);
        assert_ne!(of(1, "a", b"bc"), of(1, "ab", b"c"));
        assert_ne!(of(1, "a", b"b"), of(2, "a", b"b"));
        assert_ne!(of(1, "", b"a"), of(1, "a", b""));
    }
}
