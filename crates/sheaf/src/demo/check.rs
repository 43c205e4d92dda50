//! The demo's own record of what was written, and the judge of every answer. Independent of all other crates.
//!
//! Each key is written by one writer, one write at a time, and each write has its own stamp. A read may return any write
//! that is not older than the last one acknowledged before the read began (or seen by an earlier read). A write of
//! unknown outcome may take effect at any time, so its key is never written again. Knows no time, only an order of events.

use std::collections::BTreeMap;

/// A moment in the order of events.
pub type Tick = u64;

/// One of the keys that the demo uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyNumber(pub usize);

/// What a write does. A put carries the stamp that makes it unlike any other write of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Put { stamp: u64 },
    Delete,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pending,
    /// Since this moment nothing older may be returned.
    Acknowledged {
        at: Tick,
    },
    /// May take effect now, later or never.
    Unknown,
    /// Said to be not applied.
    Refused,
}

/// What a writer learned about its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    Unknown,
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    change: Change,
    fate: Fate,
}

#[derive(Clone, Debug, Default)]
struct History {
    writes: Vec<Write>,
    /// The newest write that a get has returned.
    seen: Option<usize>,
}

/// What a client was shown of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Absent,
    Stamp(u64),
    /// A point that no write of the demo ever made.
    Foreign,
}

/// A promise that an answer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Older than an acknowledged write.
    Stale,
    /// An acknowledged put is not there.
    Missing,
    /// Deleted and acknowledged, refused, or never written, and there all the same.
    Resurrected,
    /// Twice in one answer.
    Doubled,
}

/// A get that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Get {
    key: KeyNumber,
    floor: Option<usize>,
}

/// All writes of all keys.
#[derive(Debug)]
pub struct Record {
    now: Tick,
    keys: Vec<History>,
    acknowledged: u64,
}

impl Record {
    /// A record of `keys` keys, none of them written.
    pub fn new(keys: usize) -> Self {
        Self { now: 0, keys: vec![History::default(); keys], acknowledged: 0 }
    }

    /// The moment just now; later events have later moments.
    pub fn tick(&mut self) -> Tick {
        self.now += 1;
        self.now
    }

    /// Writes that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// A write is about to be sent.
    pub fn begin_write(&mut self, key: KeyNumber, change: Change) {
        self.keys[key.0].writes.push(Write { change, fate: Fate::Pending });
    }

    /// The answer to the write of this key that was begun last.
    pub fn end_write(&mut self, key: KeyNumber, outcome: Outcome) {
        let at = self.tick();
        let Some(write) = self.keys[key.0].writes.last_mut() else { return };
        write.fate = match outcome {
            Outcome::Acknowledged => {
                self.acknowledged += 1;
                Fate::Acknowledged { at }
            }
            Outcome::Unknown => Fate::Unknown,
            Outcome::Refused => Fate::Refused,
        };
    }

    /// A get is about to be sent.
    pub fn begin_get(&mut self, key: KeyNumber) -> Get {
        let at = self.tick();
        let history = &self.keys[key.0];
        Get { key, floor: history.floor(at).max(history.seen) }
    }

    /// The answer to a get.
    pub fn end_get(&mut self, get: Get, shown: Shown) -> Option<Broken> {
        let history = &mut self.keys[get.key.0];
        match history.judge(get.floor, shown) {
            Ok(write) => {
                history.seen = history.seen.max(write);
                None
            }
            Err(broken) => Some(broken),
        }
    }

    /// The answer of a search that began at `began`: the keys shown, in any order.
    ///
    /// `complete`: keys of which the answer must show every one that exists.
    pub fn judge_search(
        &self,
        began: Tick,
        shown: &[(KeyNumber, Shown)],
        complete: &[KeyNumber],
    ) -> Vec<(KeyNumber, Broken)> {
        let mut broken = Vec::new();
        let mut counted: BTreeMap<KeyNumber, u32> = BTreeMap::new();
        for (key, shown) in shown {
            let times = counted.entry(*key).or_default();
            *times += 1;
            if *times == 2 {
                broken.push((*key, Broken::Doubled));
            }
            let history = &self.keys[key.0];
            if let Err(why) = history.judge(history.floor(began), *shown) {
                broken.push((*key, why));
            }
        }
        for key in complete {
            let history = &self.keys[key.0];
            if !counted.contains_key(key) && history.must_be_there(began) {
                broken.push((*key, Broken::Missing));
            }
        }
        broken
    }

    /// The stamp of the key's value, when no write is changing it.
    pub fn settled(&self, key: KeyNumber) -> Option<u64> {
        let writes = &self.keys[key.0].writes;
        let last = writes.iter().rev().find(|write| write.fate != Fate::Refused)?;
        match (last.change, last.fate) {
            (Change::Put { stamp }, Fate::Acknowledged { .. }) => Some(stamp),
            _ => None,
        }
    }

    /// How many keys must exist, and how many more may.
    pub fn expected_points(&self) -> (u64, u64) {
        let must = self.keys.iter().filter(|history| history.must_be_there(self.now)).count();
        let may = self.keys.iter().filter(|history| history.may_be_there(self.now)).count();
        (must as u64, (may - must) as u64)
    }
}

impl History {
    /// The last write that was acknowledged by then.
    fn floor(&self, by: Tick) -> Option<usize> {
        self.writes
            .iter()
            .rposition(|write| matches!(write.fate, Fate::Acknowledged { at } if at <= by))
    }

    /// The write that the client was shown, or at the earliest may have been shown.
    fn judge(&self, floor: Option<usize>, shown: Shown) -> Result<Option<usize>, Broken> {
        let there = |write: &&Write| write.fate != Fate::Refused;
        match shown {
            Shown::Foreign => Err(Broken::Resurrected),
            Shown::Stamp(stamp) => {
                let put = Change::Put { stamp };
                let found =
                    self.writes.iter().rposition(|write| write.change == put && there(&write));
                match (found, floor) {
                    (None, _) => Err(Broken::Resurrected),
                    (Some(write), Some(floor)) if write < floor => {
                        let deleted = self.writes[floor].change == Change::Delete;
                        Err(if deleted { Broken::Resurrected } else { Broken::Stale })
                    }
                    (Some(write), _) => Ok(Some(write)),
                }
            }
            Shown::Absent => {
                let Some(floor) = floor else { return Ok(None) };
                let from_floor = self.writes.iter().enumerate().skip(floor);
                let mut deletes =
                    from_floor.filter(|(_, write)| write.change == Change::Delete && there(write));
                deletes.next().map(|(at, _)| Some(at)).ok_or(Broken::Missing)
            }
        }
    }

    /// Whether an answer that began then may not say that the key is absent.
    fn must_be_there(&self, by: Tick) -> bool {
        self.judge(self.floor(by), Shown::Absent).is_err()
    }

    fn may_be_there(&self, by: Tick) -> bool {
        let from = self.floor(by).unwrap_or(0);
        self.writes
            .iter()
            .skip(from)
            .any(|write| matches!(write.change, Change::Put { .. }) && write.fate != Fate::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyNumber = KeyNumber(0);

    fn written(writes: &[(Change, Outcome)]) -> Record {
        let mut record = Record::new(1);
        for (change, outcome) in writes {
            record.begin_write(KEY, *change);
            record.end_write(KEY, *outcome);
        }
        record
    }

    fn get(record: &mut Record, shown: Shown) -> Option<Broken> {
        let get = record.begin_get(KEY);
        record.end_get(get, shown)
    }

    const PUT1: (Change, Outcome) = (Change::Put { stamp: 1 }, Outcome::Acknowledged);
    const PUT2: (Change, Outcome) = (Change::Put { stamp: 2 }, Outcome::Acknowledged);
    const DELETED: (Change, Outcome) = (Change::Delete, Outcome::Acknowledged);

    #[test]
    fn an_answer_older_than_an_acknowledged_write_is_stale_lost_or_resurrected() {
        let mut record = written(&[PUT1, PUT2]);
        assert_eq!(get(&mut record, Shown::Stamp(1)), Some(Broken::Stale));
        assert_eq!(get(&mut record, Shown::Absent), Some(Broken::Missing));
        assert_eq!(get(&mut record, Shown::Stamp(3)), Some(Broken::Resurrected));
        assert_eq!(get(&mut record, Shown::Stamp(2)), None);
        let mut record = written(&[PUT1, DELETED]);
        assert_eq!(get(&mut record, Shown::Stamp(1)), Some(Broken::Resurrected));
        assert_eq!(get(&mut record, Shown::Absent), None);
    }

    #[test]
    fn a_get_that_began_before_the_acknowledgement_may_return_either() {
        for shown in [Shown::Stamp(1), Shown::Stamp(2)] {
            let mut record = written(&[PUT1]);
            let early = record.begin_get(KEY);
            record.begin_write(KEY, PUT2.0);
            record.end_write(KEY, Outcome::Acknowledged);
            assert_eq!(record.end_get(early, shown), None);
        }
    }

    #[test]
    fn what_one_get_has_shown_no_later_get_may_take_back() {
        let mut record = written(&[PUT1]);
        record.begin_write(KEY, PUT2.0);
        assert_eq!(get(&mut record, Shown::Stamp(2)), None);
        assert_eq!(get(&mut record, Shown::Stamp(1)), Some(Broken::Stale));
    }

    #[test]
    fn an_unknown_write_may_show_or_not_and_a_refused_one_never() {
        let mut record = written(&[PUT1, (Change::Delete, Outcome::Unknown)]);
        assert_eq!(get(&mut record, Shown::Stamp(1)), None);
        assert_eq!(record.expected_points(), (0, 1));
        assert_eq!(get(&mut record, Shown::Absent), None);
        assert_eq!(
            get(&mut record, Shown::Stamp(1)),
            Some(Broken::Resurrected),
            "it was seen deleted"
        );
        let mut record = written(&[PUT1, (Change::Put { stamp: 2 }, Outcome::Refused)]);
        assert_eq!(get(&mut record, Shown::Stamp(2)), Some(Broken::Resurrected));
        assert_eq!(get(&mut record, Shown::Stamp(1)), None);
        assert_eq!(record.expected_points(), (1, 0));
    }

    #[test]
    fn a_search_counts_each_key_once_and_must_show_what_no_write_is_changing() {
        let mut record = written(&[PUT1]);
        let began = record.tick();
        let hit = (KEY, Shown::Stamp(1));
        assert_eq!(record.judge_search(began, &[hit], &[KEY]), []);
        assert_eq!(record.judge_search(began, &[hit, hit], &[KEY]), [(KEY, Broken::Doubled)]);
        assert_eq!(record.judge_search(began, &[], &[KEY]), [(KEY, Broken::Missing)]);
        record.begin_write(KEY, Change::Delete);
        assert_eq!(record.judge_search(began, &[], &[KEY]), []);
        assert_eq!(record.judge_search(began, &[hit], &[KEY]), []);
        record.end_write(KEY, Outcome::Acknowledged);
        assert_eq!(record.judge_search(began, &[hit], &[KEY]), [], "acknowledged after it began");
        let later = record.tick();
        assert_eq!(record.judge_search(later, &[hit], &[]), [(KEY, Broken::Resurrected)]);
    }
}
