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

/// All keys' writes, and the floors of reads that are under way.
#[derive(Default)]
pub struct Floors {
    keys: BTreeMap<ClientKey, Writes>,
    calls: BTreeMap<OpId, Call>,
    reads: BTreeMap<OpId, BTreeMap<ClientKey, Floor>>,
}

impl Floors {
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
        self.calls.get(&op)
    }

    /// Every key of the collection that was ever written.
    pub fn keys_of(&self, collection: &Arc<str>) -> impl Iterator<Item = &ClientKey> {
        self.keys.keys().filter(move |key| key.collection == *collection)
    }

    /// Why the read `op` can't have found `value` at `key`; `None` when it can.
    pub fn objection(&self, op: OpId, key: &ClientKey, value: Option<Stamp>) -> Option<String> {
        let floor =
            self.reads.get(&op).and_then(|floors| floors.get(key)).copied().unwrap_or_default();
        let Some(writes) = self.keys.get(key) else {
            return value
                .map(|stamp| format!("{key:?} was never written, but a read found {stamp}"));
        };
        match value {
            Some(stamp) => match writes.puts.get(&stamp) {
                None => {
                    Some(format!("{key:?} was never written with {stamp}, but a read found it"))
                }
                Some((_, Some(returned))) if *returned < floor.any => Some(format!(
                    "a read of {key:?} found {stamp} (acknowledged at fact {returned}), though a later write that began at \
                     fact {} was acknowledged before the read began",
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
                        "a read of {key:?} found nothing, though an upsert that began at fact {} was acknowledged before the \
                         read began, and no delete can have followed it",
                        floor.put
                    )
                })
            }
        }
    }

    fn invoked(&mut self, at: u64, op: OpId, call: &Call) {
        self.calls.insert(op, call.clone());
        match call {
            Call::Upsert { collection, points } => {
                for (id, stamp) in points {
                    self.writes(collection, id).puts.insert(*stamp, (at, None));
                }
            }
            Call::Delete { collection, ids } => {
                for id in ids {
                    self.writes(collection, id).deletes.insert(op, (at, None));
                }
            }
            Call::Get { collection, id } => {
                let key = ClientKey { collection: collection.clone(), id: id.clone() };
                let floor = self.keys.get(&key).map(|writes| writes.floor).unwrap_or_default();
                self.reads.insert(op, BTreeMap::from([(key, floor)]));
            }
            Call::Gather { collection } => {
                let of = self.keys.iter().filter(|(key, _)| key.collection == *collection);
                let floors = of.map(|(key, writes)| (key.clone(), writes.floor)).collect();
                self.reads.insert(op, floors);
            }
            Call::Create { .. } | Call::Drop { .. } => {}
        }
    }

    fn returned(&mut self, at: u64, op: OpId, answer: &Answer) {
        self.reads.remove(&op);
        let Some(call) = self.calls.remove(&op) else { return };
        let acknowledged = matches!(answer, Answer::Done);
        let refused = matches!(answer, Answer::Refused);
        match call {
            Call::Upsert { collection, points } if acknowledged => {
                for (id, stamp) in points {
                    let writes = self.writes(&collection, &id);
                    let Some((invoked, returned)) = writes.puts.get_mut(&stamp) else { continue };
                    *returned = Some(at);
                    let invoked = *invoked;
                    writes.floor.any = writes.floor.any.max(invoked);
                    writes.floor.put = writes.floor.put.max(invoked);
                }
            }
            Call::Delete { collection, ids } if acknowledged || refused => {
                for id in ids {
                    let writes = self.writes(&collection, &id);
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

    fn writes(&mut self, collection: &Arc<str>, id: &PointId) -> &mut Writes {
        let key = ClientKey { collection: collection.clone(), id: id.clone() };
        self.keys.entry(key).or_default()
    }
}
