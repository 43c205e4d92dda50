//! Engines in memory: what they answer to their gates.

use std::collections::BTreeMap;

use sheaf_gate::{Changed, EngineCall, EngineReply, Page, Scanned, Select, Write};
use sheaf_types::{CollectionId, PointId, StoredPoint};

use super::Node;

#[derive(Default)]
pub struct Engine {
    pub points: BTreeMap<(CollectionId, PointId), StoredPoint>,
    /// It takes none of the points that come.
    pub refuses: bool,
}

impl Node {
    pub fn call(&mut self, call: EngineCall) -> EngineReply {
        match call {
            EngineCall::CreateCollection { id, config } => {
                self.collections.push(id);
                self.configs.insert(id, config);
                EngineReply::Done
            }
            EngineCall::DropCollection { id } => {
                self.collections.retain(|known| *known != id);
                self.engine.points.retain(|key, _| key.0 != id);
                EngineReply::Done
            }
            EngineCall::Scan(_) | EngineCall::Read { .. } if self.failing_reads > 0 => {
                self.failing_reads -= 1;
                EngineReply::Failed { reason: "the disk doesn't answer".to_owned() }
            }
            EngineCall::Scan(scan) => {
                let page = self.scan(&scan);
                self.scans.push((scan.after, page.points.len()));
                EngineReply::Page(page)
            }
            EngineCall::Read { collection, ids } => EngineReply::Points(
                ids.into_iter()
                    .map(|id| self.engine.points.get(&(collection, id)).cloned())
                    .collect(),
            ),
            EngineCall::Apply { .. } if self.engine.refuses => {
                EngineReply::CannotHold { reason: "it is too large".to_owned() }
            }
            EngineCall::Apply { collection, writes } => EngineReply::Applied(
                writes.into_iter().map(|write| self.apply(collection, write)).collect(),
            ),
        }
    }

    fn apply(&mut self, collection: CollectionId, write: Write) -> Changed {
        let (old, new) = match write {
            Write::Upsert(point) => {
                let new = Some(point.hash);
                (self.engine.points.insert((collection, point.id.clone()), point), new)
            }
            Write::Delete(id) => (self.engine.points.remove(&(collection, id)), None),
        };
        Changed { old: old.map(|point| point.hash), new }
    }

    fn scan(&self, scan: &sheaf_gate::Scan) -> Page {
        let selected = |id: &PointId| match &scan.select {
            Select::Moving { moves, mv } => moves.of(id.placement_key()) == Some(*mv),
            Select::Foreign { map, me } => map.owner(id.placement_key()) != Some(*me),
        };
        let mut page = Page::default();
        for ((collection, id), point) in &self.engine.points {
            let inside = *collection == scan.collection
                && scan.after.as_ref().is_none_or(|after| id > after)
                && scan.through.as_ref().is_none_or(|through| id <= through);
            if !inside || !selected(id) {
                continue;
            }
            page.points.push(Scanned {
                id: id.clone(),
                hash: point.hash,
                point: scan.bodies.then(|| point.clone()),
            });
            // Small pages, so that passes have many ranges.
            if page.points.len() >= 3 {
                page.looked_through = Some(id.clone());
                break;
            }
        }
        page
    }
}
