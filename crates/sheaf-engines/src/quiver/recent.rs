//! The points that were written since Quiver's index was last seen to be whole.
//!
//! Quiver's index lags after a point was overwritten, and doesn't say how far. But a point that it shows, and can't have shown
//! before the last write to it, proves that it has that write; and Quiver makes an index from one state, so it has all that was
//! written before, too. Such a write is a *mark*. What no mark has vouched for yet is kept here, to be merged into searches.
//!
//! What isn't kept any more may have been anything: the index may still have a point that was deleted then. So behind it only a
//! *witness* can be a mark, a point that the index was asked for, and didn't show, just before it was written. One that shows up proves
//! that the index was replaced since; that may have been begun earlier. Quiver begins the next one when that is done, so the
//! second witness that shows up proves that the index has all that was forgotten.

use std::collections::BTreeMap;

use sheaf_types::{Metric, PointBody, PointId};

use super::wire::Row;
use crate::score::{Query, norm};

/// Points that are kept at most, and bytes of them. When there are more, those of before are forgotten.
pub const POINTS_MAX: usize = 10_000;
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// How far a score that Quiver calculates may be from ours, as a part of the score.
const SCORE_SLACK: f32 = 1e-4;

/// Counts the beginnings and ends of writes, and of questions to the index.
pub type Moment = u64;

/// When a write began.
#[derive(Clone, Copy, Debug)]
pub struct Begun(Moment);

/// What became of a point that was written.
#[derive(Clone)]
pub struct Became {
    pub id: PointId,
    pub old: Option<PointBody>,
    /// `None`: it is deleted.
    pub new: Option<PointBody>,
}

impl Became {
    fn bytes(&self) -> usize {
        size(&self.id, self.new.as_ref())
    }
}

fn size(id: &PointId, body: Option<&PointBody>) -> usize {
    id.as_str().len() + body.map_or(0, |body| body.as_bytes().len())
}

struct Kept {
    begun: Moment,
    done: Moment,
    /// Its place in its request.
    place: usize,
    /// `None`: it is deleted.
    row: Option<Row>,
    bytes: usize,
}

/// What the index must show to prove that it has a write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Proof {
    /// The point: it had none with this id.
    Shown,
    /// The point with about this score, when its own vector is searched for: it had it elsewhere.
    Scored(f32),
}

/// How a write was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Certainly, in one request. An index that is made from one state may be added to one by one, up to a point that it can only
    /// take in when it is made anew: it has what is in front of any that it has.
    AtOnce,
    /// Certainly, piece by piece.
    InPieces,
    /// Or not, or something else was.
    Perhaps,
}

/// The write that is to be seen.
#[derive(Clone, Debug)]
struct Sign {
    id: PointId,
    proof: Proof,
    /// Whoever sees it sees those of its write up to this place.
    place: Option<usize>,
}

/// A mark, to be searched for.
#[derive(Clone, Debug)]
pub struct Mark {
    id: PointId,
    /// When its write began; of one that may become a witness, when it was searched for.
    begun: Moment,
    proof: Proof,
    place: Option<usize>,
    pub vector: Vec<f32>,
}

impl Mark {
    /// Whether these hits of a search for its vector prove that the index has it.
    pub fn is_proved_by(&self, hits: &[Row]) -> bool {
        let shown = hits.iter().find(|hit| hit.id == self.id);
        shown.is_some_and(|hit| match self.proof {
            Proof::Shown => true,
            Proof::Scored(score) => hit.score.is_some_and(|found| is_close(found, score)),
        })
    }
}

/// What the index may lack though it isn't kept.
#[derive(Clone, Copy, Debug)]
struct Forgotten {
    /// All that was done until then.
    until: Moment,
    /// When a witness was seen first.
    first_seen: Option<Moment>,
}

impl Forgotten {
    fn until(until: Moment) -> Self {
        Self { until, first_seen: None }
    }
}

/// What was written to one collection.
#[derive(Default)]
pub struct Recent {
    now: Moment,
    /// When the newest write was done.
    done: Moment,
    kept: BTreeMap<PointId, Kept>,
    bytes: usize,
    /// By when their writes began.
    marks: BTreeMap<Moment, Sign>,
    forgotten: Option<Forgotten>,
}

impl Recent {
    /// Of a collection that was written to before anybody kept count.
    pub fn of_unknown() -> Self {
        Self { forgotten: Some(Forgotten::until(0)), ..Self::default() }
    }

    /// Whether all that the index may lack is kept here.
    pub fn is_whole(&self) -> bool {
        self.forgotten.is_none()
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Points that are there.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.kept.values().filter_map(|kept| kept.row.as_ref())
    }

    pub fn ids(&self) -> impl Iterator<Item = &PointId> {
        self.kept.keys()
    }

    pub fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// When the marks' writes began, in order.
    pub fn marks(&self) -> Vec<u64> {
        self.marks.keys().copied().collect()
    }

    /// The mark whose write began then, if it is one still.
    pub fn mark(&self, begun: u64) -> Option<Mark> {
        let Sign { id, proof, place } = self.marks.get(&begun)?.clone();
        let row = self.kept.get(&id)?.row.as_ref()?;
        let vector = row.vector.clone()?;
        Some(Mark { id, begun, proof, place, vector })
    }

    /// Now; all that is done was done before.
    pub fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A write is about to be sent.
    pub fn begin(&mut self) -> Begun {
        Begun(self.tick())
    }

    /// One of these points that are about to be written, when nothing will be known without a witness: it is one if the index doesn't
    /// prove it now.
    pub fn candidate(&mut self, metric: Metric, written: &[Became]) -> Option<Mark> {
        if self.forgotten.is_none() || !self.marks.is_empty() {
            return None;
        }
        let can_be = |Became { id, old, new }: &Became| {
            let (id, new) = (id.clone(), new.as_ref().filter(|_| !self.kept.contains_key(id))?);
            Some((id, proof(metric, old.as_ref(), new)?, new.vector()))
        };
        let (id, proof, vector) = written.iter().rev().find_map(can_be)?;
        Some(Mark { id, begun: self.tick(), proof, place: None, vector })
    }

    /// It was answered.
    pub fn end(
        &mut self,
        metric: Metric,
        begun: Begun,
        written: Vec<Became>,
        carried: Carried,
        witness: Option<&Mark>,
    ) {
        let more: usize = written.iter().map(Became::bytes).sum();
        if self.kept.len() + written.len() > POINTS_MAX || self.bytes + more > BYTES_MAX {
            self.forget();
        }
        let done = self.tick();
        self.done = done;
        for (place, Became { id, old, new }) in written.into_iter().enumerate() {
            let was_kept = self.remove(&id);
            let proof = new.as_ref().and_then(|new| proof(metric, old.as_ref(), new));
            // The index may have any of the points that it was since.
            let may_prove = carried != Carried::Perhaps && !was_kept && self.takes(&id, witness);
            if let Some(proof) = proof.filter(|_| may_prove) {
                let place = (carried == Carried::AtOnce).then_some(place);
                self.marks.insert(begun.0, Sign { id: id.clone(), proof, place });
            }
            let bytes = size(&id, new.as_ref());
            let row = new.map(|body| Row::of(id.clone(), &body));
            self.bytes += bytes;
            self.kept.insert(id, Kept { begun: begun.0, done, place, row, bytes });
        }
        if self.kept.len() > POINTS_MAX || self.bytes > BYTES_MAX {
            self.forget();
        }
    }

    /// Whether a point can be a mark, as far as what was forgotten goes.
    fn takes(&self, id: &PointId, witness: Option<&Mark>) -> bool {
        self.forgotten.is_none_or(|Forgotten { until, first_seen }| {
            let since = first_seen.unwrap_or(until);
            witness.is_some_and(|witness| witness.id == *id && witness.begun > since)
        })
    }

    /// The index has this mark's write, and all that was done before it.
    pub fn confirm(&mut self, mark: &Mark) {
        if let Some(Forgotten { until, first_seen }) = self.forgotten {
            if mark.begun < first_seen.unwrap_or(until) {
                return; // It is of before all was forgotten, or before the first one was seen.
            }
            if first_seen.is_none() {
                let first_seen = Some(self.tick());
                self.forgotten = Some(Forgotten { until, first_seen });
                self.marks.clear();
                return;
            }
        }
        self.kept.retain(|id, kept| {
            let is_it = *id == mark.id || mark.place.is_some_and(|place| kept.place <= place);
            let stays = kept.done > mark.begun && !(kept.begun == mark.begun && is_it);
            self.bytes -= if stays { 0 } else { kept.bytes };
            stays
        });
        self.marks.retain(|begun, sign| *begun > mark.begun && self.kept.contains_key(&sign.id));
        self.forgotten = None;
    }

    /// The index has all that was done until then.
    pub fn has_all_until(&mut self, then: Moment) {
        self.kept.retain(|_, kept| {
            let stays = kept.done > then;
            self.bytes -= if stays { 0 } else { kept.bytes };
            stays
        });
        // Whoever had it made goes on with that for a while: only what comes from now on can show that it's over.
        self.marks.clear();
        self.forgotten = self.forgotten.filter(|forgotten| forgotten.until > then);
    }

    /// A write was answered of which nothing is kept, nor of what was before.
    pub fn pass_over(&mut self) {
        self.done = self.tick();
        self.forget();
    }

    /// Keeps nothing of what was written so far.
    fn forget(&mut self) {
        let (now, done) = (self.now, self.done);
        let forgotten = Some(Forgotten::until(done));
        *self = Self { now, done, forgotten, ..Self::default() };
    }

    /// Whether it was there.
    fn remove(&mut self, id: &PointId) -> bool {
        let Some(kept) = self.kept.remove(id) else { return false };
        self.bytes -= kept.bytes;
        if self.marks.get(&kept.begun).is_some_and(|sign| sign.id == *id) {
            self.marks.remove(&kept.begun);
        }
        true
    }
}

/// What would prove that the index has this write, if anything does.
fn proof(metric: Metric, old: Option<&PointBody>, new: &PointBody) -> Option<Proof> {
    let Some(old) = old else { return Some(Proof::Shown) };
    let (old, new) = (old.vector(), new.vector());
    let query = Query::new(metric, new.clone());
    let (before, now) = (query.score(&old, norm(&old)), query.score(&new, norm(&new)));
    // A few times the slack, so that nothing is taken for both. Of products of vectors nothing follows: far ones may have the same.
    let differs = (before - now).abs() > 10.0 * SCORE_SLACK * (1.0 + before.abs().max(now.abs()));
    (metric != Metric::Dot && differs).then_some(Proof::Scored(now))
}

fn is_close(found: f32, wanted: f32) -> bool {
    (found - wanted).abs() <= SCORE_SLACK * (1.0 + wanted.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(x: f32) -> PointBody {
        PointBody::encode(&[x, 1.0], None)
    }

    fn write(recent: &mut Recent, id: &str, old: Option<f32>, new: Option<f32>) {
        let begun = recent.begin();
        let written = Became { id: PointId::from(id), old: old.map(body), new: new.map(body) };
        recent.end(Metric::L2, begun, vec![written], Carried::InPieces, None);
    }

    fn shown(id: &str, score: f32) -> Row {
        Row { id: PointId::from(id), vector: None, payload: None, score: Some(score) }
    }

    fn newest(recent: &Recent) -> Mark {
        recent.mark(*recent.marks().last().unwrap()).unwrap()
    }

    #[test]
    fn what_a_mark_vouches_for_is_not_kept_any_longer() {
        let mut recent = Recent::default();
        write(&mut recent, "a", Some(1.0), Some(2.0));
        write(&mut recent, "b", None, Some(3.0));
        let mark = newest(&recent);
        let late = recent.begin();
        write(&mut recent, "c", Some(5.0), None);
        let other = Became { id: PointId::from("d"), old: None, new: Some(body(6.0)) };
        recent.end(Metric::L2, late, vec![other], Carried::InPieces, None);
        assert!(!mark.is_proved_by(&[shown("a", 0.0)]), "it must be itself that is shown");
        assert!(mark.is_proved_by(&[shown("a", 0.0), shown("b", 7.0)]));
        recent.confirm(&mark);
        let left: Vec<&str> = recent.ids().map(PointId::as_str).collect();
        assert_eq!(left, ["c", "d"]);
        // What was done while the mark's write was under way may have been carried out behind it.
        let mark = newest(&recent);
        assert_eq!(mark.id.as_str(), "d");
        recent.confirm(&mark);
        assert_eq!(recent.ids().map(PointId::as_str).collect::<Vec<_>>(), ["c"]);
    }

    /// Quiver's index takes in new points one by one, and waits to be made anew from the first on that it had.
    #[test]
    fn a_mark_vouches_for_those_in_front_of_it_in_its_request() {
        let new = |id: &str| Became { id: PointId::from(id), old: None, new: Some(body(1.0)) };
        let same = |id: &str| Became { old: Some(body(1.0)), ..new(id) };
        let requests = [
            (Carried::AtOnce, vec![new("a"), new("b"), new("c")], vec![]),
            (Carried::AtOnce, vec![new("a"), new("b"), same("c")], vec!["c"]),
            (Carried::InPieces, vec![new("a"), new("b"), new("c")], vec!["a", "b"]),
        ];
        for (carried, written, left) in requests {
            let mut recent = Recent::default();
            let begun = recent.begin();
            recent.end(Metric::L2, begun, written, carried, None);
            let mark = newest(&recent);
            recent.confirm(&mark);
            assert_eq!(recent.ids().map(PointId::as_str).collect::<Vec<_>>(), left);
            assert_eq!(recent.bytes == 0, left.is_empty());
        }
    }

    #[test]
    fn a_point_that_the_index_may_have_had_there_before_is_no_mark() {
        let mut recent = Recent::default();
        write(&mut recent, "a", Some(1.0), Some(2.0));
        let mark = newest(&recent);
        assert!(mark.is_proved_by(&[shown("a", 0.0)]));
        assert!(!mark.is_proved_by(&[shown("a", 1.0)]), "that is where it was before");
        // Back to where it was: the index may show the first.
        write(&mut recent, "a", Some(2.0), Some(1.0));
        assert!(recent.marks().is_empty());
        write(&mut recent, "b", Some(3.0), Some(3.0));
        assert!(recent.marks().is_empty(), "its vector is the same");
        write(&mut recent, "c", Some(3.0), None);
        write(&mut recent, "c", None, Some(4.0));
        assert!(recent.marks().is_empty(), "the index may still have what was deleted");
    }

    #[test]
    fn products_of_vectors_and_writes_of_unknown_outcome_prove_nothing() {
        assert_eq!(proof(Metric::Dot, Some(&body(1.0)), &body(2.0)), None);
        assert_eq!(proof(Metric::Dot, None, &body(2.0)), Some(Proof::Shown));
        let mut recent = Recent::default();
        let begun = recent.begin();
        let written = Became { id: PointId::from("a"), old: None, new: Some(body(1.0)) };
        recent.end(Metric::L2, begun, vec![written], Carried::Perhaps, None);
        assert!(recent.marks().is_empty() && recent.len() == 1);
    }

    fn new(id: &str) -> Became {
        Became { id: PointId::from(id), old: None, new: Some(body(1.0)) }
    }

    /// Writes a point that the index was asked for before, and didn't show.
    fn witness(recent: &mut Recent, id: &str) -> Option<Mark> {
        let witness = recent.candidate(Metric::L2, &[new(id)]);
        write_after(recent, id, witness.as_ref())
    }

    fn write_after(recent: &mut Recent, id: &str, witness: Option<&Mark>) -> Option<Mark> {
        let begun = recent.begin();
        recent.end(Metric::L2, begun, vec![new(id)], Carried::AtOnce, witness);
        recent.mark(*recent.marks().last()?)
    }

    #[test]
    fn what_was_forgotten_is_there_once_two_witnesses_were_seen_one_after_the_other() {
        let mut recent = Recent::of_unknown();
        assert!(write_after(&mut recent, "a", None).is_none(), "it may be one of before");
        let early = recent.candidate(Metric::L2, &[new("c")]).unwrap();
        let first = witness(&mut recent, "b").unwrap();
        assert!(recent.candidate(Metric::L2, &[new("c")]).is_none(), "one is enough");
        recent.confirm(&first);
        assert!(!recent.is_whole() && recent.len() == 2);
        assert!(recent.candidate(Metric::L2, &[new("a")]).is_none(), "it is kept");
        assert!(write_after(&mut recent, "c", Some(&early)).is_none(), "asked for too early");
        recent.confirm(&first);
        assert!(!recent.is_whole(), "the same one proves nothing more");
        let second = witness(&mut recent, "d").unwrap();
        write(&mut recent, "e", None, Some(1.0));
        recent.confirm(&second);
        assert!(recent.is_whole());
        assert_eq!(recent.ids().map(PointId::as_str).collect::<Vec<_>>(), ["e"]);
    }

    #[test]
    fn what_was_done_before_the_index_was_begun_is_in_it() {
        let mut recent = Recent::of_unknown();
        write(&mut recent, "a", None, Some(1.0));
        let began = recent.tick();
        write(&mut recent, "b", None, Some(1.0));
        recent.has_all_until(began);
        assert!(recent.is_whole());
        assert_eq!(recent.ids().map(PointId::as_str).collect::<Vec<_>>(), ["b"]);
        let began = recent.tick();
        recent.pass_over();
        recent.has_all_until(began);
        assert!(!recent.is_whole(), "that was later");
    }

    #[test]
    fn when_there_are_too_many_only_the_newest_are_kept() {
        let mut recent = Recent::default();
        let batch = |from: usize| {
            let of = |n: usize| Became {
                id: PointId::from(format!("p{n}")),
                old: None,
                new: Some(body(1.0)),
            };
            (from..from + POINTS_MAX / 2 + 1).map(of).collect::<Vec<_>>()
        };
        let begun = recent.begin();
        recent.end(Metric::L2, begun, batch(0), Carried::InPieces, None);
        let early = newest(&recent);
        assert!(recent.is_whole());
        let begun = recent.begin();
        recent.end(Metric::L2, begun, batch(POINTS_MAX), Carried::InPieces, None);
        assert!(!recent.is_whole() && recent.len() == POINTS_MAX / 2 + 1, "the newest are kept");
        recent.confirm(&early);
        assert!(!recent.is_whole(), "it vouches for nothing of what was forgotten");
        let begun = recent.begin();
        let all = [batch(0), batch(POINTS_MAX)].concat();
        recent.end(Metric::L2, begun, all, Carried::InPieces, None);
        assert!(
            !recent.is_whole() && recent.len() == 0 && recent.bytes == 0,
            "more than it may keep"
        );
    }
}
