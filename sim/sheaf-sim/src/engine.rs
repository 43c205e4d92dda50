//! A model of an engine: what it has answered is durable; what was under way at a crash may or may not have been applied.
//!
//! A client's write of unknown outcome may be applied later, but never after another write of the same id (the adapter's
//! barrier), and never after a restart. Decides nothing about maps.

use std::collections::BTreeMap;

use sheaf_checkers::{PointAt, Stamp};
use sheaf_gate::{Changed, EngineCall, EngineReply, Page, Scan, Scanned, Select, Write};
use sheaf_types::{CollectionId, PlacementKey, PointBody, PointId, StoredPoint};

/// A change that the engine made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub point: PointAt,
    pub before: Option<Stamp>,
    pub after: Option<Stamp>,
}

#[derive(Clone, Debug, Hash)]
struct Cell {
    stored: StoredPoint,
    stamp: Stamp,
    /// Of the id: every search asks whose it is.
    key: PlacementKey,
}

/// The contents of one node's engine, on its disk.
#[derive(Clone, Debug, Default, Hash)]
pub struct Engine {
    collections: BTreeMap<CollectionId, BTreeMap<PointId, Cell>>,
    /// Writes of unknown outcome that may still be applied.
    late: BTreeMap<PointAt, Write>,
    /// Points of collections that nobody has taken over yet, by the collection's name.
    found: BTreeMap<String, BTreeMap<PointId, Stamp>>,
}

/// The body of a point that a client writes: the stamp names the write.
pub fn body_of(stamp: Stamp) -> PointBody {
    PointBody::encode(&[0.0], Some(&stamp.to_string()))
}

/// The stamp in a body that [`body_of`] made; 0 for any other.
pub fn stamp_of(body: &PointBody) -> Stamp {
    body.payload().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Engine {
    pub fn collections(&self) -> Vec<CollectionId> {
        self.collections.keys().copied().collect()
    }

    pub fn points(&self) -> u64 {
        let own: usize = self.collections.values().map(BTreeMap::len).sum();
        let found: usize = self.found.values().map(BTreeMap::len).sum();
        (own + found) as u64
    }

    /// Has a point from before Sheaf.
    pub fn put_found(&mut self, name: &str, id: PointId, stamp: Stamp) {
        self.found.entry(name.to_owned()).or_default().insert(id, stamp);
    }

    /// Makes what is there under a collection's name that collection, in place.
    pub fn take_over(&mut self, id: CollectionId, name: &str) -> Vec<Change> {
        let found = self.found.remove(name).unwrap_or_default();
        let stored = |(point, stamp)| Write::Upsert(StoredPoint::new(id, point, body_of(stamp)));
        let writes = found.into_iter().map(stored).collect();
        self.collections.entry(id).or_default();
        self.apply(id, writes).0
    }

    pub fn contents(&self) -> impl Iterator<Item = (PointAt, Stamp)> + '_ {
        self.collections.iter().flat_map(|(collection, points)| {
            let at = |id: &PointId| PointAt { collection: *collection, id: id.clone() };
            points.iter().map(move |(id, cell)| (at(id), cell.stamp))
        })
    }

    /// The first point that `accept` takes.
    pub fn find(
        &self,
        accept: impl Fn(CollectionId, PlacementKey) -> bool,
    ) -> Option<(PointAt, Stamp)> {
        let cells = self.collections.iter().flat_map(|(collection, points)| {
            points.iter().map(move |(id, cell)| (*collection, id, cell))
        });
        let mut found = cells.filter(|(collection, _, cell)| accept(*collection, cell.key));
        let (collection, id, cell) = found.next()?;
        Some((PointAt { collection, id: id.clone() }, cell.stamp))
    }

    /// Points that a write of unknown outcome may still change.
    pub fn unsettled(&self) -> impl Iterator<Item = &PointAt> {
        self.late.keys()
    }

    pub fn has(&self, collection: CollectionId) -> bool {
        self.collections.contains_key(&collection)
    }

    pub fn get(&self, collection: CollectionId, id: &PointId) -> Option<Stamp> {
        self.collections.get(&collection)?.get(id).map(|cell| cell.stamp)
    }

    /// Every point of the collection that `accept` takes.
    pub fn gather(
        &self,
        collection: CollectionId,
        accept: impl Fn(PlacementKey) -> bool,
    ) -> Vec<(PointId, Stamp)> {
        let points = self.collections.get(&collection).into_iter().flatten();
        points
            .filter(|(_, cell)| accept(cell.key))
            .map(|(id, cell)| (id.clone(), cell.stamp))
            .collect()
    }

    /// Has the writes applied later, or never.
    pub fn delay(&mut self, collection: CollectionId, writes: Vec<Write>) {
        for write in writes {
            let id = id_of(&write).clone();
            self.late.insert(PointAt { collection, id }, write);
        }
    }

    /// Ends the doubt about a point: what was late is applied now, or never.
    pub fn settle(&mut self, point: &PointAt, apply: bool) -> Option<Change> {
        let write = self.late.remove(point)?;
        if !apply || !self.has(point.collection) {
            return None;
        }
        self.write(point.collection, write).map(|(change, _)| change)
    }

    /// Applies writes in order.
    pub fn apply(
        &mut self,
        collection: CollectionId,
        writes: Vec<Write>,
    ) -> (Vec<Change>, Vec<Changed>) {
        writes.into_iter().filter_map(|write| self.write(collection, write)).unzip()
    }

    fn write(&mut self, collection: CollectionId, write: Write) -> Option<(Change, Changed)> {
        let points = self.collections.get_mut(&collection)?;
        let id = id_of(&write).clone();
        let brief = |cell: &Cell| (cell.stored.hash, cell.stamp);
        let (before, after) = match write {
            Write::Upsert(stored) => {
                let key = id.placement_key();
                let cell = Cell { stamp: stamp_of(&stored.body), stored, key };
                let after = brief(&cell);
                let before = match points.get_mut(&id) {
                    Some(known) => Some(brief(&std::mem::replace(known, cell))),
                    None => {
                        points.insert(id.clone(), cell);
                        None
                    }
                };
                (before, Some(after))
            }
            Write::Delete(_) => (points.remove(&id).as_ref().map(brief), None),
        };
        let changed =
            Changed { old: before.map(|(hash, _)| hash), new: after.map(|(hash, _)| hash) };
        let point = PointAt { collection, id };
        let (before, after) = (before.map(|(_, stamp)| stamp), after.map(|(_, stamp)| stamp));
        Some((Change { point, before, after }, changed))
    }

    /// Carries out a call of the gate's core. Pages end after `page_max` points.
    pub fn carry_out(&mut self, call: EngineCall, page_max: u64) -> (Vec<Change>, EngineReply) {
        match call {
            EngineCall::CreateCollection { id, .. } => {
                self.collections.entry(id).or_default();
                (Vec::new(), EngineReply::Done)
            }
            EngineCall::DropCollection { id } => {
                self.collections.remove(&id);
                (Vec::new(), EngineReply::Done)
            }
            EngineCall::Scan(scan) => (Vec::new(), self.scan(&scan, page_max)),
            EngineCall::Read { collection, ids } => match self.collections.get(&collection) {
                Some(points) => {
                    let found = |id| points.get(id).map(|cell| cell.stored.clone());
                    (Vec::new(), EngineReply::Points(ids.iter().map(found).collect()))
                }
                None => (Vec::new(), EngineReply::NoCollection(collection)),
            },
            EngineCall::Apply { collection, writes } => {
                if !self.has(collection) {
                    return (Vec::new(), EngineReply::NoCollection(collection));
                }
                let (changes, changed) = self.apply(collection, writes);
                (changes, EngineReply::Applied(changed))
            }
        }
    }

    fn scan(&self, scan: &Scan, page_max: u64) -> EngineReply {
        let Some(points) = self.collections.get(&scan.collection) else {
            return EngineReply::NoCollection(scan.collection);
        };
        let selected = |key: PlacementKey| match &scan.select {
            Select::Moving { moves, mv } => moves.of(key) == Some(*mv),
            Select::Foreign { map, me } => map.owner(key) != Some(*me),
        };
        let points_max = (scan.points_max as u64).min(page_max).max(1);
        let mut page = Page::default();
        let mut looked_at = 0;
        for (id, cell) in points {
            if scan.after.as_ref().is_some_and(|after| id <= after) {
                continue;
            }
            if scan.through.as_ref().is_some_and(|through| id > through) {
                break;
            }
            if page.points.len() as u64 == points_max || looked_at == 8 * points_max {
                // More remains: the page covers what was looked at.
                return EngineReply::Page(page);
            }
            looked_at += 1;
            page.looked_through = Some(id.clone());
            if selected(cell.key) {
                let point = scan.bodies.then(|| cell.stored.clone());
                page.points.push(Scanned { id: id.clone(), hash: cell.stored.hash, point });
            }
        }
        page.looked_through = None;
        EngineReply::Page(page)
    }
}

/// The id that a write concerns.
pub fn id_of(write: &Write) -> &PointId {
    match write {
        Write::Upsert(stored) => &stored.id,
        Write::Delete(id) => id,
    }
}
