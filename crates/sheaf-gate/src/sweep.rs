//! Sweep: deletes, page by page, what the gate neither owns nor is about to receive; starts again after a restart. An unproven
//! gate looks instead: it counts what it doesn't own, and deletes nothing (ADR 0006).

use std::sync::Arc;

use sheaf_map::Map;
use sheaf_types::{CollectionId, MapVersion, PointId, ShardId, Time, mark};

use crate::context::{Context, JobOwner};
use crate::effect::{EngineCall, Scan, Select, WakeReason, Write};
use crate::event::{EngineReply, Page};

/// Milliseconds between two pages when no transition waits for the sweep.
const PAUSE_MS: u64 = 2;
/// Milliseconds before a failed call is tried again.
const RETRY_MS: u64 = 100;
/// Milliseconds before a look that found strays is repeated, and how much of the time may be spent on looking.
const LOOK_AGAIN_MS: u64 = 5_000;
const LOOK_SHARE: u64 = 10;
/// Milliseconds from a discard to the next look: more discards may follow.
const LOOK_SOON_MS: u64 = 500;

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Sweep {
    run: Option<Run>,
    /// What the last whole look counted.
    strays: Option<u64>,
    look_at: Time,
}

#[derive(Clone, Debug, Hash)]
struct Run {
    version: MapVersion,
    looks: bool,
    since: Time,
    strays: u64,
    /// Swept up to here.
    collection: Option<CollectionId>,
    after: Option<PointId>,
    step: Step,
}

#[derive(Clone, Debug, Hash)]
enum Step {
    /// The next page may be read from this moment on.
    Ready {
        at: Time,
    },
    Scanning,
    /// `looked_through`: where the page ended.
    Deleting {
        looked_through: Option<PointId>,
    },
}

/// What a sweep may rely on.
pub(crate) struct SweepGround<'a> {
    pub map: &'a Arc<Map>,
    pub me: ShardId,
    /// The collections that the engine has.
    pub collections: &'a [CollectionId],
    /// A transition waits for the end of the sweep.
    pub urgent: bool,
    /// Count and delete nothing.
    pub looks: bool,
}

impl Sweep {
    /// What the last whole look found.
    pub fn strays(&self) -> Option<u64> {
        self.strays
    }

    /// What was counted until now may be gone.
    pub fn discarded(&mut self, now: Time) {
        self.run = None;
        self.strays = None;
        self.look_at = now.plus_ms(LOOK_SOON_MS);
    }

    /// Goes on. Returns true once everything has been looked at under this map, and nothing foreign is left.
    pub fn step(&mut self, ground: &SweepGround<'_>, ctx: &mut Context<'_>) -> bool {
        let version = ground.map.version();
        let ready = |run: &Run| matches!(run.step, Step::Ready { .. });
        if self.run.as_ref().is_some_and(ready) && ctx.buggify("a sweep begins anew") {
            self.run = None;
        }
        if self.run.is_none() && ground.looks && self.look_at > ctx.now {
            ctx.wake(self.look_at, WakeReason::Sweep);
            return false;
        }
        let run = match &mut self.run {
            Some(run) if run.version == version && run.looks == ground.looks => run,
            _ => self.run.insert(Run {
                version,
                looks: ground.looks,
                since: ctx.now,
                strays: 0,
                collection: ground.collections.first().copied(),
                after: None,
                step: Step::Ready { at: ctx.now },
            }),
        };
        let Step::Ready { at } = run.step else { return false };
        let Some(collection) = run.collection else {
            return self.end(ctx);
        };
        if at > ctx.now && !ground.urgent {
            ctx.wake(at, WakeReason::Sweep);
            return false;
        }
        run.step = Step::Scanning;
        let select = Select::Foreign { map: Arc::clone(ground.map), me: ground.me };
        let scan = Scan {
            collection,
            after: run.after.clone(),
            through: None,
            points_max: ctx.limits().sweep_points_max,
            bytes_max: usize::MAX,
            bodies: false,
            select,
        };
        ctx.call(JobOwner::Sweep, EngineCall::Scan(scan));
        false
    }

    /// The end of a run. Returns whether nothing foreign is left.
    fn end(&mut self, ctx: &mut Context<'_>) -> bool {
        let Some(run) = self.run.take() else { return false };
        if !run.looks {
            return true;
        }
        self.strays = Some(run.strays);
        if run.strays == 0 {
            mark!("an unproven gate finds nothing that it doesn't own");
            return true;
        }
        mark!("an unproven gate finds strays");
        let took_ms = ctx.now.ms_since(run.since);
        self.look_at = ctx.now.plus_ms(LOOK_AGAIN_MS.max(took_ms.saturating_mul(LOOK_SHARE)));
        ctx.wake(self.look_at, WakeReason::Sweep);
        false
    }

    pub fn on_engine(
        &mut self,
        reply: EngineReply,
        ground: &SweepGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(run) = &mut self.run else { return };
        match (std::mem::replace(&mut run.step, Step::Ready { at: ctx.now }), reply) {
            _ if run.version != ground.map.version() || run.looks != ground.looks => {
                mark!("the map changes in the middle of a sweep"); // It begins anew.
            }
            (Step::Scanning, EngineReply::Page(page)) if run.looks => {
                run.strays += page.points.len() as u64;
                run.go_on(page.looked_through, ground);
                run.step = Step::Ready { at: ctx.now.plus_ms(PAUSE_MS) };
            }
            (Step::Scanning, EngineReply::Page(page)) => run.delete(page, ground, ctx),
            (Step::Deleting { looked_through }, EngineReply::Applied(_)) => {
                run.go_on(looked_through, ground);
                run.step = Step::Ready { at: ctx.now.plus_ms(PAUSE_MS) };
            }
            (_, EngineReply::NoCollection(_)) => run.go_on(None, ground),
            (_, _) => {
                mark!("an engine fails at a sweep");
                let at = ctx.now.plus_ms(RETRY_MS);
                run.step = Step::Ready { at };
                ctx.wake(at, WakeReason::Retry);
            }
        }
    }
}

impl Run {
    fn delete(&mut self, page: Page, ground: &SweepGround<'_>, ctx: &mut Context<'_>) {
        if page.points.is_empty() {
            self.go_on(page.looked_through, ground);
            return;
        }
        let Some(collection) = self.collection else { return };
        assert!(!ground.looks, "I11 sweep-only-foreign: an unproven gate would delete");
        for scanned in &page.points {
            let owner = ground.map.owner(scanned.id.placement_key());
            assert!(
                owner != Some(ground.me),
                "I11 sweep-only-foreign: {} is owned by {} in map {}",
                scanned.id,
                ground.me,
                ground.map.version()
            );
        }
        let writes = page.points.into_iter().map(|scanned| Write::Delete(scanned.id)).collect();
        self.step = Step::Deleting { looked_through: page.looked_through };
        ctx.call(JobOwner::Sweep, EngineCall::Apply { collection, writes });
    }

    fn go_on(&mut self, looked_through: Option<PointId>, ground: &SweepGround<'_>) {
        if looked_through.is_some() {
            self.after = looked_through;
            return;
        }
        self.after = None;
        let here = self.collection;
        self.collection = ground.collections.iter().copied().filter(|id| Some(*id) > here).min();
    }
}
