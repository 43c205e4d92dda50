//! An inverted index in memory: for each term the documents that have it, with its weight there.
//!
//! Decides scores and order; which documents may be seen is said by the caller. A document that is replaced leaves its old entries
//! behind, which are passed over and cleared away once they are as many as the living.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sheaf_types::{PlacementKey, PointId};

use super::{SparseQuery, SparseVector, Statistics};
use crate::Accept;

/// Dead documents that are always put up with.
const DEAD_MIN: usize = 1_024;

/// A point and its score, higher is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    pub id: PointId,
    pub score: f32,
}

#[derive(Debug, Default)]
pub struct Index {
    /// By term: the document's number, and the term's weight in it. Numbers ascend.
    postings: BTreeMap<u32, Vec<(u32, f32)>>,
    /// By number; `None`: replaced or gone.
    documents: Vec<Option<Document>>,
    numbers: BTreeMap<PointId, u32>,
    /// Entries in all postings, dead ones too.
    entries: usize,
}

#[derive(Clone, Debug)]
struct Document {
    id: PointId,
    key: PlacementKey,
    length: f32,
}

impl Index {
    /// Entries in it: what its memory is judged by.
    pub fn entries(&self) -> usize {
        self.entries + self.documents.len()
    }

    /// Says what a point's payload holds now.
    pub fn put(&mut self, id: &PointId, vector: Option<SparseVector>) {
        if let Some(number) = self.numbers.remove(id) {
            self.documents[number as usize] = None;
            let dead = self.documents.len() - self.numbers.len();
            if dead > DEAD_MIN.max(self.numbers.len()) {
                self.clear_away();
            }
        }
        let Some(vector) = vector else { return };
        // Fewer than four thousand million points fit in any memory, and dead ones are cleared away.
        let Ok(number) = u32::try_from(self.documents.len()) else { return };
        let length = vector.weights.values().sum();
        self.entries += vector.weights.len();
        for (term, weight) in vector.weights {
            self.postings.entry(term).or_default().push((number, weight));
        }
        self.documents.push(Some(Document { id: id.clone(), key: id.placement_key(), length }));
        self.numbers.insert(id.clone(), number);
    }

    /// Gives the living documents new numbers, without gaps.
    fn clear_away(&mut self) {
        let mut renumbered = vec![None; self.documents.len()];
        let mut living = Vec::with_capacity(self.numbers.len());
        for (number, document) in std::mem::take(&mut self.documents).into_iter().enumerate() {
            if let Some(document) = document {
                let new = living.len() as u32;
                renumbered[number] = Some(new);
                self.numbers.insert(document.id.clone(), new);
                living.push(Some(document));
            }
        }
        self.documents = living;
        self.entries = 0;
        for postings in self.postings.values_mut() {
            postings.retain_mut(|(number, _)| match renumbered[*number as usize] {
                Some(new) => {
                    *number = new;
                    true
                }
                None => false,
            });
            postings.shrink_to_fit();
            self.entries += postings.len();
        }
        self.postings.retain(|_, postings| !postings.is_empty());
    }

    /// What BM25 has to know of the documents that are accepted.
    pub fn statistics(&self, terms: &[u32], accept: &Accept) -> Statistics {
        let mut statistics = Statistics::default();
        for document in self.documents.iter().flatten() {
            if accept.takes(document.key) {
                statistics.documents += 1;
                statistics.length += f64::from(document.length);
            }
        }
        let frequency = |term: &u32| self.with_term(*term, accept).count() as u64;
        statistics.frequencies = terms.iter().map(frequency).collect();
        statistics
    }

    /// The accepted documents that have the term, with its weight there.
    fn with_term<'a>(
        &'a self,
        term: u32,
        accept: &'a Accept,
    ) -> impl Iterator<Item = (u32, f32, &'a Document)> {
        let postings = self.postings.get(&term).map_or(&[][..], Vec::as_slice);
        postings.iter().filter_map(move |&(number, weight)| {
            let document = self.documents.get(number as usize)?.as_ref()?;
            accept.takes(document.key).then_some((number, weight, document))
        })
    }

    /// The accepted documents with a score above zero, best first, equal ones in the order of ids; the best `limit` of them.
    pub fn rank(&self, query: &SparseQuery, accept: &Accept, limit: usize) -> Vec<Ranked> {
        let mut scores = vec![0.0_f32; self.documents.len()];
        match query {
            SparseQuery::Vector(vector) => {
                for (&term, wanted) in &vector.weights {
                    for (number, weight, _) in self.with_term(term, accept) {
                        scores[number as usize] += wanted * weight;
                    }
                }
            }
            SparseQuery::Text { terms, statistics } => {
                for (&term, &frequency) in terms.iter().zip(&statistics.frequencies) {
                    let inverse = statistics.inverse_frequency(frequency);
                    for (number, weight, document) in self.with_term(term, accept) {
                        scores[number as usize] +=
                            statistics.score(inverse, weight, document.length);
                    }
                }
            }
        }
        let scored = self.documents.iter().zip(scores);
        let mut found: Vec<(f32, &PointId)> = scored
            .filter_map(|(document, score)| Some((score, &document.as_ref()?.id)))
            .filter(|(score, _)| *score > 0.0)
            .collect();
        let order = |a: &(f32, &PointId), b: &(f32, &PointId)| -> Ordering {
            b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1))
        };
        if limit < found.len() {
            found.select_nth_unstable_by(limit, order);
            found.truncate(limit);
        }
        found.sort_unstable_by(order);
        found.into_iter().map(|(score, id)| Ranked { id: id.clone(), score }).collect()
    }
}
