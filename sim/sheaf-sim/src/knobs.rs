//! What a world is like: its size, the faults that are on throughout and how often, how the network, the disks and the clients behave.
//!
//! A swarm: most seeds lack most faults, so that runs differ in kind and not only in luck.

use serde::{Deserialize, Serialize};
use sheaf_gate::Limits;

use crate::dice::{Dice, Purpose};

/// The likelihoods and sizes of one run. Times are microseconds unless named otherwise. What a file leaves out is calm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    pub gates: u32,
    pub first_shards: u32,
    pub routers: u32,
    pub clients: u32,
    pub coordinators: u32,
    pub ids: u64,
    /// How long things may go wrong.
    pub safety_us: u64,
    /// Every id is written once before anything goes wrong.
    pub preload: bool,
    /// The first shards are those of a cluster that was there before Sheaf, with strays (ADR 0006).
    pub adopted: bool,
    /// If so, it is taken over while things go wrong already.
    pub adopted_amid_faults: bool,

    pub delay_min_us: u64,
    pub delay_mean_us: u64,
    pub straggler: f64,
    pub loss: f64,
    pub duplicate: f64,

    /// A crash between two effects of one event.
    pub crash_between: f64,
    pub clock_skew: bool,
    pub spurious_tick: f64,

    pub engine_mean_us: u64,
    pub engine_unavailable: f64,
    pub engine_unknown: f64,
    /// Of the writes of unknown outcome, those that are applied after the gate was told so.
    pub engine_late: f64,
    /// Of the writes that an engine says it has done, those that it hasn't: no system survives that. The canary's; no seed draws it.
    pub engine_forgets: f64,
    pub engine_page_max: u64,
    pub fsync_mean_us: u64,
    pub store_mean_us: u64,
    pub store_unknown: f64,
    /// Of the starts of a coordinator, those on a record that the store has had before.
    pub store_stale: f64,
    /// Of the deaths of a gate, or of the only coordinator, while its record is being written: those by which the power goes.
    pub record_torn: f64,
    /// Of the starts of a gate, or of the only coordinator: those with a flipped bit in its record.
    pub record_flipped: f64,

    /// Rare but legal turns in the cores.
    pub buggify: bool,
    /// What a gate does at once, and holds.
    pub limits: Limits,
}

/// How often things are done in a plan that is drawn.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// Between two calls of a client.
    pub think_us: u64,
    /// `None`: the operator does nothing by itself.
    pub operator_us: Option<u64>,
    pub cut_every_us: Option<u64>,
    pub crash_gate_every_us: Option<u64>,
    pub crash_coordinator_every_us: Option<u64>,
    pub crash_router_every_us: Option<u64>,
    /// A crash soon after the stored phase of a transition changed.
    pub crash_at_phase: f64,
    /// A way between donor and recipient that is cut soon after it, and a crash while it is.
    pub cut_at_phase: f64,
    /// Engines of a donor and a recipient that have no room soon after a copy began.
    pub fill_at_copy: f64,
    /// A power cut.
    pub crash_all_every_us: Option<u64>,
    /// An engine without room.
    pub fill_disk_every_us: Option<u64>,
    /// A clock that jumps ahead.
    pub jump_every_us: Option<u64>,
    pub freeze_every_us: Option<u64>,
    pub slow_every_us: Option<u64>,
    pub takeover_every_us: Option<u64>,
    /// A gate that is gone for minutes: longer than transitions wait for it.
    pub outage_every_us: Option<u64>,
    /// Of the operator's asks, those about collections, beside what is usual.
    pub catalogue_share: f64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self::calm()
    }
}

/// The swarm's draw for this seed.
pub fn draw(seed: u64) -> (Knobs, Habits) {
    let mut dice = Dice::new(seed, Purpose::Knobs, 0);
    let first_shards = dice.between(1, 4) as u32;
    let mut knobs = Knobs {
        gates: first_shards + dice.between(1, 4) as u32,
        first_shards,
        routers: dice.between(1, 3) as u32,
        clients: dice.between(3, 6) as u32,
        ids: dice.between(12, 60),
        safety_us: dice.between(8, 20) * 1_000_000,
        preload: dice.chance(0.8),
        ..Knobs::calm()
    };
    let mut habits = Habits {
        think_us: dice.between(160, 480) * 1_000,
        operator_us: Some(dice.between(450, 2_600) * 1_000),
        ..Habits::default()
    };
    knobs.draw_network(&mut dice);
    knobs.draw_processes(&mut dice);
    knobs.draw_disks(&mut dice);
    habits.draw(&mut dice);
    knobs.draw_limits(&mut Dice::new(seed, Purpose::Knobs, 1));
    knobs.draw_records(&mut Dice::new(seed, Purpose::Knobs, 2));
    let mut before = Dice::new(seed, Purpose::Knobs, 3);
    knobs.adopted = before.chance(0.125);
    knobs.adopted_amid_faults = before.chance(0.5);
    // Few seeds are long; what happens in them happens slowly, so that they cost no more than others.
    if dice.chance(0.02) {
        knobs.safety_us = dice.between(130, 200) * 1_000_000;
        habits.outage_every_us = Some(dice.between(3_000, 20_000) * 1_000);
        habits.think_us *= 8;
        habits.operator_us = habits.operator_us.map(|mean| mean * 6);
    }
    if dice.chance(0.1) {
        // Collections that are gone before every gate has made them.
        habits.catalogue_share = dice.share(0.5, 0.9);
        habits.operator_us = habits.operator_us.map(|mean| mean / 6);
    }
    (knobs, habits)
}

impl Habits {
    fn draw(&mut self, dice: &mut Dice) {
        let every = |dice: &mut Dice, share: f64| {
            dice.chance(share).then(|| dice.between(1_500, 8_000) * 1_000)
        };
        if dice.chance(0.4) {
            self.cut_every_us = Some(dice.between(1_000, 5_000) * 1_000);
        }
        self.crash_gate_every_us = every(dice, 0.45);
        self.crash_coordinator_every_us = every(dice, 0.35);
        self.crash_router_every_us = every(dice, 0.2);
        self.freeze_every_us = every(dice, 0.25);
        self.slow_every_us = every(dice, 0.2);
        self.takeover_every_us = every(dice, 0.2);
        if dice.chance(0.35) {
            self.crash_at_phase = dice.share(0.05, 0.5);
        }
        if dice.chance(0.25) {
            self.cut_at_phase = dice.share(0.1, 0.6);
        }
        if dice.chance(0.15) {
            self.fill_at_copy = dice.share(0.3, 0.9);
        }
        self.jump_every_us = every(dice, 0.2);
        self.crash_all_every_us = every(dice, 0.1);
        self.fill_disk_every_us = every(dice, 0.15);
    }
}

impl Knobs {
    /// No fault at all.
    pub fn calm() -> Self {
        Self {
            gates: 4,
            first_shards: 2,
            routers: 2,
            clients: 4,
            coordinators: 2,
            ids: 40,
            safety_us: 12_000_000,
            preload: true,
            adopted: false,
            adopted_amid_faults: false,
            delay_min_us: 200,
            delay_mean_us: 1_000,
            straggler: 0.0,
            loss: 0.0,
            duplicate: 0.0,
            crash_between: 0.0,
            clock_skew: false,
            spurious_tick: 0.0,
            engine_mean_us: 500,
            engine_unavailable: 0.0,
            engine_unknown: 0.0,
            engine_late: 0.0,
            engine_page_max: 1_000,
            fsync_mean_us: 2_000,
            store_mean_us: 3_000,
            store_unknown: 0.0,
            engine_forgets: 0.0,
            store_stale: 0.0,
            record_torn: 0.0,
            record_flipped: 0.0,
            buggify: false,
            limits: Limits::default(),
        }
    }

    /// Full queues, ranges of one point, and a stream without a window are rare in so small a cluster, if nobody wants them.
    fn draw_limits(&mut self, dice: &mut Dice) {
        self.buggify = dice.chance(0.35);
        if dice.chance(0.3) {
            self.store_stale = dice.share(0.05, 0.5);
        }
        let small = |dice: &mut Dice, limit: &mut usize, high: u64| {
            if dice.chance(0.15) {
                *limit = dice.between(1, high) as usize;
            }
        };
        small(dice, &mut self.limits.held_requests_max, 3);
        small(dice, &mut self.limits.copy_range_points_max, 4);
        small(dice, &mut self.limits.check_range_points_max, 4);
        small(dice, &mut self.limits.drain_points_max, 3);
        small(dice, &mut self.limits.window_frames_max, 3);
        small(dice, &mut self.limits.sweep_points_max, 4);
        small(dice, &mut self.limits.dirty_bytes_max, 300);
    }

    fn draw_network(&mut self, dice: &mut Dice) {
        self.delay_mean_us = [300, 2_000, 10_000, 40_000][dice.below(4) as usize];
        if dice.chance(0.4) {
            self.straggler = dice.share(0.001, 0.02);
        }
        if dice.chance(0.4) {
            self.loss = dice.share(0.005, 0.3);
        }
        if dice.chance(0.4) {
            self.duplicate = dice.share(0.01, 0.5);
        }
    }

    fn draw_processes(&mut self, dice: &mut Dice) {
        if dice.chance(0.3) {
            self.crash_between = dice.share(0.000_05, 0.001);
        }
        self.clock_skew = dice.chance(0.5);
        if dice.chance(0.3) {
            self.spurious_tick = dice.share(0.001, 0.02);
        }
    }

    fn draw_disks(&mut self, dice: &mut Dice) {
        self.engine_mean_us = [100, 500, 3_000, 15_000][dice.below(4) as usize];
        self.engine_page_max = [1, 3, 10, 1_000][dice.below(4) as usize];
        self.fsync_mean_us = [200, 2_000, 20_000][dice.below(3) as usize];
        self.store_mean_us = [500, 3_000, 30_000][dice.below(3) as usize];
        if dice.chance(0.3) {
            self.engine_unavailable = dice.share(0.001, 0.05);
        }
        if dice.chance(0.3) {
            self.engine_unknown = dice.share(0.001, 0.05);
            self.engine_late = if dice.chance(0.5) { 0.4 } else { 0.0 };
        }
        if dice.chance(0.3) {
            self.store_unknown = dice.share(0.01, 0.3);
        }
    }

    fn draw_records(&mut self, dice: &mut Dice) {
        if dice.chance(0.5) {
            self.record_torn = dice.share(0.5, 1.0);
        }
        if dice.chance(0.15) {
            self.record_flipped = dice.share(0.05, 0.5);
        }
    }

    /// Ends every fault; sizes and speeds stay.
    pub fn heal(&mut self) {
        let calm = Self::calm();
        *self = Self {
            gates: self.gates,
            first_shards: self.first_shards,
            routers: self.routers,
            clients: self.clients,
            coordinators: self.coordinators,
            ids: self.ids,
            safety_us: self.safety_us,
            preload: self.preload,
            adopted: self.adopted,
            adopted_amid_faults: self.adopted_amid_faults,
            engine_page_max: self.engine_page_max,
            clock_skew: self.clock_skew,
            limits: self.limits,
            ..calm
        };
    }

    fn rates(&self) -> [(&'static str, f64); 13] {
        [
            ("straggler", self.straggler),
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("crash_between", self.crash_between),
            ("spurious_tick", self.spurious_tick),
            ("engine_unavailable", self.engine_unavailable),
            ("engine_unknown", self.engine_unknown),
            ("engine_late", self.engine_late),
            ("store_unknown", self.store_unknown),
            ("store_stale", self.store_stale),
            ("record_torn", self.record_torn),
            ("record_flipped", self.record_flipped),
            ("engine_forgets", self.engine_forgets),
        ]
    }

    /// How many faults are on throughout.
    pub fn faults(&self) -> usize {
        let on = self.rates().into_iter().filter(|(_, rate)| *rate > 0.0).count();
        on + usize::from(self.clock_skew) + usize::from(self.buggify)
    }

    /// Whether a world can be like this.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let counts = [
            ("gates", u64::from(self.gates)),
            ("first_shards", u64::from(self.first_shards)),
            ("routers", u64::from(self.routers)),
            ("clients", u64::from(self.clients)),
            ("coordinators", u64::from(self.coordinators)),
            ("ids", self.ids),
            ("engine_page_max", self.engine_page_max),
            ("limits.copy_range_points_max", self.limits.copy_range_points_max as u64),
            ("limits.check_range_points_max", self.limits.check_range_points_max as u64),
            ("limits.drain_points_max", self.limits.drain_points_max as u64),
            ("limits.window_frames_max", self.limits.window_frames_max as u64),
            ("limits.sweep_points_max", self.limits.sweep_points_max as u64),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(format!("knobs.{name} is 0: it takes at least 1"));
        }
        if self.first_shards > self.gates {
            return Err(format!(
                "knobs.first_shards is {}, but there are {} gates: raise knobs.gates",
                self.first_shards, self.gates
            ));
        }
        match self.rates().into_iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            Some((name, rate)) => Err(format!("knobs.{name} is {rate}: a probability is 0 to 1")),
            None => Ok(()),
        }
    }
}
