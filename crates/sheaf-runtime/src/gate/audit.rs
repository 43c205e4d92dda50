//! An audit: what a scan of everything finds, judged by one map. Reads past the core; decides nothing.

use std::collections::BTreeMap;

use sheaf_engines::{Accept, EngineError, Scan};
use sheaf_map::Map;
use sheaf_types::limits::CHECK_RANGE_POINTS_MAX;
use sheaf_types::{CollectionId, Digest, MapVersion, PointId, ShardId};

use super::GateHost;

/// Foreign ids that an audit names.
const FOREIGN_IDS_MAX: usize = 100;

/// What a gate holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The map by which points were judged.
    pub version: MapVersion,
    /// The owned points of each collection, by its name.
    pub owned: BTreeMap<String, Digest>,
    /// Points that the map gives to another shard: about to be swept, or about to be owned.
    pub foreign_points: u64,
    /// The first of them.
    pub foreign_ids: Vec<PointId>,
}

/// Why there is no audit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAudited {
    #[error("this node serves no shard, so no point is its own")]
    NotServing,
    #[error("the map changed while the points were counted; ask again")]
    MapChanged,
    #[error("the engine failed while the points were counted: {0}")]
    Engine(#[from] EngineError),
}

impl GateHost {
    /// Counts everything, page by page, while requests are served.
    ///
    /// # Errors
    /// See [`NotAudited`].
    pub async fn audit(&self) -> Result<Audit, NotAudited> {
        let report = self.report().await.map_err(|_| NotAudited::NotServing)?;
        let (Some(map), Some(me)) = (self.map(), report.shard) else {
            return Err(NotAudited::NotServing);
        };
        let version = map.version();
        let (owned, foreign_ids) = (BTreeMap::new(), Vec::new());
        let mut audit = Audit { version, owned, foreign_points: 0, foreign_ids };
        for collection in map.collections() {
            let digest = self.count_collection(&map, me, collection.id, &mut audit).await?;
            audit.owned.insert(collection.name().to_owned(), digest);
        }
        if self.map().is_none_or(|now| now.version() != version) {
            return Err(NotAudited::MapChanged);
        }
        Ok(audit)
    }

    async fn count_collection(
        &self,
        map: &Map,
        me: ShardId,
        collection: CollectionId,
        audit: &mut Audit,
    ) -> Result<Digest, EngineError> {
        let mut owned = Digest::default();
        let mut after = None;
        loop {
            let scan = Scan {
                after,
                through: None,
                points_max: CHECK_RANGE_POINTS_MAX,
                bytes_max: usize::MAX,
                bodies: false,
                accept: Accept::All,
                filter: None,
            };
            let page = self.engine().scan(collection, scan).await?;
            for point in page.points {
                if map.owner(point.id.placement_key()) == Some(me) {
                    owned.add(point.hash);
                    continue;
                }
                audit.foreign_points += 1;
                if audit.foreign_ids.len() < FOREIGN_IDS_MAX {
                    audit.foreign_ids.push(point.id);
                }
            }
            match page.looked_through {
                Some(id) => after = Some(id),
                None => return Ok(owned),
            }
        }
    }
}
