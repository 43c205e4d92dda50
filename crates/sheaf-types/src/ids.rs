//! Identifiers. Each is its own type, so that one can't be passed for another.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that follows.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number! {
    /// A shard of the cluster. Assigned once, never reused.
    ShardId, "s"
}
number! {
    /// A version of the map; strictly increasing.
    MapVersion, "v"
}
number! {
    /// The reign of one coordinator; it comes from the store and only grows.
    Term, "t"
}
number! {
    /// Counts the durable decisions of a coordinator; orders its directives within a term.
    Revision, "r"
}
number! {
    /// A transition between two maps. Never reused; 0 means "none yet".
    TransitionId, "x"
}
number! {
    /// One try at fencing a transition; raised durably before each fence.
    Attempt, "a"
}
number! {
    /// Raised at each start of a gate: equal incarnations mean that nothing in memory was lost.
    Incarnation, "i"
}
number! {
    /// A collection in the catalogue. Never reused: a name that is dropped and created again gets a new one.
    CollectionId, "c"
}

/// A number that only tells one thing from another of its kind. It is left out of hashes: two states that differ in such
/// numbers alone behave alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(pub u64);

impl Serial {
    /// This one; the next call returns the one that follows.
    pub fn take(&mut self) -> u64 {
        let taken = self.0;
        self.0 += 1;
        taken
    }
}

impl Hash for Serial {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text! {
    /// A cluster: drawn at random when its coordinator first starts.
    ClusterId
}
text! {
    /// A node's data directory: drawn at random when it is first used, kept for ever in it.
    StoreId
}
text! {
    /// The key of a point: any UTF-8 string, the empty one included.
    PointId
}

impl std::borrow::Borrow<str> for PointId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PointId {
    /// Where placement starts from: 64-bit FNV-1a of the id's UTF-8 bytes. Source: wire format of existing clusters.
    pub fn placement_key(&self) -> PlacementKey {
        PlacementKey::of(&self.0)
    }
}

/// The 64-bit FNV-1a hash of a point's id; all that placement needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlacementKey(pub u64);

impl PlacementKey {
    pub fn of(id: &str) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in id.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_keys_are_the_published_fnv_1a_values() {
        assert_eq!(PlacementKey::of(""), PlacementKey(0xcbf2_9ce4_8422_2325));
        assert_eq!(PlacementKey::of("hello"), PlacementKey(0xa430_d846_80aa_bd0b));
    }
}
