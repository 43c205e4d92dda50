//! What a fault does: processes end and start again, crash between two effects, and are healed at last. Plans say when.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_stores::StoreError;
use sheaf_types::buggify::Buggify;
use sheaf_types::mark;

use crate::machine::Proc;
use crate::record_disk::RecordDisk;
use crate::world::{Happening, Stage, World};

/// What clocks show when a run begins, and by how much they may differ, in milliseconds.
pub const EPOCH_MS: u64 = 1_700_000_000_000;
pub const SKEW_MS_MAX: u64 = 20_000;

impl World {
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

    /// A process's clock goes ahead by this much; what it waits for may be due at once.
    pub fn jump(&mut self, proc: Proc, by_us: u64) {
        let Some(machine) = self.machines.get_mut(&proc) else { return };
        machine.clock.offset_ms += by_us / 1_000;
        if machine.up && machine.wake_us.is_some() {
            mark!("a clock jumps ahead while something is waited for");
            let at_us = self.now_us + 1;
            machine.wake_us = Some(at_us);
            let life = machine.life;
            self.queue.plan(at_us, Happening::Wake { proc, life });
        }
    }

    /// A process that starts reads its machine's clock anew: somebody may have set it, forth or back.
    pub fn set_clock(&mut self, proc: Proc) {
        if self.stage != Stage::Safety || !self.knobs.clock_skew {
            return;
        }
        let dice = self.dice.processes.of(proc.code());
        if !dice.chance(0.3) {
            return;
        }
        let offset_ms = EPOCH_MS + dice.below(SKEW_MS_MAX);
        if let Some(machine) = self.machines.get_mut(&proc) {
            mark!(
                offset_ms < machine.clock.offset_ms,
                "a process starts with a clock that was set back"
            );
            machine.clock.offset_ms = offset_ms;
        }
    }

    /// The rare turns of a process's core: those of its machine, while there are faults.
    pub fn buggify_of(&self, proc: Proc) -> Buggify {
        match self.stage == Stage::Safety && self.knobs.buggify {
            true => Buggify::of(self.seed ^ proc.code()),
            false => Buggify::default(),
        }
    }

    /// Tells all cores whether they take rare turns.
    pub fn buggify_all(&mut self) {
        let procs: Vec<Proc> = self.machines.procs().collect();
        for proc in procs {
            let buggify = self.buggify_of(proc);
            match proc {
                Proc::Gate(n) => {
                    if let Some(core) = &mut self.gates[n as usize].core {
                        core.set_buggify(buggify);
                    }
                }
                Proc::Coordinator(n) => self.coordinators[n as usize].set_buggify(buggify),
                // A router's core lives for one operation.
                Proc::Router(_) | Proc::Client(_) | Proc::Operator => {}
            }
        }
    }

    /// Crashes a process; it starts again after a while, or, if no coordinator is left, the one named.
    pub fn crash_for_a_while(&mut self, proc: Proc, down_us: u64, instead: u32) {
        if self.life(proc).is_none() {
            return;
        }
        self.stats.crashes += 1;
        self.log(|| format!("crash {proc:?}"));
        self.stop(proc);
        let again = match proc {
            Proc::Coordinator(_) => {
                let any_up =
                    (0..self.drawn.coordinators).any(|n| self.life(Proc::Coordinator(n)).is_some());
                if any_up {
                    return;
                }
                Proc::Coordinator(instead % self.drawn.coordinators)
            }
            _ => proc,
        };
        self.start(again, down_us);
    }

    /// The power goes: every server dies, and starts again.
    pub fn crash_all(&mut self, down_us: u64) {
        mark!("all servers die at once");
        let procs: Vec<Proc> = self.machines.procs().collect();
        for proc in procs {
            self.crash_for_a_while(proc, down_us, 0);
        }
    }

    /// Whether the process died before its next effect.
    pub fn crashed_between(&mut self, proc: Proc, life: u32) -> bool {
        if self.life(proc) != Some(life) {
            return true;
        }
        if self.stage != Stage::Safety || self.knobs.crash_between == 0.0 {
            return false;
        }
        let dice = self.dice.crashes.of(proc.code());
        if !dice.chance(self.knobs.crash_between) {
            return false;
        }
        let mean = [5_000, 200_000, 2_000_000][dice.below(3) as usize];
        let down_us = dice.around(mean);
        let instead = dice.below(u64::from(self.drawn.coordinators)) as u32;
        self.stats.faults += 1;
        mark!("a process dies between two effects of one event");
        self.crash_for_a_while(proc, down_us, instead);
        true
    }

    /// The power goes while a record is written. Returns the disk, and whether the new record is in its place.
    pub fn record_at_power_cut<T: Serialize + DeserializeOwned>(
        &mut self,
        before: &T,
        record: &T,
        number: u64,
    ) -> (Option<RecordDisk>, bool) {
        let cut = RecordDisk::holding(before, number)
            .and_then(|disk| disk.write_at_power_cut(record).map(|left| (disk, left)));
        match cut {
            Ok((disk, left)) => {
                if left.confirmed && !left.changed {
                    self.broken("I5 durable", "a record that was said to be durable is gone");
                }
                (Some(disk), left.changed)
            }
            Err(error) => {
                self.broken("I5 durable", &format!("a record can't be written: {error}"));
                (None, false)
            }
        }
    }

    /// Has a process that starts read its record as the real store does; `flip`: with a wrong bit, drawn from that number. When the
    /// store refuses that, the operator puts the file back and starts the process again. Returns whether it starts now.
    pub fn record_is_read<T: Serialize + DeserializeOwned + PartialEq + Debug>(
        &mut self,
        proc: Proc,
        disk: Option<RecordDisk>,
        record: &T,
        flip: Option<u64>,
    ) -> bool {
        if disk.is_none() && flip.is_none() {
            return true;
        }
        let disk = disk.map_or_else(|| RecordDisk::holding(record, flip.unwrap_or_default()), Ok);
        let read = disk.and_then(|disk| {
            flip.inspect(|_| disk.flip_a_bit());
            disk.read::<T>()
        });
        match read {
            Ok(Some(found)) if found == *record => true,
            Err(StoreError::Damaged(reason)) if flip.is_some() => {
                self.stats.faults += 1;
                self.log(|| format!("{proc:?} doesn't start: {reason}"));
                let after_us = 100_000 + self.dice.processes.of(proc.code()).around(1_000_000);
                self.start(proc, after_us);
                false
            }
            read => {
                self.broken("I5 durable", &format!("{proc:?} reads {read:?} for {record:?}"));
                false
            }
        }
    }

    /// Ends all faults for ever.
    pub fn heal(&mut self) {
        self.log(|| "heal".to_owned());
        self.stage = Stage::Liveness;
        self.healed_us = self.now_us;
        self.knobs.heal();
        self.gates.iter_mut().for_each(|gate| gate.full_until_us = 0);
        self.buggify_all();
        self.network.uncut_all();
        let procs: Vec<Proc> = self.machines.procs().collect();
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
