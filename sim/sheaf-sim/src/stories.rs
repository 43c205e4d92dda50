//! Stories: one change of the cluster, one fault at a chosen moment; the checkers judge.
//!
//! A story names its fault and runs like any seed: first everything may fail, then it must also finish.

use sheaf_checkers::Phase;
use sheaf_coordinator::{Ask, AskedOptions, NewShard};
use sheaf_map::Weight;
use sheaf_types::ShardId;

use crate::gate_node::url_of;
use crate::knobs::Knobs;
use crate::machine::Proc;
use crate::world::{Happening, World};

/// What the operator does in a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Grow,
    GrowByTwo,
    Drain,
    Replace,
    Reweight,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    Nothing,
    /// The operator cancels.
    Cancel,
    CrashCoordinator,
    /// A donor crashes: a shard that is in the map.
    CrashDonor,
    /// The new node crashes.
    CrashRecipient,
    CrashRouter,
    /// All of them at once.
    CrashAll,
}

/// A change, and what goes wrong when the transition enters a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Story {
    pub change: Change,
    pub twist: Twist,
    pub phase: Phase,
}

/// A planned step of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Ask(Change),
    Twist(Twist),
}

const CHANGES: [(&str, Change); 5] = [
    ("grow", Change::Grow),
    ("grow-by-two", Change::GrowByTwo),
    ("drain", Change::Drain),
    ("replace", Change::Replace),
    ("reweight", Change::Reweight),
];

const TWISTS: [(&str, Twist); 7] = [
    ("calm", Twist::Nothing),
    ("cancel", Twist::Cancel),
    ("crash-coordinator", Twist::CrashCoordinator),
    ("crash-donor", Twist::CrashDonor),
    ("crash-recipient", Twist::CrashRecipient),
    ("crash-router", Twist::CrashRouter),
    ("crash-all", Twist::CrashAll),
];

const PHASES: [(&str, Phase); 4] = [
    ("prepare", Phase::Prepare),
    ("copy", Phase::Copy),
    ("fence", Phase::Fence),
    ("sweep", Phase::Sweep),
];

/// Every story with its name: `grow.crash-donor.fence`.
pub fn all() -> Vec<(String, Story)> {
    let mut stories = Vec::new();
    for (change_name, change) in CHANGES {
        for (twist_name, twist) in TWISTS {
            for (phase_name, phase) in PHASES {
                if twist == Twist::Nothing && phase != Phase::Prepare {
                    continue;
                }
                let name = format!("{change_name}.{twist_name}.{phase_name}");
                stories.push((name, Story { change, twist, phase }));
            }
        }
    }
    stories
}

/// The story of this name.
pub fn named(name: &str) -> Option<Story> {
    all().into_iter().find(|(known, _)| known == name).map(|(_, story)| story)
}

/// What a story's cluster is like.
pub fn knobs() -> Knobs {
    Knobs {
        gates: 5,
        first_shards: 3,
        operator_us: None,
        safety_us: 6_000_000,
        think_us: 20_000,
        ..Knobs::calm()
    }
}

impl World {
    /// Plans a story: the operator's change, and the twist when the phase begins.
    pub fn tell(&mut self, story: Story) {
        self.story = vec![Step::Ask(story.change), Step::Twist(story.twist)];
        self.twist_at = Some(story.phase);
        self.queue.plan(2_000_000, Happening::Story { step: 0 });
    }

    /// A step of the story.
    pub fn play(&mut self, step: usize) {
        match self.story.get(step).copied() {
            Some(Step::Ask(change)) => {
                let ask = ask_of(change);
                self.ask(ask, false);
            }
            Some(Step::Twist(twist)) => self.twist(twist),
            None => {}
        }
    }

    /// The transition has entered a phase: the twist follows within a few milliseconds.
    pub fn story_phase(&mut self, phase: Phase) {
        if self.twist_at == Some(phase) {
            self.twist_at = None;
            let after_us = self.dice.faults.below(12_000);
            self.queue.plan(self.now_us + after_us, Happening::Story { step: 1 });
        }
    }

    fn twist(&mut self, twist: Twist) {
        let victims: Vec<Proc> = match twist {
            Twist::Nothing => Vec::new(),
            Twist::Cancel => {
                if let Some(running) = &self.store.record().transition {
                    let transition = running.id;
                    self.ask(Ask::Cancel { transition }, false);
                }
                Vec::new()
            }
            Twist::CrashCoordinator => vec![Proc::Coordinator(0), Proc::Coordinator(1)],
            Twist::CrashDonor => vec![Proc::Gate(1)],
            Twist::CrashRecipient => vec![Proc::Gate(3)],
            Twist::CrashRouter => vec![Proc::Router(0)],
            Twist::CrashAll => self.machines.keys().copied().collect(),
        };
        for victim in victims {
            self.stats.faults += 1;
            self.crash_for_a_while(victim);
        }
    }
}

fn ask_of(change: Change) -> Ask {
    let options = AskedOptions::default();
    match change {
        Change::Grow => Ask::Grow { shards: vec![NewShard::at(&url_of(3))], options },
        Change::GrowByTwo => {
            Ask::Grow { shards: vec![NewShard::at(&url_of(3)), NewShard::at(&url_of(4))], options }
        }
        Change::Drain => Ask::Drain { shard: ShardId(2), options },
        Change::Replace => {
            Ask::Replace { shard: ShardId(2), with: NewShard::at(&url_of(3)), options }
        }
        Change::Reweight => {
            let weight = Weight::from_thousandths(3_000).unwrap_or(Weight::ONE);
            Ask::Reweight { shard: ShardId(2), weight, options }
        }
    }
}
