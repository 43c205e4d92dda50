//! For every key, what a read may still return: remembers when each write began and ended.
//!
//! Cheap and online; it finds what `linearizable` would find for lost and stale values, at the moment it is seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_types::PointId;

use crate::fact::{Answer, Call, ClientKey, Fact, OpId, Stamp};
use crate::panel::Moment;

/// What is known of one key's writes. Moments are fact numbers.
#[derive(Clone, Debug, Default)]
struct Writes {
    /// When each write was invoked and, if it was acknowledged, returned.
    puts: BTreeMap<Stamp, (u64, Option<u64>)>,
    deletes: BTreeMap<OpId, (u64, Option<u64>)>,
    floor: Floor,
}

/// The latest beginnings of writes that were acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Of any acknowledged write or delete.
    any: u64,
    /// Of an acknowledged upsert.
    put: u64,
}

/// Numbers a key that was ever written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNumber(usize);

/// A call that hasn't returned, with the floors of what it reads.
struct Open {
    call: Arc<Call>,
    floors: Floored,
    /// The key, if it writes to one alone.
    written: Option<KeyNumber>,
}

/// The floors of a read when it began. A key that was written later had none.
enum Floored {
    Nothing,
    One(Floor),
    /// By number, of all keys.
    All(Vec<Floor>),
}

/// Whose floors are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Gets,
    Gathers,
}

/// All keys' writes, and the floors of reads that are under way.
pub struct Floors {
    reads: Reads,
    numbers: BTreeMap<Arc<str>, BTreeMap<PointId, KeyNumber>>,
    keys: Vec<Writes>,
    open: BTreeMap<OpId, Open>,
}

impl Floors {
    pub fn new(reads: Reads) -> Self {
        Self { reads, numbers: BTreeMap::new(), keys: Vec::new(), open: BTreeMap::new() }
    }

    /// Takes in an invocation or a return. The caller judges a return before it is learned.
    pub fn learn(&mut self, moment: Moment, fact: &Fact) {
        match fact {
            Fact::Invoked { op, call } => self.invoked(moment.fact, *op, call),
            Fact::Returned { op, answer } => self.returned(moment.fact, *op, answer),
            _ => {}
        }
    }

    /// The call of an operation that hasn't returned yet.
    pub fn call(&self, op: OpId) -> Option<&Call> {
        self.open.get(&op).map(|open| &*open.call)
    }

    /// The number of a key, if it was ever written.
    pub fn number(&self, collection: &str, id: &PointId) -> Option<KeyNumber> {
        self.numbers.get(collection)?.get(id).copied()
    }

    /// Every key of the collection that was ever written.
    pub fn keys_of(&self, collection: &str) -> impl Iterator<Item = (&PointId, KeyNumber)> {
        let keys = self.numbers.get(collection).into_iter().flatten();
        keys.map(|(id, number)| (id, *number))
    }

    /// Why the read `op` can't have found `value` at the key; `None` when it can.
    pub fn objection(
        &self,
        op: OpId,
        (collection, id, number): (&Arc<str>, &PointId, Option<KeyNumber>),
        value: Option<Stamp>,
    ) -> Option<String> {
        let key = || ClientKey { collection: Arc::clone(collection), id: id.clone() };
        let Some(KeyNumber(number)) = number else {
            return value
                .map(|stamp| format!("{:?} was never written, but a read found {stamp}", key()));
        };
        let floor = match self.open.get(&op).map(|open| &open.floors) {
            Some(Floored::One(floor)) => *floor,
            Some(Floored::All(floors)) => floors.get(number).copied().unwrap_or_default(),
            Some(Floored::Nothing) | None => Floor::default(),
        };
        let writes = &self.keys[number];
        match value {
            Some(stamp) => match writes.puts.get(&stamp) {
                None => {
                    Some(format!("{:?} was never written with {stamp}, but a read found it", key()))
                }
                Some((_, Some(returned))) if *returned < floor.any => Some(format!(
                    "a read of {:?} found {stamp} (acknowledged at fact {returned}), though a later write that began at \
                     fact {} was acknowledged before the read began",
                    key(),
                    floor.any
                )),
                Some(_) => None,
            },
            None => {
                let latest_absence =
                    writes.deletes.values().map(|(_, returned)| returned.unwrap_or(u64::MAX)).max();
                let latest_absence = latest_absence.unwrap_or(0);
                (latest_absence < floor.put).then(|| {
                    format!(
                        "a read of {:?} found nothing, though an upsert that began at fact {} was acknowledged before the \
                         read began, and no delete can have followed it",
                        key(),
                        floor.put
                    )
                })
            }
        }
    }

    fn invoked(&mut self, at: u64, op: OpId, call: &Arc<Call>) {
        let (mut floors, mut written) = (Floored::Nothing, None);
        match &**call {
            Call::Upsert { collection, points } => {
                for (id, stamp) in points {
                    let number = self.key(collection, id);
                    self.keys[number.0].puts.insert(*stamp, (at, None));
                    written = (points.len() == 1).then_some(number);
                }
            }
            Call::Delete { collection, ids } => {
                for id in ids {
                    let number = self.key(collection, id);
                    self.keys[number.0].deletes.insert(op, (at, None));
                    written = (ids.len() == 1).then_some(number);
                }
            }
            Call::Get { collection, id } if self.reads == Reads::Gets => {
                let known = self.number(collection, id);
                floors = Floored::One(known.map_or_else(Floor::default, |n| self.keys[n.0].floor));
            }
            Call::Gather { .. } if self.reads == Reads::Gathers => {
                floors = Floored::All(self.keys.iter().map(|writes| writes.floor).collect());
            }
            Call::Get { .. } | Call::Gather { .. } | Call::Create { .. } | Call::Drop { .. } => {}
        }
        self.open.insert(op, Open { call: Arc::clone(call), floors, written });
    }

    fn returned(&mut self, at: u64, op: OpId, answer: &Answer) {
        let Some(Open { call, written, .. }) = self.open.remove(&op) else { return };
        let acknowledged = matches!(answer, Answer::Done);
        let refused = matches!(answer, Answer::Refused);
        match &*call {
            Call::Upsert { collection, points } if acknowledged => {
                for (id, stamp) in points {
                    let number = written.unwrap_or_else(|| self.key(collection, id));
                    let writes = &mut self.keys[number.0];
                    let Some((invoked, returned)) = writes.puts.get_mut(stamp) else { continue };
                    *returned = Some(at);
                    let invoked = *invoked;
                    writes.floor.any = writes.floor.any.max(invoked);
                    writes.floor.put = writes.floor.put.max(invoked);
                }
            }
            Call::Delete { collection, ids } if acknowledged || refused => {
                for id in ids {
                    let number = written.unwrap_or_else(|| self.key(collection, id));
                    let writes = &mut self.keys[number.0];
                    if refused {
                        writes.deletes.remove(&op);
                        continue;
                    }
                    let Some((invoked, returned)) = writes.deletes.get_mut(&op) else { continue };
                    *returned = Some(at);
                    let invoked = *invoked;
                    writes.floor.any = writes.floor.any.max(invoked);
                }
            }
            _ => {}
        }
    }

    /// The number of a key that is written.
    fn key(&mut self, collection: &Arc<str>, id: &PointId) -> KeyNumber {
        self.number(collection, id).unwrap_or_else(|| {
            let number = KeyNumber(self.keys.len());
            self.keys.push(Writes::default());
            let keys = self.numbers.entry(Arc::clone(collection)).or_default();
            keys.insert(id.clone(), number);
            number
        })
    }
}
