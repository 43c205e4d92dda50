//! Faults: who crashes, freezes, slows down, is cut off or deposed, and when. The knobs say how often.

use sheaf_checkers::Phase;
use sheaf_types::TransitionId;

use crate::machine::Proc;
use crate::world::{Happening, Stage, World};

/// A kind of fault that strikes again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    CrashGate,
    CrashCoordinator,
    CrashRouter,
    Pause,
    Slow,
    Cut,
    Takeover,
}

const ALL: [Fault; 7] = [
    Fault::CrashGate,
    Fault::CrashCoordinator,
    Fault::CrashRouter,
    Fault::Pause,
    Fault::Slow,
    Fault::Cut,
    Fault::Takeover,
];

impl World {
    /// From now on everything may fail; `after_us` from now the faults begin.
    pub fn begin_safety(&mut self, after_us: u64) {
        self.stage = Stage::Safety;
        self.knobs = self.drawn.clone();
        for fault in ALL {
            self.plan_fault(fault, after_us);
        }
        self.queue.plan(self.now_us + after_us, Happening::Operate);
        self.queue.plan(self.now_us + after_us + self.drawn.safety_us, Happening::Heal);
    }

    fn plan_fault(&mut self, fault: Fault, after_us: u64) {
        let every = match fault {
            Fault::CrashGate => self.knobs.crash_gate_every_us,
            Fault::CrashCoordinator => self.knobs.crash_coordinator_every_us,
            Fault::CrashRouter => self.knobs.crash_router_every_us,
            Fault::Pause => self.knobs.pause_every_us,
            Fault::Slow => self.knobs.slow_every_us,
            Fault::Cut => self.knobs.cut_every_us,
            Fault::Takeover => self.knobs.takeover_every_us,
        };
        if let Some(mean) = every {
            let at_us = self.now_us + after_us + self.dice.faults.around(mean);
            self.queue.plan(at_us, Happening::Fault(fault));
        }
    }

    /// A fault strikes.
    pub fn strike(&mut self, fault: Fault) {
        if self.stage != Stage::Safety {
            return;
        }
        self.stats.faults += 1;
        match fault {
            Fault::CrashGate => {
                let gate = self.dice.faults.below(u64::from(self.drawn.gates)) as u32;
                self.crash_for_a_while(Proc::Gate(gate));
            }
            Fault::CrashCoordinator => {
                let n = self.dice.faults.below(u64::from(self.drawn.coordinators)) as u32;
                self.crash_for_a_while(Proc::Coordinator(n));
            }
            Fault::CrashRouter => {
                let n = self.dice.faults.below(u64::from(self.drawn.routers)) as u32;
                self.crash_for_a_while(Proc::Router(n));
            }
            Fault::Pause => self.pause(),
            Fault::Slow => self.slow(),
            Fault::Cut => self.cut(),
            Fault::Takeover => {
                // The one that isn't up believes that it leads; the other doesn't know.
                let idle = (0..self.drawn.coordinators).map(Proc::Coordinator);
                let idle: Vec<Proc> = idle.filter(|proc| self.life(*proc).is_none()).collect();
                if let Some(proc) = self.dice.faults.pick(&idle).copied() {
                    self.start(proc, 0);
                }
            }
        }
        self.plan_fault(fault, 0);
    }

    fn some_server(&mut self) -> Option<Proc> {
        let servers: Vec<Proc> = self.machines.keys().copied().collect();
        self.dice.faults.pick(&servers).copied()
    }

    fn pause(&mut self) {
        let mean = *self.dice.faults.pick(&[20_000, 300_000, 3_000_000]).unwrap_or(&20_000);
        let until = self.now_us + self.dice.faults.around(mean);
        if let Some(machine) = self.some_server().and_then(|proc| self.machines.get_mut(&proc)) {
            machine.paused_until_us = machine.paused_until_us.max(until);
        }
    }

    fn slow(&mut self) {
        let slowness = self.dice.faults.between(5, 60);
        let until = self.now_us + self.dice.faults.around(2_000_000);
        let Some(proc) = self.some_server() else { return };
        if let Some(machine) = self.machines.get_mut(&proc) {
            machine.slowness = slowness;
        }
        self.queue.plan(until, Happening::SpeedUp { proc });
    }

    fn cut(&mut self) {
        let servers: Vec<Proc> = self.machines.keys().copied().collect();
        let (Some(one), Some(other)) = (self.some_server(), self.some_server()) else { return };
        let others = || servers.iter().copied().filter(|proc| *proc != one);
        let coordinators =
            || servers.iter().copied().filter(|proc| matches!(proc, Proc::Coordinator(_)));
        let ways: Vec<(Proc, Proc)> = match self.dice.faults.below(8) {
            0..3 => others().flat_map(|proc| [(one, proc), (proc, one)]).collect(),
            3 => others().map(|proc| (one, proc)).collect(),
            4 => others().map(|proc| (proc, one)).collect(),
            5 => vec![(one, other)],
            6 => vec![(one, other), (other, one)],
            _ => coordinators()
                .filter(|proc| *proc != one)
                .flat_map(|proc| [(one, proc), (proc, one)])
                .collect(),
        };
        let number = self.network.cut(ways);
        let mean = *self.dice.faults.pick(&[100_000, 1_000_000, 4_000_000]).unwrap_or(&100_000);
        let at_us = self.now_us + 50_000 + self.dice.faults.around(mean);
        self.queue.plan(at_us, Happening::Uncut { number });
    }

    /// Ends a process as `kill -9` does, without a new start.
    pub fn stop(&mut self, proc: Proc) {
        let Some(machine) = self.machines.get_mut(&proc) else { return };
        if !machine.up {
            return;
        }
        machine.up = false;
        machine.life += 1;
        machine.wake_us = None;
        machine.paused_until_us = 0;
        match proc {
            Proc::Gate(gate) => self.crash_gate(gate),
            Proc::Coordinator(n) => self.crash_coordinator(n),
            Proc::Router(n) => self.crash_router(n),
            Proc::Client(_) | Proc::Operator => {}
        }
        self.reset_connections(proc);
    }

    /// Starts a process that is down.
    pub fn start(&mut self, proc: Proc, after_us: u64) {
        let Some(machine) = self.machines.get(&proc) else { return };
        let life = machine.life;
        self.queue.plan(self.now_us + 1 + after_us, Happening::Boot { proc, life });
    }

    /// Crashes a process; it, or for a coordinator any of them, starts again after a while.
    pub fn crash_for_a_while(&mut self, proc: Proc) {
        if self.life(proc).is_none() {
            return;
        }
        self.stats.crashes += 1;
        self.log(|| format!("crash {proc:?}"));
        self.stop(proc);
        let mean = *self.dice.faults.pick(&[5_000, 200_000, 2_000_000]).unwrap_or(&5_000);
        let after_us = self.dice.faults.around(mean);
        let again = match proc {
            Proc::Coordinator(_) => {
                let n = self.dice.faults.below(u64::from(self.drawn.coordinators)) as u32;
                let any_up =
                    (0..self.drawn.coordinators).any(|n| self.life(Proc::Coordinator(n)).is_some());
                if any_up {
                    return;
                }
                Proc::Coordinator(n)
            }
            _ => proc,
        };
        self.start(again, after_us);
    }

    /// Whether the process died before its next effect.
    pub fn crashed_between(&mut self, proc: Proc, life: u32) -> bool {
        if self.life(proc) != Some(life) {
            return true;
        }
        if self.stage == Stage::Safety && self.dice.faults.chance(self.knobs.crash_between) {
            self.stats.faults += 1;
            self.crash_for_a_while(proc);
            return true;
        }
        false
    }

    /// The stored phase of a transition changed: a good moment for someone to die.
    pub fn phase_changed(&mut self, now: Option<(TransitionId, Phase)>) {
        if let Some((_, phase)) = now {
            self.story_phase(phase);
        }
        if self.stage != Stage::Safety || !self.dice.faults.chance(self.knobs.crash_at_phase) {
            return;
        }
        let Some(proc) = self.some_server() else { return };
        let after_us = self.dice.faults.around(10_000);
        self.queue.plan(self.now_us + after_us, Happening::Doom { proc });
    }

    /// Ends all faults for ever.
    pub fn heal(&mut self) {
        self.log(|| "heal".to_owned());
        self.stage = Stage::Liveness;
        self.healed_us = self.now_us;
        self.knobs.heal();
        self.network.uncut_all();
        let procs: Vec<Proc> = self.machines.keys().copied().collect();
        for proc in &procs {
            if let Some(machine) = self.machines.get_mut(proc) {
                machine.slowness = 1;
                machine.paused_until_us = machine.paused_until_us.min(self.now_us);
            }
            if self.life(*proc).is_none() && !matches!(proc, Proc::Coordinator(_)) {
                self.start(*proc, 0);
            }
        }
        // An election would give the lead to another one where all that run are deposed.
        let term = self.store.record().term;
        if !self.coordinators.iter().any(|node| node.is_of_term(term)) {
            let mut coordinators = (0..self.drawn.coordinators).map(Proc::Coordinator);
            let idle = coordinators.find(|proc| self.life(*proc).is_none());
            self.start(idle.unwrap_or(Proc::Coordinator(0)), 0);
        }
        self.fact(sheaf_checkers::Fact::Healed);
        self.queue.plan(self.now_us + 10_000, Happening::Operate);
        self.queue.plan(self.now_us + 500_000, Happening::LookAround);
    }
}
