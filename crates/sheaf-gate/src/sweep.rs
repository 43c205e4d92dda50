//! Sweep: deletes, page by page, what the gate neither owns nor is about to receive; starts again after a restart.

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

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Sweep {
    run: Option<Run>,
}

#[derive(Clone, Debug, Hash)]
struct Run {
    version: MapVersion,
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
}

impl Sweep {
    /// Goes on. Returns true once everything has been looked at under this map.
    pub fn step(&mut self, ground: &SweepGround<'_>, ctx: &mut Context<'_>) -> bool {
        let version = ground.map.version();
        let ready = |run: &Run| matches!(run.step, Step::Ready { .. });
        if self.run.as_ref().is_some_and(ready) && ctx.buggify("a sweep begins anew") {
            self.run = None;
        }
        let run = match &mut self.run {
            Some(run) if run.version == version => run,
            _ => self.run.insert(Run {
                version,
                collection: ground.collections.first().copied(),
                after: None,
                step: Step::Ready { at: ctx.now },
            }),
        };
        let Step::Ready { at } = run.step else { return false };
        let Some(collection) = run.collection else {
            self.run = None;
            return true;
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

    pub fn on_engine(
        &mut self,
        reply: EngineReply,
        ground: &SweepGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(run) = &mut self.run else { return };
        match (std::mem::replace(&mut run.step, Step::Ready { at: ctx.now }), reply) {
            _ if run.version != ground.map.version() => {
                mark!("the map changes in the middle of a sweep"); // It begins anew.
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
