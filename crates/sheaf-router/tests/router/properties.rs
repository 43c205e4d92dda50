//! What holds whatever shards, maps and time do.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use sheaf_protocol::Refusal;
use sheaf_router::{CallId, Event, Op, Outcome, Verdict};
use sheaf_types::{MapVersion, ShardId, Time};

use crate::world::{DEADLINE, World, keys, map};

#[derive(Clone, Debug)]
enum Step {
    /// Some open call ends; `wrong` names a version near the one asked.
    Reply {
        which: Index,
        how: u8,
        wrong: u8,
    },
    /// A call that was sent at any time is answered (again).
    Echo {
        which: Index,
        how: u8,
    },
    Adopt {
        ahead: u8,
        shards: u8,
    },
    Pass {
        ms: u16,
    },
    Wake,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<Index>(), 0u8..11, 0u8..4)
            .prop_map(|(which, how, wrong)| Step::Reply { which, how, wrong }),
        1 => (any::<Index>(), 0u8..11).prop_map(|(which, how)| Step::Echo { which, how }),
        2 => (0u8..3, 0u8..16).prop_map(|(ahead, shards)| Step::Adopt { ahead, shards }),
        1 => (0u16..500).prop_map(|ms| Step::Pass { ms }),
        3 => Just(Step::Wake),
    ]
}

fn outcome(how: u8, asked: MapVersion, wrong: u8) -> Outcome {
    let version = MapVersion((asked.0 + u64::from(wrong)).saturating_sub(1));
    Outcome::Refused(match how {
        0 | 1 => return Outcome::Done { version: asked },
        2 => return Outcome::Done { version },
        3 => return Outcome::NotSent,
        4 => return Outcome::Lost,
        5 if wrong == 0 => return Outcome::Failed,
        5 | 6 => Refusal::Moved { version },
        7 => Refusal::OtherVersion { version },
        8 => Refusal::Fenced { version },
        9 => Refusal::NotServing,
        _ => Refusal::NoCollection { version },
    })
}

/// What became of each call, as the world knows it: the judge of the verdict.
struct Judge {
    world: World,
    version: u64,
    ended: BTreeMap<CallId, Outcome>,
}

impl Judge {
    fn new(op: Op) -> Self {
        Self { world: World::new(map(5, [1, 2, 3]), op), version: 5, ended: BTreeMap::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Reply { which, how, wrong } => {
                let open: Vec<CallId> = self.world.open.keys().copied().collect();
                if open.is_empty() {
                    return;
                }
                let call = self.world.open[&open[which.index(open.len())]].clone();
                let outcome = outcome(how, call.version, wrong);
                self.ended.insert(call.id, outcome.clone());
                self.world.say(Event::Replied { call: call.id, outcome });
            }
            Step::Echo { which, how } => {
                let ended: Vec<CallId> = self.ended.keys().copied().collect();
                if !ended.is_empty() {
                    let call = ended[which.index(ended.len())];
                    let outcome = outcome(how, MapVersion(self.version), 1);
                    self.world.say(Event::Replied { call, outcome });
                }
            }
            Step::Adopt { ahead, shards } => {
                self.version += u64::from(ahead);
                let ids = (1..=4).filter(|id| shards & (1 << (id - 1)) != 0 || *id == 1);
                self.world.adopt(map(self.version, ids));
            }
            Step::Pass { ms } => {
                self.world.now = Time((self.world.now.0 + u64::from(ms)).min(DEADLINE.0));
                self.world.say(Event::Tick);
            }
            Step::Wake => {
                if self.world.verdict.is_none() {
                    self.world.wake();
                }
            }
        }
    }

    /// Plays all steps, then lets time pass without any reply; there must be an answer by the deadline.
    fn play(&mut self, steps: Vec<Step>) {
        for step in steps {
            if self.world.verdict.is_none() {
                self.step(step);
            }
        }
        for _ in 0..20_000 {
            if self.world.verdict.is_some() {
                break;
            }
            self.world.wake();
        }
        assert!(self.world.verdict.is_some(), "no answer by the deadline");
        assert!(self.world.now <= DEADLINE);
    }

    fn outcome_of(&self, call: CallId) -> Option<&Outcome> {
        self.ended.get(&call)
    }
}

fn expected_state(judge: &Judge, item: u32) -> &'static str {
    let mut calls = judge.world.sent.iter().filter(|call| call.items.contains(&item));
    let last = calls.next_back().map(|call| judge.outcome_of(call.id));
    match last {
        Some(Some(Outcome::Done { .. })) => "applied",
        Some(None | Some(Outcome::Lost)) => "unknown",
        Some(Some(Outcome::Refused(_) | Outcome::NotSent | Outcome::Failed)) | None => {
            "not applied"
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_write_is_asked_again_only_when_it_was_surely_not_applied_and_ends_in_one_class(
        count in 1u64..12, steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut judge = Judge::new(Op::Write { keys: keys(count) });
        judge.play(steps);
        for item in 0..count as u32 {
            let calls: Vec<_> =
                judge.world.sent.iter().filter(|call| call.items.contains(&item)).collect();
            for earlier in calls.iter().rev().skip(1) {
                let outcome = judge.outcome_of(earlier.id);
                prop_assert!(
                    matches!(outcome, Some(Outcome::Refused(_) | Outcome::NotSent)),
                    "item {} was asked again after {:?}", item, outcome
                );
            }
        }
        match judge.world.verdict.clone().unwrap() {
            Verdict::Complete { .. } => {
                for item in 0..count as u32 {
                    prop_assert_eq!(expected_state(&judge, item), "applied");
                }
            }
            Verdict::Incomplete(incomplete) => {
                for item in 0..count as u32 {
                    let classes = [
                        ("applied", &incomplete.applied),
                        ("not applied", &incomplete.not_applied),
                        ("unknown", &incomplete.unknown),
                    ];
                    let classes: Vec<_> = classes
                        .iter()
                        .filter(|(_, items)| items.contains(&item))
                        .map(|(name, _)| *name)
                        .collect();
                    prop_assert_eq!(classes, [expected_state(&judge, item)], "item {}", item);
                }
            }
        }
    }

    #[test]
    fn a_read_has_no_unknown_items(
        count in 1u64..6, steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut judge = Judge::new(Op::Read { keys: keys(count) });
        judge.play(steps);
        if let Some(Verdict::Incomplete(incomplete)) = &judge.world.verdict {
            prop_assert!(incomplete.unknown.is_empty());
        }
    }

    #[test]
    fn a_gather_is_every_shard_of_one_map_once_at_its_version_or_nothing(
        steps in prop::collection::vec(step(), 0..80)
    ) {
        let mut judge = Judge::new(Op::Gather);
        judge.play(steps);
        let Some(Verdict::Complete { version, calls }) = judge.world.verdict.clone() else {
            return Ok(());
        };
        let mut shards: Vec<ShardId> = Vec::new();
        for call in calls {
            let sent = judge.world.sent.iter().find(|sent| sent.id == call).unwrap();
            prop_assert_eq!(sent.version, version);
            prop_assert_eq!(judge.outcome_of(call), Some(&Outcome::Done { version }));
            shards.push(sent.shard);
        }
        shards.sort_unstable();
        let asked = judge.world.sent.iter().filter(|sent| sent.version == version);
        let mut all: Vec<ShardId> = asked.map(|sent| sent.shard).collect();
        all.sort_unstable();
        all.dedup();
        prop_assert_eq!(shards, all);
    }
}
