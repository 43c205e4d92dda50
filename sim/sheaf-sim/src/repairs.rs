//! A cluster that was there before Sheaf, with strays, and its repair: strays go to their owners, then away from where they are.
//!
//! A coordinator does that for an operator. Strays are read in the engines themselves, some time before they are used, and
//! several errands are under way at once. What is refused or has no answer is begun again, for as long as the cluster is unproven.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sheaf_checkers::{Answer, Call, Fact, OpId, Stamp};
use sheaf_coordinator::{AdoptedShard, Ask, NewShard};
use sheaf_map::{Map, ShardEntry, Weight};
use sheaf_types::{ClusterId, MapVersion, PointId, ShardId, TransitionId};

use crate::clients::LASTING;
use crate::dice::{Dice, Purpose as Stream};
use crate::gate_node::url_of;
use crate::machine::Proc;
use crate::operator::{Manner, config_of};
use crate::wire::{DataReply, DataRequest, Inserted, Message, Purpose, Reply, Work};
use crate::world::{Happening, Stage, World};

/// Microseconds between two looks once there are no faults.
const CALM_US: u64 = 100_000;
/// While there are.
const PACES_US: [u64; 3] = [20_000, 200_000, 1_000_000];
/// Pages that are read ahead.
const PAGES_MAX: usize = 4;
/// What the operator's stream of chance is asked for here: no ask has such a number.
const CHANCE: u64 = u64::MAX;

/// Points that are to go from one gate to another.
#[derive(Clone, Debug)]
struct Errand {
    from: u32,
    to: u32,
    points: Vec<(PointId, Stamp)>,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Insert,
    Discard,
}

/// What the checkers are told of a value that is brought to its owner: one write, however often it is tried.
#[derive(Clone, Copy, Debug)]
struct Deed {
    /// Of which they don't know the outcome yet.
    op: Option<OpId>,
    /// Tries that may still be carried out, or may have been.
    unsure: u32,
}

/// The repairs of a run.
#[derive(Debug, Default)]
pub struct Repairs {
    next: u64,
    errands: BTreeMap<u64, Errand>,
    /// Read, and to be sent in this order.
    pages: VecDeque<Errand>,
    deeds: BTreeMap<(PointId, Stamp), Deed>,
}

impl World {
    /// Takes over a cluster whose gates hold points, some of them where they don't belong.
    pub fn adopt(&mut self) {
        let mut dice = Dice::new(self.seed, Stream::Knobs, 4);
        let count = u64::from(self.drawn.first_shards);
        let entry = |n: u64| ShardEntry {
            id: ShardId(n),
            primary_url: url_of(n as u32),
            replica_urls: Vec::new(),
            weight: Weight::ONE,
            store_id: self.gates[n as usize].record.store_id.clone(),
        };
        let shards = (0..count).map(entry).collect();
        let cluster = ClusterId::from("before");
        let Ok(map) = Map::new(cluster, MapVersion(1), TransitionId(0), shards, Vec::new()) else {
            return;
        };
        for id in self.clients.ids().to_vec() {
            let Some(owner) = map.owner(id.placement_key()) else { continue };
            let other = (owner.0 + dice.between(1, count.max(2) - 1)) % count;
            let third = (other + 1) % count;
            let (at_owner, strays): (bool, &[(u64, bool)]) = match dice.below(20) {
                0..9 => (true, &[]),
                9..13 => (false, &[(other, true)]),
                13..15 => (true, &[(other, true)]),
                15..17 => (true, &[(other, false)]),
                17 => (false, &[(other, true), (third, false)]),
                _ => (false, &[]),
            };
            let stamp = self.clients.stamp();
            if at_owner {
                self.gates[owner.0 as usize].engine.put_found(LASTING, id.clone(), stamp);
                self.tell_found(&id, stamp);
            }
            for (gate, same) in strays.iter().filter(|(gate, _)| *gate != owner.0) {
                let stamp = if *same { stamp } else { self.clients.stamp() };
                self.gates[*gate as usize].engine.put_found(LASTING, id.clone(), stamp);
            }
        }
        let shard = |n| AdoptedShard { id: ShardId(n), node: NewShard::at(&url_of(n as u32)) };
        let ask = Ask::Adopt {
            shards: (0..count).map(shard).collect(),
            next_shard: ShardId(count + dice.below(3)),
            version: MapVersion(dice.below(50)),
            collections: vec![config_of(LASTING)],
        };
        self.ask(ask, Manner::Must);
    }

    /// To the checkers it is a write that was acknowledged before all others.
    fn tell_found(&mut self, id: &PointId, stamp: Stamp) {
        let op = self.tell_invoked(id, stamp);
        self.fact(Fact::Returned { op, answer: Answer::Done });
        self.repairs.deeds.insert((id.clone(), stamp), Deed { op: None, unsure: 0 });
    }

    fn tell_invoked(&mut self, id: &PointId, stamp: Stamp) -> OpId {
        let (op, points) = (self.clients.op(), vec![(id.clone(), stamp)]);
        let call = Call::Upsert { collection: Arc::from(LASTING), points };
        self.fact(Fact::Invoked { op, call: Arc::new(call) });
        op
    }

    fn chance(&mut self) -> &mut Dice {
        self.dice.operator.of(CHANCE)
    }

    /// Reads some strays, and sends some that were read before.
    pub fn repair(&mut self) {
        let unproven = self.store.record().unproven || self.waits_to_adopt();
        if self.stage == Stage::Over || !unproven && self.repairs.pages.is_empty() {
            return;
        }
        if unproven && self.repairs.pages.len() < PAGES_MAX {
            self.read_strays();
        }
        let lag = if unproven { self.chance().below(4) as usize } else { 0 };
        if self.repairs.pages.len() > lag
            && let Some(errand) = self.repairs.pages.pop_front()
        {
            self.begin_errand(errand, 0);
        }
        let mean = match self.stage {
            Stage::Safety if unproven => PACES_US[(self.seed % 3) as usize],
            // What was read before is late now.
            Stage::Safety => 1_000_000,
            _ => CALM_US,
        };
        let at_us = self.now_us + 1 + self.chance().around(mean);
        self.queue.plan(at_us, Happening::Repair);
    }

    /// A page of one gate's strays, by owner.
    fn read_strays(&mut self) {
        let record = Arc::clone(self.store.record());
        let first = self.drawn.first_shards;
        let gate = self.chance().below(u64::from(first)) as u32;
        let shard = record.map.shard_by_url(&url_of(gate)).map(|entry| entry.id);
        let collection = record.map.collection(LASTING).map(|collection| collection.id);
        let (Some(me), Some(collection)) = (shard, collection) else { return };
        let is_stray = |key| record.map.owner(key) != Some(me);
        let mut strays = self.gates[gate as usize].engine.gather(collection, is_stray);
        if strays.is_empty() || self.life(Proc::Gate(gate)).is_none() {
            return;
        }
        let begin = self.chance().below(strays.len() as u64) as usize;
        strays.rotate_left(begin);
        strays.truncate(self.chance().between(1, 4) as usize);
        let mut by_owner: BTreeMap<u32, Vec<(PointId, Stamp)>> = BTreeMap::new();
        for (id, stamp) in strays {
            let owner = record.map.owner(id.placement_key());
            let entry = owner.and_then(|owner| record.map.shard(owner));
            if let Some(Proc::Gate(to)) = entry.and_then(|entry| self.gate_at(&entry.primary_url)) {
                by_owner.entry(to).or_default().push((id, stamp));
            }
        }
        let errand = |(to, points)| Errand { from: gate, to, points, step: Step::Insert };
        self.repairs.pages.extend(by_owner.into_iter().map(errand));
    }

    fn begin_errand(&mut self, errand: Errand, after_us: u64) {
        self.repairs.next += 1;
        let number = self.repairs.next;
        self.repairs.errands.insert(number, errand);
        match after_us {
            0 => self.run_errand(number),
            _ => self.queue.plan(self.now_us + after_us, Happening::Errand { number }),
        }
    }

    /// Sends the step of an errand.
    pub fn run_errand(&mut self, number: u64) {
        let Some(errand) = self.repairs.errands.get(&number).cloned() else { return };
        let from = self.some_coordinator(Proc::Operator);
        if self.life(from).is_none() {
            self.repairs.errands.remove(&number);
            return;
        }
        let (to, work) = match errand.step {
            Step::Insert => {
                errand.points.iter().for_each(|(id, stamp)| self.begin_deed(id, *stamp));
                (errand.to, Work::Insert(errand.points))
            }
            Step::Discard => {
                (errand.from, Work::Discard(errand.points.into_iter().map(|(id, _)| id).collect()))
            }
        };
        let timeout_ms = [200, 1_500, 10_000][self.chance().below(3) as usize];
        let collection = Arc::from(LASTING);
        let request = DataRequest { version: None, shard: None, collection, work, timeout_ms };
        let message = Message::Data(Arc::new(request));
        let purpose = Purpose::Repair { number };
        self.call(from, Proc::Gate(to), message, purpose, (timeout_ms + 50) * 1_000);
    }

    pub fn repair_answered(&mut self, number: u64, reply: Reply) {
        let Some(errand) = self.repairs.errands.remove(&number) else { return };
        if errand.step == Step::Discard {
            return;
        }
        match reply {
            Reply::Data(DataReply::Done { found, .. }) => {
                for ((id, stamp), (_, inserted)) in errand.points.iter().zip(found.inserted) {
                    self.end_deed(id, *stamp, Some(inserted));
                }
                let late = self.chance().chance(0.1);
                let after_us = if late { self.chance().below(6_000_000) } else { 0 };
                self.begin_errand(Errand { step: Step::Discard, ..errand }, after_us);
            }
            Reply::Data(DataReply::Refused(_)) | Reply::NotSent | Reply::NotReady => {
                errand.points.iter().for_each(|(id, stamp)| self.end_deed(id, *stamp, None));
            }
            _ => {}
        }
    }

    fn begin_deed(&mut self, id: &PointId, stamp: Stamp) {
        let key = (id.clone(), stamp);
        if !self.repairs.deeds.contains_key(&key) {
            let op = Some(self.tell_invoked(id, stamp));
            self.repairs.deeds.insert(key.clone(), Deed { op, unsure: 0 });
        }
        if let Some(deed) = self.repairs.deeds.get_mut(&key) {
            deed.unsure += 1;
        }
    }

    /// A try has ended; without `inserted` it surely did nothing.
    fn end_deed(&mut self, id: &PointId, stamp: Stamp, inserted: Option<Inserted>) {
        let Some(deed) = self.repairs.deeds.get_mut(&(id.clone(), stamp)) else { return };
        deed.unsure = deed.unsure.saturating_sub(1);
        let answer = match inserted {
            // Only a try of this errand, or of another one, can have brought it there.
            Some(Inserted::New | Inserted::Equal) => Answer::Done,
            Some(Inserted::Differs) if deed.unsure == 0 => Answer::Refused,
            Some(Inserted::Differs) | None => return,
        };
        if let Some(op) = deed.op.take() {
            self.fact(Fact::Returned { op, answer });
        }
    }
}
