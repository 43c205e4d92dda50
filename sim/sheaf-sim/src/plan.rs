//! What a run is to do, apart from its chance: a world, and steps with their times. The same plan and seed make the same run.
//!
//! Steps name what they are about by numbers that are taken modulo what there is, so that each makes sense without the others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sheaf_checkers::Phase;

use crate::knobs::Knobs;
use crate::span::Span;

/// A run, before it happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Of all that is left to chance: latencies, losses, what a crash does to a write under way.
    pub seed: u64,
    pub knobs: Knobs,
    pub steps: Vec<Step>,
}

/// One step. Happens only while there are faults; calls go on until all is quiet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// After the beginning of the faults, or of the phase.
    pub at: Span,
    /// Counts `at` from a transition's entry into this phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseName>,
    /// Which entry into that phase in the run, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub nth: u32,
    #[serde(rename = "do")]
    pub deed: Deed,
}

impl Step {
    /// A step at a time after the beginning of the faults.
    pub fn at(at: Span, deed: Deed) -> Self {
        Self { at, phase: None, nth: 1, deed }
    }
}

fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_first(nth: &u32) -> bool {
    *nth == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A phase of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    Prepare,
    Copy,
    Fence,
    Sweep,
    Abort,
}

impl PhaseName {
    pub const ALL: [Self; 5] = [Self::Prepare, Self::Copy, Self::Fence, Self::Sweep, Self::Abort];
}

impl From<Phase> for PhaseName {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Prepare => Self::Prepare,
            Phase::Copy => Self::Copy,
            Phase::Fence => Self::Fence,
            Phase::Sweep => Self::Sweep,
            Phase::Abort => Self::Abort,
        }
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Deed {
    Call(ClientCall),
    /// The operator asks, with a key, and repeats it until there is an answer.
    Ask(Wish),
    /// Without a key: never repeated.
    AskOnce(Wish),
    /// Only if the map is what it is at that moment.
    AskExpecting(Wish),
    /// Ends a process as `kill -9` does, and starts it again.
    Crash {
        who: Who,
        down: Span,
        /// The coordinator that starts instead, if none is up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instead: Option<u32>,
    },
    /// Ends all coordinators, gates and routers at once, as a power cut does, and starts them again.
    CrashAll {
        down: Span,
    },
    /// A gate's engine has no room: it refuses every write.
    FillDisk {
        who: Who,
        lasts: Span,
    },
    /// Freezes a process.
    Freeze {
        who: Who,
        lasts: Span,
    },
    /// Makes all that a process does take so many times longer.
    Slow {
        who: Who,
        times: u64,
        lasts: Span,
    },
    /// Closes ways between processes.
    Cut {
        who: Who,
        ways: Ways,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        other: Option<Who>,
        lasts: Span,
    },
    /// A process's clock goes ahead at once by this much, as after a machine that slept.
    Jump {
        who: Who,
        by: Span,
    },
    /// A coordinator that isn't up starts, while another one reigns.
    Takeover {
        coordinator: u32,
    },
}

impl Deed {
    /// Whether it makes something go wrong.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Crash { .. }
                | Self::CrashAll { .. }
                | Self::FillDisk { .. }
                | Self::Freeze { .. }
                | Self::Slow { .. }
                | Self::Cut { .. }
                | Self::Jump { .. }
                | Self::Takeover { .. }
        )
    }
}

/// A client's call. A client that is busy then does it as soon as it can.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCall {
    pub client: u32,
    pub router: u32,
    #[serde(default = "patience", skip_serializing_if = "is_patience")]
    pub timeout_ms: u64,
    /// On the collection that comes and goes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub temporary: bool,
    pub work: Job,
}

fn patience() -> u64 {
    4_000
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_patience(ms: &u64) -> bool {
    *ms == patience()
}

/// What a client wants done: points by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    Upsert(Vec<u64>),
    Delete(Vec<u64>),
    Get(u64),
    Gather,
}

/// What an operator wants: shards of the map by number, nodes by their number among those that are free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    Grow {
        nodes: Vec<u32>,
        #[serde(default, skip_serializing_if = "WishOptions::is_plain")]
        options: WishOptions,
    },
    Drain {
        shard: u32,
        #[serde(default, skip_serializing_if = "WishOptions::is_plain")]
        options: WishOptions,
    },
    Replace {
        shard: u32,
        node: u32,
        #[serde(default, skip_serializing_if = "WishOptions::is_plain")]
        options: WishOptions,
    },
    Reweight {
        shard: u32,
        thousandths: u32,
        #[serde(default, skip_serializing_if = "WishOptions::is_plain")]
        options: WishOptions,
    },
    /// The running transition.
    Cancel,
    Pause,
    Resume,
    Unthrottle,
    /// A transition by its id, whether it runs or not.
    CancelNumber(u64),
    /// The collection that comes and goes.
    Create,
    Drop,
    /// With a node by its number among all: refused when it is a shard already.
    GrowInto(u32),
    /// Without accepting the loss: refused when it owns anything.
    Remove {
        shard: u32,
    },
}

/// How a transition is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WishOptions {
    #[serde(skip_serializing_if = "is_false")]
    pub by_hand: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence_budget_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points_per_s_max: Option<u64>,
}

impl WishOptions {
    fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Which ways are cut, of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ways {
    /// To and from all servers.
    Isolate,
    /// To all servers: nobody hears it.
    Mute,
    /// From all servers: it hears nobody.
    Deafen,
    /// To and from the coordinators.
    Coordinators,
    /// To and from the other one.
    Pair,
    /// To the other one.
    OneWay,
}

/// A process, by its number or by its part in the running transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Who {
    Gate(u32),
    Router(u32),
    Coordinator(u32),
    /// The coordinator that is up.
    Leader,
    /// A shard that gives points away.
    Donor(u32),
    /// A shard that gets points.
    Recipient(u32),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate(n) => write!(f, "gate {n}"),
            Self::Router(n) => write!(f, "router {n}"),
            Self::Coordinator(n) => write!(f, "coordinator {n}"),
            Self::Leader => write!(f, "leader"),
            Self::Donor(n) => write!(f, "donor {n}"),
            Self::Recipient(n) => write!(f, "recipient {n}"),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is nobody: write \"leader\", or \"gate\", \"router\", \"coordinator\", \"donor\" or \
                 \"recipient\" with a number, such as \"gate 2\""
            )
        };
        let (kind, number) = text.split_once(' ').unwrap_or((text, ""));
        let number = || number.parse::<u32>().map_err(|_| wrong());
        match kind {
            "leader" => Ok(Self::Leader),
            "gate" => number().map(Self::Gate),
            "router" => number().map(Self::Router),
            "coordinator" => number().map(Self::Coordinator),
            "donor" => number().map(Self::Donor),
            "recipient" => number().map(Self::Recipient),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Who {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Who> for String {
    fn from(who: Who) -> Self {
        who.to_string()
    }
}

impl Plan {
    /// What people count: steps, and faults that are on throughout.
    pub fn size(&self) -> usize {
        self.steps.len() + self.knobs.faults()
    }

    /// Whether a world can be made of it.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), String> {
        self.knobs.check()?;
        for step in &self.steps {
            let Step { at, phase, deed, .. } = step;
            let late = phase.is_none() && at.0 >= self.knobs.safety_us;
            if late && !matches!(deed, Deed::Call(_)) {
                let end = Span(self.knobs.safety_us);
                return Err(format!(
                    "the step at {at} never happens, as everything is healed at {end}: raise knobs.safety_us"
                ));
            }
            match deed {
                Deed::Cut { ways: Ways::Pair | Ways::OneWay, other: None, .. } => {
                    return Err(format!("the cut at {at} needs an `other`"));
                }
                Deed::Call(call) if matches!(&call.work, Job::Upsert(ids) | Job::Delete(ids) if ids.is_empty()) =>
                {
                    return Err(format!("the call at {at} names no point"));
                }
                Deed::Ask(Wish::Grow { nodes, .. }) if nodes.is_empty() => {
                    return Err(format!("the grow at {at} names no node"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
