//! Requests for writes that will come soon: their text is made while Quiver carries out those in front of them.
//!
//! Making a batch's text takes half as long as Quiver takes to carry it out. One is made after the other: the first is wanted first, and
//! as many processors as there are have more to do. Each is made as two requests, which are sent together: Quiver reads one while it
//! syncs the other. What doesn't come, or comes otherwise, is forgotten.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sheaf_types::limits::STREAM_WINDOW_FRAMES_MAX;
use sheaf_types::{CollectionConfig, PointHash, PointId, StoredPoint};
use tokio::task::{JoinError, JoinHandle};

use super::apply::BULK_POINTS_MIN;
use super::wire;

/// Bodies of requests, each with its number of points.
pub type Bodies = Vec<(usize, Bytes)>;

/// One write's.
pub struct Prepared {
    points: Vec<(PointId, PointHash)>,
    bodies: JoinHandle<Result<Bodies, JoinError>>,
}

impl Prepared {
    /// Whether they are several requests.
    pub fn are_several(&self) -> bool {
        self.points.len() >= 2 * BULK_POINTS_MIN
    }

    /// `None`: making them broke off.
    pub async fn bodies(self) -> Option<Bodies> {
        self.bodies.await.ok().and_then(Result::ok)
    }
}

/// The upserts of one collection that are being prepared, the oldest first: as many as a donor sends ahead.
#[derive(Default)]
pub struct Foreseen {
    prepared: Mutex<VecDeque<Prepared>>,
    /// Whose turn it is to be made.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Foreseen {
    fn prepared(&self) -> MutexGuard<'_, VecDeque<Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These will be upserted by one write, in this order.
    pub fn add(&self, config: &Arc<CollectionConfig>, points: &[StoredPoint]) {
        if points.len() < BULK_POINTS_MIN {
            return;
        }
        let (config, owned) = (Arc::clone(config), points.to_vec());
        let turn = Arc::clone(&self.turn);
        let bodies = tokio::spawn(async move {
            let _turn = turn.lock().await;
            let make = move || bodies(&config, &owned);
            tokio::task::spawn_blocking(make).await
        });
        let points = points.iter().map(|point| (point.id.clone(), point.hash)).collect();
        let mut prepared = self.prepared();
        if prepared.len() >= STREAM_WINDOW_FRAMES_MAX {
            prepared.pop_front();
        }
        prepared.push_back(Prepared { points, bodies });
    }

    /// What was prepared to upsert these.
    pub fn take(&self, points: &[StoredPoint]) -> Option<Prepared> {
        let mut all = self.prepared();
        let is_it = |prepared: &Prepared| {
            let ours = points.iter().map(|point| (&point.id, point.hash));
            prepared.points.iter().map(|(id, hash)| (id, *hash)).eq(ours)
        };
        let at = all.iter().position(is_it)?;
        all.remove(at)
    }
}

fn bodies(config: &CollectionConfig, points: &[StoredPoint]) -> Bodies {
    let half = if points.len() >= 2 * BULK_POINTS_MIN { points.len() / 2 } else { 0 };
    let (first, second) = points.split_at(half);
    let mut bodies = wire::upsert_requests(config, first.iter());
    bodies.append(&mut wire::upsert_requests(config, second.iter()));
    bodies
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
        for (points, is_there, left) in [
            (points(100..200, 1.0), true, STREAM_WINDOW_FRAMES_MAX - 1),
            (points(200..300, 2.0), false, STREAM_WINDOW_FRAMES_MAX - 1),
            (points(200..299, 1.0), false, STREAM_WINDOW_FRAMES_MAX - 1),
            (points(200..300, 1.0), true, STREAM_WINDOW_FRAMES_MAX - 2),
        ] {
            let prepared = foreseen.take(&points);
            assert_eq!(prepared.is_some(), is_there);
            if let Some(prepared) = prepared {
                assert!(!prepared.are_several());
                let expected = wire::upsert_requests(&config, points.iter());
                assert_eq!(prepared.bodies().await, Some(expected));
            }
            assert_eq!(foreseen.prepared().len(), left);
        }
    }

    #[tokio::test]
    async fn a_large_write_is_two_requests_of_as_many_points() {
        let config: CollectionConfig =
            serde_json::from_value(serde_json::json!({"name": "c", "dim": 1})).unwrap();
        let foreseen = Foreseen::default();
        let points = points(0..2 * BULK_POINTS_MIN + 1, 1.0);
        foreseen.add(&Arc::new(config), &points);
        let prepared = foreseen.take(&points).expect("it was foreseen");
        assert!(prepared.are_several());
        let counts = prepared.bodies().await.expect("they are made").into_iter().map(|body| body.0);
        assert_eq!(counts.collect::<Vec<_>>(), [BULK_POINTS_MIN, BULK_POINTS_MIN + 1]);
    }
}
