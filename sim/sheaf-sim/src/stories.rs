//! Stories: one change of the cluster, one fault at a chosen moment; the checkers judge.
//!
//! A story is a plan like any other: first everything may fail, then it must also finish.

use crate::dice::{Dice, Purpose};
use crate::draw::{calls, crash};
use crate::knobs::Knobs;
use crate::plan::{Deed, PhaseName, Plan, Step, Who, Wish, WishOptions};
use crate::span::Span;

/// When the operator makes a second collection, after the clients began.
const CREATED: Span = Span::ms(50);
/// When the operator asks for the change.
const ASKED: Span = Span::ms(300);

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
    CrashDonor,
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
    pub phase: PhaseName,
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

const PHASES: [(&str, PhaseName); 4] = [
    ("prepare", PhaseName::Prepare),
    ("copy", PhaseName::Copy),
    ("fence", PhaseName::Fence),
    ("sweep", PhaseName::Sweep),
];

/// Every story with its name: `grow.crash-donor.fence`.
pub fn all() -> Vec<(String, Story)> {
    let mut stories = Vec::new();
    for (change_name, change) in CHANGES {
        for (twist_name, twist) in TWISTS {
            for (phase_name, phase) in PHASES {
                if twist == Twist::Nothing && phase != PhaseName::Prepare {
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
fn knobs() -> Knobs {
    Knobs { gates: 5, first_shards: 3, safety_us: 6_000_000, ..Knobs::calm() }
}

/// The story as a plan.
pub fn plan(story: Story, seed: u64) -> Plan {
    let knobs = knobs();
    let mut steps = calls(seed, &knobs, 20_000);
    steps.push(Step::at(CREATED, Deed::Ask(Wish::Create)));
    steps.push(Step::at(ASKED, Deed::Ask(wish(story.change))));
    let mut dice = Dice::new(seed, Purpose::Faults, 0);
    // Within a few milliseconds.
    let at = Span(dice.below(12_000));
    let deeds: Vec<Deed> = match story.twist {
        Twist::Nothing => Vec::new(),
        Twist::Cancel => vec![Deed::Ask(Wish::Cancel)],
        Twist::CrashCoordinator => vec![crash(Who::Leader, &mut dice, &knobs)],
        Twist::CrashDonor => vec![crash(Who::Donor(0), &mut dice, &knobs)],
        Twist::CrashRecipient => vec![crash(Who::Recipient(0), &mut dice, &knobs)],
        Twist::CrashRouter => vec![crash(Who::Router(0), &mut dice, &knobs)],
        Twist::CrashAll => {
            let gates = (0..knobs.gates).map(Who::Gate);
            let routers = (0..knobs.routers).map(Who::Router);
            let all = [Who::Leader].into_iter().chain(gates).chain(routers);
            all.map(|who| crash(who, &mut dice, &knobs)).collect()
        }
    };
    let phase = Some(story.phase);
    steps.extend(deeds.into_iter().map(|deed| Step { at, phase, nth: 1, deed }));
    Plan { seed, knobs, steps }
}

fn wish(change: Change) -> Wish {
    let options = WishOptions::default();
    match change {
        Change::Grow => Wish::Grow { nodes: vec![0], options },
        Change::GrowByTwo => Wish::Grow { nodes: vec![0, 1], options },
        Change::Drain => Wish::Drain { shard: 1, options },
        Change::Replace => Wish::Replace { shard: 1, node: 0, options },
        Change::Reweight => Wish::Reweight { shard: 1, thousandths: 3_000, options },
    }
}
