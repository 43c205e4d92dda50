//! Requests for writes that will come soon: their text is made while Quiver carries out those in front of them.
//!
//! Making a batch's text takes half as long as Quiver takes to carry it out. What doesn't come, or comes otherwise, is forgotten.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sheaf_types::limits::STREAM_WINDOW_FRAMES_MAX;
use sheaf_types::{CollectionConfig, PointHash, PointId, StoredPoint};
use tokio::task::JoinHandle;

use super::apply::BULK_POINTS_MIN;
use super::wire;

/// Bodies of requests, each with its number of points.
pub type Bodies = Vec<(usize, Bytes)>;

struct Prepared {
    points: Vec<(PointId, PointHash)>,
    bodies: JoinHandle<Bodies>,
}

/// The upserts of one collection that are being prepared, the oldest first: as many as a donor sends ahead.
#[derive(Default)]
pub struct Foreseen(Mutex<VecDeque<Prepared>>);

impl Foreseen {
    fn prepared(&self) -> MutexGuard<'_, VecDeque<Prepared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These will be upserted by one write, in this order.
    pub fn add(&self, config: &Arc<CollectionConfig>, points: &[StoredPoint]) {
        if points.len() < BULK_POINTS_MIN {
            return;
        }
        let (config, owned) = (Arc::clone(config), points.to_vec());
        let bodies =
            tokio::task::spawn_blocking(move || wire::upsert_requests(&config, owned.iter()));
        let points = points.iter().map(|point| (point.id.clone(), point.hash)).collect();
        let mut prepared = self.prepared();
        if prepared.len() >= STREAM_WINDOW_FRAMES_MAX {
            prepared.pop_front();
        }
        prepared.push_back(Prepared { points, bodies });
    }

    /// The bodies that upsert these.
    pub async fn bodies(&self, config: &CollectionConfig, points: &[StoredPoint]) -> Bodies {
        let prepared = self.take(points);
        let prepared = match prepared {
            Some(Prepared { bodies, .. }) => bodies.await.ok(),
            None => None,
        };
        prepared.unwrap_or_else(|| wire::upsert_requests(config, points.iter()))
    }

    fn take(&self, points: &[StoredPoint]) -> Option<Prepared> {
        let mut all = self.prepared();
        let is_it = |prepared: &Prepared| {
            let ours = points.iter().map(|point| (&point.id, point.hash));
            prepared.points.iter().map(|(id, hash)| (id, *hash)).eq(ours)
        };
        let at = all.iter().position(is_it)?;
        all.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use sheaf_types::{CollectionId, PointBody};

    use super::*;

    fn points(ids: std::ops::Range<usize>, value: f32) -> Vec<StoredPoint> {
        let body = || PointBody::encode(&[value], None);
        let point =
            |n: usize| StoredPoint::new(CollectionId(1), PointId::from(n.to_string()), body());
        ids.map(point).collect()
    }

    #[tokio::test]
    async fn what_comes_as_foreseen_was_prepared_and_what_does_not_is_made_anew() {
        let config: CollectionConfig =
            serde_json::from_value(serde_json::json!({"name": "c", "dim": 1})).unwrap();
        let config = Arc::new(config);
        let foreseen = Foreseen::default();
        for n in 0..=STREAM_WINDOW_FRAMES_MAX {
            foreseen.add(&config, &points(n * 100..n * 100 + 100, 1.0));
        }
        assert_eq!(foreseen.prepared().len(), STREAM_WINDOW_FRAMES_MAX, "the oldest is forgotten");
        for (points, left) in [
            (points(100..200, 1.0), STREAM_WINDOW_FRAMES_MAX - 1),
            (points(200..300, 2.0), STREAM_WINDOW_FRAMES_MAX - 1),
            (points(200..299, 1.0), STREAM_WINDOW_FRAMES_MAX - 1),
            (points(200..300, 1.0), STREAM_WINDOW_FRAMES_MAX - 2),
        ] {
            let expected = wire::upsert_requests(&config, points.iter());
            assert_eq!(foreseen.bodies(&config, &points).await, expected);
            assert_eq!(foreseen.prepared().len(), left);
        }
    }
}
