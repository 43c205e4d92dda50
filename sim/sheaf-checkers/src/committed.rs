//! The maps that were ever made current, as far as a checker was told. Judges nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_map::Map;
use sheaf_types::{MapVersion, PointId, ShardId};

use crate::fact::{Decided, Fact};

/// Every committed version and the newest stored state.
#[derive(Default)]
pub struct Committed {
    maps: BTreeMap<MapVersion, Arc<Map>>,
    latest: Option<Decided>,
}

impl Committed {
    /// Remembers what was stored. Call it before judging a fact, or after it to see the state before.
    pub fn learn(&mut self, fact: &Fact) {
        if let Fact::Stored { decided } = fact {
            self.maps.entry(decided.map.version()).or_insert_with(|| decided.map.clone());
            self.latest = Some((**decided).clone());
        }
    }

    pub fn latest(&self) -> Option<&Decided> {
        self.latest.as_ref()
    }

    pub fn current(&self) -> Option<&Arc<Map>> {
        self.latest.as_ref().map(|decided| &decided.map)
    }

    pub fn version(&self, version: MapVersion) -> Option<&Arc<Map>> {
        self.maps.get(&version)
    }

    /// Who owns the point under the current map.
    pub fn owner(&self, id: &PointId) -> Option<ShardId> {
        self.current()?.owner(id.placement_key())
    }
}
