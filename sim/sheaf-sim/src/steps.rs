//! Carries out a plan: at which moment each step is due, and whom its names mean then.

use std::sync::Arc;

use sheaf_checkers::Phase;
use sheaf_types::{ShardId, TransitionId};

use crate::machine::Proc;
use crate::operator::Manner;
use crate::plan::{Deed, PhaseName, Ways, Who};
use crate::world::{Happening, Stage, World};

/// Microseconds from the clients' beginning to that of the faults.
const LEAD_US: u64 = 500_000;

impl World {
    /// From now on everything may fail.
    pub fn begin_safety(&mut self) {
        self.stage = Stage::Safety;
        self.knobs = self.drawn.clone();
        self.buggify_all();
        self.safety_from_us = self.now_us + LEAD_US;
        for (number, step) in self.steps.iter().enumerate() {
            if step.phase.is_none() && !matches!(step.deed, Deed::Call(_)) {
                let happening = Happening::Step { number };
                self.queue.plan(self.safety_from_us + step.at.0, happening);
            }
        }
        self.queue.plan(self.safety_from_us + self.drawn.safety_us, Happening::Heal);
    }

    /// The stored phase of a transition changed: some steps wait for that.
    pub fn phase_changed(&mut self, now: Option<(TransitionId, Phase)>) {
        let Some((_, phase)) = now else { return };
        if self.stage != Stage::Safety {
            return;
        }
        let phase = PhaseName::from(phase);
        self.phases_entered[phase as usize] += 1;
        let nth = self.phases_entered[phase as usize];
        for (number, step) in self.steps.iter().enumerate() {
            if step.phase == Some(phase) && step.nth == nth {
                self.queue.plan(self.now_us + step.at.0, Happening::Step { number });
            }
        }
    }

    /// A step is due.
    pub fn perform(&mut self, number: usize) {
        if self.stage != Stage::Safety {
            return;
        }
        let steps = Arc::clone(&self.steps);
        let Some(step) = steps.get(number) else { return };
        self.stats.faults += u64::from(step.deed.is_fault());
        match &step.deed {
            // Each client has its calls in a line of its own.
            Deed::Call(_) => {}
            Deed::Ask(wish) => self.wish(wish, Manner::Keyed),
            Deed::AskOnce(wish) => self.wish(wish, Manner::Once),
            Deed::AskExpecting(wish) => self.wish(wish, Manner::Expecting),
            Deed::Crash { who, down, instead } => {
                if let Some(proc) = self.find(*who) {
                    self.crash_for_a_while(proc, down.0, instead.unwrap_or(0));
                }
            }
            Deed::CrashAll { down } => self.crash_all(down.0),
            Deed::FillDisk { who, lasts } => {
                if let Some(Proc::Gate(gate)) = self.find(*who) {
                    self.gates[gate as usize].full_until_us = self.now_us + lasts.0;
                }
            }
            Deed::Freeze { who, lasts } => {
                let until = self.now_us + lasts.0;
                if let Some(machine) = self.find(*who).and_then(|it| self.machines.get_mut(&it)) {
                    machine.paused_until_us = machine.paused_until_us.max(until);
                }
            }
            Deed::Slow { who, times, lasts } => {
                if let Some(proc) = self.find(*who)
                    && let Some(machine) = self.machines.get_mut(&proc)
                {
                    machine.slowness = (*times).max(1);
                    self.queue.plan(self.now_us + lasts.0, Happening::SpeedUp { proc });
                }
            }
            Deed::Cut { who, ways, other, lasts } => {
                let ways = self.ways(*who, *ways, *other);
                let number = self.network.cut(ways);
                self.queue.plan(self.now_us + lasts.0, Happening::Uncut { number });
            }
            Deed::Jump { who, by } => {
                if let Some(proc) = self.find(*who) {
                    self.jump(proc, by.0);
                }
            }
            Deed::Takeover { coordinator } => {
                // The one that isn't up believes that it leads; the other doesn't know.
                let idle = (0..self.drawn.coordinators).map(Proc::Coordinator);
                let idle: Vec<Proc> = idle.filter(|proc| self.life(*proc).is_none()).collect();
                if let Some(proc) = pick(&idle, *coordinator) {
                    self.start(proc, 0);
                }
            }
        }
    }

    /// Whom a name means now.
    fn find(&self, who: Who) -> Option<Proc> {
        match who {
            Who::Gate(n) => Some(Proc::Gate(n % self.drawn.gates)),
            Who::Router(n) => Some(Proc::Router(n % self.drawn.routers)),
            Who::Coordinator(n) => Some(Proc::Coordinator(n % self.drawn.coordinators)),
            Who::Leader => (0..self.drawn.coordinators)
                .map(Proc::Coordinator)
                .find(|proc| self.life(*proc).is_some()),
            Who::Donor(n) => self.in_transition(n, true),
            Who::Recipient(n) => self.in_transition(n, false),
        }
    }

    fn in_transition(&self, n: u32, donor: bool) -> Option<Proc> {
        let record = self.store.record();
        let running = record.transition.as_ref()?;
        let shard = pick(if donor { &running.donors } else { &running.recipients }, n)?;
        let known = [&running.next, &record.map].into_iter().find_map(|map| map.shard(shard));
        let retiring = || {
            let retiring = record.retiring.iter().map(|retiring| &retiring.shard);
            retiring.into_iter().find(|entry| entry.id == shard)
        };
        self.gate_at(&known.or_else(retiring)?.primary_url)
    }

    fn ways(&self, who: Who, ways: Ways, other: Option<Who>) -> Vec<(Proc, Proc)> {
        let Some(one) = self.find(who) else { return Vec::new() };
        let all = self.machines.procs().filter(|proc| *proc != one);
        let other = other.and_then(|other| self.find(other)).filter(|other| *other != one);
        let both = |proc| [(one, proc), (proc, one)];
        match ways {
            Ways::Isolate => all.flat_map(both).collect(),
            Ways::Mute => all.map(|proc| (one, proc)).collect(),
            Ways::Deafen => all.map(|proc| (proc, one)).collect(),
            Ways::Coordinators => {
                all.filter(|proc| matches!(proc, Proc::Coordinator(_))).flat_map(both).collect()
            }
            Ways::Pair => other.into_iter().flat_map(both).collect(),
            Ways::OneWay => other.into_iter().map(|proc| (one, proc)).collect(),
        }
    }

    /// The shard that this number means in the current map.
    pub fn shard_at(&self, n: u32) -> Option<ShardId> {
        let record = self.store.record();
        let shards: Vec<ShardId> = record.map.shards().iter().map(|shard| shard.id).collect();
        pick(&shards, n)
    }
}

/// The one that a number means among those that there are.
pub fn pick<T: Copy>(from: &[T], n: u32) -> Option<T> {
    if from.is_empty() { None } else { Some(from[n as usize % from.len()]) }
}
