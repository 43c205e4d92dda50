//! The tests' own record of every write and what each read showed: the judge of what the cluster lost.
//!
//! Sees only what a client sees. Each key has one writer, so its writes have an order; an answer may show any write from the
//! last one acknowledged (or shown) before the read began, to the last one begun before it ended. It never trusts the cluster.

use std::collections::BTreeMap;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Acknowledged,
    /// Surely not applied.
    Refused,
    /// It may have been applied, or will be.
    Unknown,
}

/// A promise that an answer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// An acknowledged point is not there.
    Lost,
    /// A point is there that was deleted, refused or never written.
    Resurrected,
    /// A point is older than an acknowledged write, or than what was shown before.
    Stale,
    /// A point is twice in one answer.
    Duplicate,
    /// An answer contradicts itself.
    Torn,
}

/// One write of one key: the stamp, or `None` for a delete.
#[derive(Clone, Debug)]
struct Write {
    stamp: Option<u64>,
    refused: bool,
}

/// All writes of one key. The first entry stands for "never written".
#[derive(Clone, Debug)]
struct History {
    writes: Vec<Write>,
    /// No answer to a read that begins now may show a write before this one.
    floor: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { writes: vec![Write { stamp: None, refused: false }], floor: 0 }
    }
}

/// A read that is under way: for each key that it is about, the oldest write it may show.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    floors: BTreeMap<String, usize>,
}

/// Every write and every broken promise.
#[derive(Debug, Default)]
pub struct Record {
    keys: BTreeMap<String, History>,
    next_stamp: u64,
    pub acknowledged: u64,
    pub unknown: u64,
    /// What was broken, with words for a person; the first ones.
    pub broken: Vec<(Broken, String)>,
    /// How often each promise was broken.
    pub counts: BTreeMap<Broken, u64>,
}

/// Broken promises that are kept in words.
const BROKEN_KEPT_MAX: usize = 20;

impl Record {
    /// A stamp that no other write has.
    pub fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// A write is about to be sent; `None` is a delete. The key's writes before it have been answered.
    pub fn begin_write(&mut self, key: &str, stamp: Option<u64>) -> usize {
        let history = self.keys.entry(key.to_owned()).or_default();
        history.writes.push(Write { stamp, refused: false });
        history.writes.len() - 1
    }

    /// The answer to it.
    pub fn end_write(&mut self, key: &str, write: usize, fate: Fate) {
        let Some(history) = self.keys.get_mut(key) else { return };
        match fate {
            Fate::Acknowledged => {
                self.acknowledged += 1;
                history.floor = history.floor.max(write);
            }
            Fate::Unknown => self.unknown += 1,
            Fate::Refused if history.floor >= write => {
                let text = format!("{key:?}: a write was shown to a reader and then refused");
                self.note(Broken::Resurrected, text);
            }
            Fate::Refused => history.writes[write].refused = true,
        }
    }

    /// A read of one key is about to be sent.
    pub fn begin_read(&self, key: &str) -> Reading {
        let floor = self.keys.get(key).map_or(0, |history| history.floor);
        Reading { floors: BTreeMap::from([(key.to_owned(), floor)]) }
    }

    /// A read of all keys is about to be sent.
    pub fn begin_search(&self) -> Reading {
        let floors = self.keys.iter().map(|(key, history)| (key.clone(), history.floor));
        Reading { floors: floors.collect() }
    }

    /// The answer to a read of one key: the stamp, or `None` when it is absent.
    pub fn end_read(&mut self, reading: &Reading, key: &str, shown: Option<u64>) {
        let floor = reading.floors.get(key).copied().unwrap_or(0);
        self.judge(key, floor, shown);
    }

    /// The answer to a search. `complete`: it must show every key that exists.
    pub fn end_search(&mut self, reading: &Reading, shown: &[(String, u64)], complete: bool) {
        let mut found: BTreeMap<&str, u64> = BTreeMap::new();
        for (key, stamp) in shown {
            if found.insert(key, *stamp).is_some() {
                self.note(Broken::Duplicate, format!("{key:?} is twice in one answer"));
            }
            let floor = reading.floors.get(key).copied().unwrap_or(0);
            self.judge(key, floor, Some(*stamp));
        }
        if complete {
            for (key, floor) in &reading.floors {
                if !found.contains_key(key.as_str()) {
                    self.judge(key, *floor, None);
                }
            }
        }
    }

    /// An answer that can't be right whatever was written.
    pub fn torn(&mut self, why: String) {
        self.note(Broken::Torn, why);
    }

    /// Keys that exist for certain, and those that may.
    pub fn expected_points(&self) -> (u64, u64) {
        let exists = |write: &&Write| write.stamp.is_some();
        let (mut surely, mut maybe) = (0, 0);
        for history in self.keys.values() {
            let candidates: Vec<&Write> = history.candidates(history.floor).collect();
            surely += u64::from(candidates.iter().all(exists));
            maybe += u64::from(candidates.iter().any(exists));
        }
        (surely, maybe)
    }

    /// The keys that were ever written.
    pub fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    fn judge(&mut self, key: &str, floor: usize, shown: Option<u64>) {
        let history = self.keys.entry(key.to_owned()).or_default();
        let fits = (floor..history.writes.len()).find(|&at| {
            let write = &history.writes[at];
            !write.refused && write.stamp == shown
        });
        if let Some(at) = fits {
            history.floor = history.floor.max(at);
            return;
        }
        let wanted: Vec<Option<u64>> = history.candidates(floor).map(|write| write.stamp).collect();
        let known = history.writes.iter().any(|write| write.stamp == shown && !write.refused);
        let broken = match shown {
            None => Broken::Lost,
            Some(_) if known && wanted.iter().any(Option::is_some) => Broken::Stale,
            Some(_) => Broken::Resurrected,
        };
        let text =
            format!("{key:?} was shown as {shown:?}, but must be one of {wanted:?} (None: absent)");
        self.note(broken, text);
    }

    fn note(&mut self, broken: Broken, text: String) {
        *self.counts.entry(broken).or_default() += 1;
        if self.broken.len() < BROKEN_KEPT_MAX {
            self.broken.push((broken, text));
        }
    }
}

impl History {
    fn candidates(&self, floor: usize) -> impl Iterator<Item = &Write> {
        self.writes[floor..].iter().filter(|write| !write.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writes: &[(Option<u64>, Fate)]) -> Record {
        let mut record = Record::default();
        for (stamp, fate) in writes {
            let write = record.begin_write("k", *stamp);
            record.end_write("k", write, *fate);
        }
        record
    }

    fn read(record: &mut Record, shown: Option<u64>) -> Option<Broken> {
        let before = record.broken.len();
        let reading = record.begin_read("k");
        record.end_read(&reading, "k", shown);
        record.broken.get(before).map(|(broken, _)| *broken)
    }

    #[test]
    fn what_was_acknowledged_must_be_shown_and_nothing_older() {
        let mut record = written(&[(Some(1), Fate::Acknowledged), (Some(2), Fate::Acknowledged)]);
        assert_eq!(read(&mut record, Some(2)), None);
        assert_eq!(read(&mut record, Some(1)), Some(Broken::Stale));
        assert_eq!(read(&mut record, None), Some(Broken::Lost));
        assert_eq!(read(&mut record, Some(9)), Some(Broken::Resurrected));
        let mut record = written(&[(Some(1), Fate::Acknowledged), (None, Fate::Acknowledged)]);
        assert_eq!(read(&mut record, Some(1)), Some(Broken::Resurrected));
        assert_eq!(read(&mut record, None), None);
    }

    #[test]
    fn a_refused_write_is_never_shown() {
        let mut record = written(&[(Some(1), Fate::Acknowledged), (Some(2), Fate::Refused)]);
        assert_eq!(read(&mut record, Some(1)), None);
        assert_eq!(read(&mut record, Some(2)), Some(Broken::Resurrected));
        // Nor may it have been shown before it was refused.
        let mut record = written(&[]);
        let write = record.begin_write("k", Some(1));
        assert_eq!(read(&mut record, Some(1)), None);
        record.end_write("k", write, Fate::Refused);
        assert_eq!(record.counts[&Broken::Resurrected], 1);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_shown_but_not_come_and_go() {
        let mut record = written(&[(Some(1), Fate::Acknowledged), (Some(2), Fate::Unknown)]);
        assert_eq!(record.expected_points(), (1, 1));
        assert_eq!(read(&mut record, Some(1)), None);
        assert_eq!(read(&mut record, Some(2)), None);
        assert_eq!(read(&mut record, Some(1)), Some(Broken::Stale));
        let record = written(&[(Some(1), Fate::Acknowledged), (None, Fate::Unknown)]);
        assert_eq!(record.expected_points(), (0, 1));
    }

    #[test]
    fn a_read_that_began_before_the_acknowledgement_may_show_either() {
        for shown in [Some(1), Some(2)] {
            let mut record = written(&[(Some(1), Fate::Acknowledged)]);
            let reading = record.begin_read("k");
            let write = record.begin_write("k", Some(2));
            record.end_write("k", write, Fate::Acknowledged);
            record.end_read(&reading, "k", shown);
            assert_eq!(record.broken, []);
        }
    }

    #[test]
    fn a_search_shows_each_key_once_and_a_complete_one_all_of_them() {
        let hit = ("k".to_owned(), 1);
        for (shown, complete, broken) in [
            (vec![hit.clone()], true, None),
            (vec![hit.clone(), hit.clone()], true, Some(Broken::Duplicate)),
            (vec![], true, Some(Broken::Lost)),
            (vec![], false, None),
        ] {
            let mut record = written(&[(Some(1), Fate::Acknowledged)]);
            let reading = record.begin_search();
            record.end_search(&reading, &shown, complete);
            assert_eq!(record.broken.first().map(|(broken, _)| *broken), broken);
        }
    }
}
