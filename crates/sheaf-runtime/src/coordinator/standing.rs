//! How this coordinator stands among the others: what is shown to people, and where what it can't decide is sent.

use serde::{Deserialize, Serialize};

/// What a coordinator says of itself to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Drawn at its start: no other process has it.
    pub name: String,
    /// Where it is reached.
    pub url: String,
    /// Of its program.
    pub version: String,
}

/// Who leads, as far as this coordinator knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// This coordinator decides.
    pub leads: bool,
    /// `None`: nobody does, or it isn't known.
    pub leader: Option<Peer>,
    /// The others, in the order in which they would follow.
    pub followers: Vec<Peer>,
    pub store: StoreHealth,
}

/// The store, as it answered last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreHealth {
    /// What kind of store: `file`, `etcd`.
    pub kind: &'static str,
    /// Why it can't be used; `None`: it can.
    pub trouble: Option<String>,
}

impl Standing {
    /// Nothing is known yet.
    pub fn unknown(kind: &'static str) -> Self {
        let store = StoreHealth { kind, trouble: Some("it was not asked yet".to_owned()) };
        Self { leads: false, leader: None, followers: Vec::new(), store }
    }

    /// The only coordinator of its store.
    pub fn alone(kind: &'static str, me: Peer) -> Self {
        let store = StoreHealth { kind, trouble: None };
        Self { leads: true, leader: Some(me), followers: Vec::new(), store }
    }
}
