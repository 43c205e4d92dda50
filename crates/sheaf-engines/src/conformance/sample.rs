//! Points for the suite, drawn from a fixed sequence: the same at each run.

use sheaf_types::{CollectionId, PointBody, PointId, StoredPoint};

use crate::{Engine, Scan, ScannedPoint, Write};

/// Numbers that look random; a splitmix64 sequence.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Small multiples of a quarter: sums are exact, so every engine calculates the same score, and ties occur.
    pub fn vector(&mut self, dim: usize) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dim).map(|_| self.below(9) as f32 / 4.0 - 1.0).collect();
        // Never the zero vector, which has no cosine similarity.
        vector[0] = 1.0 + self.below(3) as f32;
        vector
    }
}

pub fn point(
    collection: CollectionId,
    id: &str,
    vector: &[f32],
    payload: Option<&str>,
) -> StoredPoint {
    StoredPoint::new(collection, PointId::from(id), PointBody::encode(vector, payload))
}

/// Points `p0000…` with payloads of a few kinds, some without one.
pub fn points(
    collection: CollectionId,
    numbers: &mut Numbers,
    count: usize,
    dim: usize,
) -> Vec<StoredPoint> {
    let draw = |n: usize| {
        let payload = match numbers.below(4) {
            0 => None,
            1 => Some(format!(r#"{{"n":{},"tag":"a"}}"#, numbers.below(50))),
            2 => Some(format!(r#"{{"deep":{{"x":{}.5}},"tag":"b"}}"#, numbers.below(20))),
            _ => Some(format!(r#"{{"n":{}.0,"tag":"c"}}"#, numbers.below(50))),
        };
        point(collection, &format!("p{n:04}"), &numbers.vector(dim), payload.as_deref())
    };
    (0..count).map(draw).collect()
}

pub fn upserts(points: &[StoredPoint]) -> Vec<Write> {
    points.iter().cloned().map(Write::Upsert).collect()
}

/// A scan of everything, with bodies.
pub fn whole() -> Scan {
    Scan {
        after: None,
        through: None,
        points_max: 1_000,
        bytes_max: 1024 * 1024,
        bodies: true,
        accept: crate::Accept::All,
        filter: None,
    }
}

/// All pages of a scan, one after the other.
pub async fn scan_all(engine: &impl Engine, id: CollectionId, mut scan: Scan) -> Vec<ScannedPoint> {
    let mut found = Vec::new();
    loop {
        let page = engine.scan(id, scan.clone()).await.expect("a page of a scan");
        found.extend(page.points);
        let Some(through) = page.looked_through else { return found };
        assert!(
            scan.after.as_ref() < Some(&through),
            "a scan makes no progress behind {through:?}"
        );
        scan.after = Some(through);
    }
}
