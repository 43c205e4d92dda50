//! What the demo stores: real word senses, and made-up clustered vectors when more are asked for.
//!
//! Everything follows from the arguments: the same number is the same point in each run. Never asks a server.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::check::KeyNumber;
use crate::import::Point;
use crate::import::npy::Npy;

const SENSES_NPY: &[u8] = include_bytes!("../../../../data/wordnet-5k.f16.npy");
const SENSES_JSONL: &str = include_str!("../../../../data/wordnet-5k.jsonl");
const QUERIES_NPY: &[u8] = include_bytes!("../../../../data/queries.f16.npy");
const QUERIES_JSON: &str = include_str!("../../../../data/queries.json");
const ANSWERS_JSON: &str = include_str!("../../../../data/queries.top10.json");

/// Numbers in a word sense's vector.
pub const REAL_DIM: usize = 384;
/// Word senses that there are.
pub const REAL_POINTS: usize = 5_000;
/// Keys that share a value of the field `group`, by which searches ask for a whole set.
pub const GROUP_KEYS: usize = 50;
/// Keys that are not loaded but written by the live load only.
const LIVE_KEYS: usize = 250;
/// Made-up points lie around this many centres.
const CLUSTERS: usize = 200;
/// Ids that others' clusters stumbled over.
const AWKWARD_IDS: [&str; 8] =
    ["doc#3", "a/b", "a?b=c", "", "100%", "...", "🐅 tiger", "two\nlines"];

/// A question with its vector.
pub struct Query {
    pub text: String,
    pub vector: Vec<f32>,
}

struct Key {
    id: String,
    /// The row that its vector comes from.
    row: usize,
    /// Never deleted, so that the readable searches have answers.
    kept: bool,
}

/// All keys, and what is written under them.
pub struct Dataset {
    pub dim: usize,
    /// Keys that are loaded before the live load begins: the first ones.
    pub loaded: usize,
    pub queries: Vec<Query>,
    keys: Vec<Key>,
    numbers: BTreeMap<String, KeyNumber>,
    vectors: Vec<Vec<f32>>,
    payloads: Vec<Map<String, Value>>,
}

impl Dataset {
    /// `points` points of `dim` numbers; the real ones first, when they have that many numbers.
    ///
    /// # Errors
    /// The data inside the binary is damaged.
    pub fn new(points: usize, dim: usize, seed: u64) -> anyhow::Result<Self> {
        let mut made = Self {
            dim,
            loaded: points,
            queries: Vec::new(),
            keys: Vec::new(),
            numbers: BTreeMap::new(),
            vectors: Vec::new(),
            payloads: Vec::new(),
        };
        if dim == REAL_DIM {
            made.add_senses(points)?;
        }
        made.add_synthetic(points - made.keys.len(), seed);
        made.add_live_keys();
        for (number, key) in made.keys.iter().enumerate() {
            made.numbers.insert(key.id.clone(), KeyNumber(number));
        }
        Ok(made)
    }

    fn add_senses(&mut self, points: usize) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Row {
            id: String,
            payload: Map<String, Value>,
        }
        let answers: Vec<Vec<String>> = serde_json::from_str(ANSWERS_JSON)?;
        let answers: BTreeSet<String> = answers.into_iter().flatten().collect();
        let vectors = rows_of(SENSES_NPY)?;
        for (line, vector) in SENSES_JSONL.lines().zip(vectors).take(points) {
            let row: Row = serde_json::from_str(line)?;
            let kept = answers.contains(&row.id);
            self.keys.push(Key { id: row.id, row: self.vectors.len(), kept });
            self.vectors.push(vector);
            self.payloads.push(row.payload);
        }
        let texts: Vec<String> = serde_json::from_str(QUERIES_JSON)?;
        let queries = texts.into_iter().zip(rows_of(QUERIES_NPY)?);
        self.queries = queries.map(|(text, vector)| Query { text, vector }).collect();
        Ok(())
    }

    fn add_synthetic(&mut self, points: usize, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let centres: Vec<Vec<f32>> =
            (0..CLUSTERS.min(points)).map(|_| unit(&mut rng, self.dim, None)).collect();
        for number in 0..points {
            let centre = centres.get(rng.random_range(0..centres.len().max(1)));
            let vector = unit(&mut rng, self.dim, centre.map(Vec::as_slice));
            self.keys.push(Key {
                id: format!("made:{number}"),
                row: self.vectors.len(),
                kept: false,
            });
            self.vectors.push(vector);
            self.payloads.push(Map::new());
        }
        if self.queries.is_empty() {
            let queries = centres.into_iter().take(30).enumerate();
            self.queries = queries
                .map(|(at, vector)| Query { text: format!("the centre of cluster {at}"), vector })
                .collect();
        }
    }

    fn add_live_keys(&mut self) {
        let long = "long-".repeat(819);
        let awkward = AWKWARD_IDS.iter().map(|&id| id.to_owned()).chain([long]);
        let plain = (0..LIVE_KEYS).map(|number| format!("live:{number}"));
        let rows = self.vectors.len().max(1);
        for (number, id) in awkward.chain(plain).enumerate() {
            self.keys.push(Key { id, row: number * 17 % rows, kept: false });
        }
    }

    /// Keys, loaded or not.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    pub fn id(&self, key: KeyNumber) -> &str {
        &self.keys[key.0].id
    }

    /// Which key has this id; `None` when the demo never wrote it.
    pub fn key_of(&self, id: &str) -> Option<KeyNumber> {
        self.numbers.get(id).copied()
    }

    /// Whether the live load may delete it.
    pub fn may_delete(&self, key: KeyNumber) -> bool {
        !self.keys[key.0].kept
    }

    /// The number by which searches ask for it and its neighbours in number.
    pub fn group(key: KeyNumber) -> usize {
        key.0 / GROUP_KEYS
    }

    pub fn groups(&self) -> usize {
        self.keys.len().div_ceil(GROUP_KEYS)
    }

    pub fn keys_of_group(&self, group: usize) -> Vec<KeyNumber> {
        let end = ((group + 1) * GROUP_KEYS).min(self.keys.len());
        (group * GROUP_KEYS..end).map(KeyNumber).collect()
    }

    /// The vector that the write with this stamp stores: each write moves its point a little.
    pub fn vector(&self, key: KeyNumber, stamp: u64) -> Vec<f32> {
        let mut vector = self.vectors[self.keys[key.0].row].clone();
        if let Some(first) = vector.first_mut() {
            *first += (stamp % 16) as f32 / 1_024.0;
        }
        vector
    }

    /// The whole point that the write with this stamp stores.
    pub fn point(&self, key: KeyNumber, stamp: u64) -> Point {
        let mut payload = if key.0 < self.loaded {
            self.payloads[self.keys[key.0].row].clone()
        } else {
            Map::new()
        };
        payload.insert("group".to_owned(), json!(Self::group(key)));
        payload.insert("stamp".to_owned(), json!(stamp));
        Point {
            id: self.id(key).to_owned(),
            vector: self.vector(key, stamp),
            payload: Value::Object(payload),
        }
    }
}

fn rows_of(file: &[u8]) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut npy = Npy::open(file).context("the vectors inside the binary are damaged")?;
    let mut rows = Vec::new();
    while let Some(row) = npy.next_row()? {
        rows.push(row);
    }
    Ok(rows)
}

/// A vector of length one, near `centre` when there is one.
fn unit(rng: &mut ChaCha8Rng, dim: usize, centre: Option<&[f32]>) -> Vec<f32> {
    let spread = if centre.is_some() { 0.5 / (dim as f32).sqrt() } else { 1.0 };
    let mut vector: Vec<f32> = (0..dim)
        .map(|at| {
            let middle = centre.and_then(|centre| centre.get(at)).copied().unwrap_or(0.0);
            middle + spread * rng.random_range(-1.0f32..1.0)
        })
        .collect();
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_points_come_first_and_made_up_ones_fill_the_rest() {
        let data = Dataset::new(REAL_POINTS + 10, REAL_DIM, 1).unwrap();
        assert_eq!(data.loaded, REAL_POINTS + 10);
        assert!(data.id(KeyNumber(0)).starts_with("wn:"));
        assert_eq!(data.id(KeyNumber(REAL_POINTS)), "made:0");
        assert_eq!(data.queries[0].text, "a large wild cat with stripes");
        assert!(
            data.queries.len() == 30 && data.queries.iter().all(|q| q.vector.len() == REAL_DIM)
        );
        for key in [0, REAL_POINTS, REAL_POINTS + 12].map(KeyNumber) {
            let point = data.point(key, 3);
            assert_eq!(data.key_of(&point.id), Some(key));
            assert_eq!(point.vector.len(), REAL_DIM);
            assert_eq!(point.payload["stamp"], 3);
        }
    }

    #[test]
    fn every_key_is_in_exactly_one_group() {
        let data = Dataset::new(120, 4, 1).unwrap();
        let keys: Vec<KeyNumber> =
            (0..data.groups()).flat_map(|group| data.keys_of_group(group)).collect();
        assert_eq!(keys, (0..data.keys()).map(KeyNumber).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_makes_the_same_points() {
        let vectors = |seed| Dataset::new(3, 8, seed).unwrap().vectors;
        assert_eq!(vectors(1), vectors(1));
        assert_ne!(vectors(1), vectors(2));
    }
}
