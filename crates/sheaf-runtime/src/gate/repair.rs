//! The halves of a repair at one gate: which points are strays, and the insert of those that aren't there (ADR 0006).
//!
//! Reads strays past the core, which decides about inserts and discards.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_engines::{Accept, Scan, Write};
use sheaf_types::{PointBody, PointHash, PointId, StoredPoint};

use super::{GateHost, Go, NotAudited, NotServed, Request, Served};

/// Bytes of bodies in a page of strays.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A point that another shard owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Stray {
    pub id: PointId,
    pub body: PointBody,
}

/// A page of strays, in the order of ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strays {
    pub points: Vec<Stray>,
    /// Looked at everything up to this id; `None`: to the end.
    pub looked_through: Option<PointId>,
}

/// What an insert did with one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was not there, and is now.
    New,
    /// It was there, equal.
    Equal,
    /// Another one was there, and still is.
    Differs,
}

impl GateHost {
    /// A page of the points in a collection that this shard doesn't own.
    ///
    /// # Errors
    /// The node serves no shard, has no such collection, or the engine fails.
    pub async fn strays(
        &self,
        collection: &str,
        after: Option<PointId>,
        points_max: usize,
    ) -> Result<Strays, NotAudited> {
        let report = self.report().await.map_err(|_| NotAudited::NotServing)?;
        let (Some(map), Some(me)) = (self.map(), report.shard) else {
            return Err(NotAudited::NotServing);
        };
        let Some(collection) = map.collection(collection).map(|collection| collection.id) else {
            return Ok(Strays::default());
        };
        let foreign = move |key| map.owner(key) != Some(me);
        let scan = Scan {
            after,
            through: None,
            points_max,
            bytes_max: PAGE_BYTES_MAX,
            bodies: true,
            accept: Accept::Only(Arc::new(foreign)),
            filter: None,
        };
        let page = self.engine().scan(collection, scan).await?;
        let stray = |point: sheaf_engines::ScannedPoint| {
            point.body.map(|body| Stray { id: point.id, body })
        };
        let points = page.points.into_iter().filter_map(stray).collect();
        Ok(Strays { points, looked_through: page.looked_through })
    }

    /// Inserts the points that aren't there, and says of each what it found. No other write is carried out meanwhile.
    ///
    /// # Errors
    /// See [`NotServed`].
    pub async fn insert(
        &self,
        request: Request,
        points: BTreeMap<PointId, PointBody>,
    ) -> Result<Served<Vec<(PointId, Inserted)>>, NotServed> {
        let work = move |go: Go| async move {
            let ids: Vec<PointId> = points.keys().cloned().collect();
            let there = go.engine.get(go.collection, ids).await?;
            let (mut missing, mut found) = (Vec::new(), Vec::with_capacity(points.len()));
            for ((id, body), there) in points.into_iter().zip(there) {
                let point = StoredPoint::new(go.collection, id, body);
                let inserted = compare(point.hash, there.map(|there| there.hash));
                found.push((point.id.clone(), inserted));
                if inserted == Inserted::New {
                    missing.push(Write::Upsert(point));
                }
            }
            if !missing.is_empty() {
                go.engine.apply(go.collection, missing).await?;
            }
            Ok(found)
        };
        self.serve(request, work).await
    }
}

fn compare(stray: PointHash, there: Option<PointHash>) -> Inserted {
    match there {
        None => Inserted::New,
        Some(hash) if hash == stray => Inserted::Equal,
        Some(_) => Inserted::Differs,
    }
}
