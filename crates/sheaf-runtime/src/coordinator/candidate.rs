//! A coordinator among several: it follows until it is elected, leads until it can't be sure of it any more, and follows again.
//!
//! Decides when a core begins and ends; what is decided is the core's. That two lead at once is harmless: the store takes the
//! writes of one, and gates obey the higher term.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sheaf_coordinator::{Config, Coordinator, CoordinatorRecord};
use sheaf_stores::{Election, Etag, Loaded, Look, Store, StoreError};
use sheaf_types::ClusterId;
use tracing::{info, warn};

use super::CoordinatorHost;
use super::core::Shared;
use super::gates::Gates;
use super::open::read_record;
use super::standing::{Peer, Standing, StoreHealth};
use crate::clock::Clock;
use crate::entropy;

/// Between two looks at the election. A follower's map is older by no more than this and the look itself.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What a coordinator among several is made of.
pub struct CandidateParts {
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    /// The election of that store. What this process says there is `me` in JSON.
    pub election: Arc<dyn Election>,
    /// What kind of store.
    pub kind: &'static str,
    pub gates: Arc<dyn Gates>,
    pub config: Config,
    /// The name that the cluster gets if it is new.
    pub new_cluster_id: ClusterId,
}

struct Candidate {
    parts: CandidateParts,
    shared: Arc<Shared>,
    /// The record that is shown.
    shown: Option<Etag>,
    /// That the store can't be used was said, and not yet that it can.
    warned: AtomicBool,
}

impl CoordinatorHost {
    /// Starts a coordinator among several. It says nothing before it has read the store.
    pub fn stand(parts: CandidateParts) -> Self {
        let blank = Arc::new(CoordinatorRecord::new(parts.new_cluster_id.clone()));
        let core = passive(parts.clock, &parts.config, blank);
        let standing = Standing::unknown(parts.kind);
        let shared = Arc::new(Shared::new(parts.clock, core, Arc::clone(&parts.gates), standing));
        tokio::spawn(Arc::clone(&shared).tick());
        let candidate = Candidate {
            parts,
            shared: Arc::clone(&shared),
            shown: None,
            warned: AtomicBool::new(false),
        };
        tokio::spawn(candidate.run());
        Self { shared }
    }
}

/// A core that is only read.
fn passive(clock: Clock, config: &Config, record: Arc<CoordinatorRecord>) -> Coordinator {
    Coordinator::new(clock.now(), record, config.clone(), 0)
}

impl Candidate {
    async fn run(mut self) {
        let mut stopped = self.shared.stopped.subscribe();
        let election = Arc::clone(&self.parts.election);
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = self.stand() => {}
        }
        election.resign().await;
        self.shared.resigned.send_replace(true);
    }

    async fn stand(&mut self) {
        loop {
            self.follow().await;
            let Some(found) = self.load().await else { continue };
            info!("this coordinator leads");
            let why = self.lead(found).await;
            warn!(%why, "this coordinator leads no longer; another one goes on");
            let (clock, config) = (self.parts.clock, self.parts.config.clone());
            self.shared.step_down(|record| passive(clock, &config, Arc::clone(record)));
            self.parts.election.resign().await;
            self.shown = None;
        }
    }

    /// Shows what others decide, until this coordinator leads.
    async fn follow(&mut self) {
        loop {
            match self.look().await {
                Ok(_) if self.leads() => return,
                Ok(look) if look.etag != self.shown => {
                    if let Err(error) = self.show().await {
                        self.troubled(&error);
                    }
                }
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Reads the record and shows it.
    async fn show(&mut self) -> Result<(), StoreError> {
        let Some(loaded) = self.read().await? else { return Ok(()) };
        let record =
            read_record(&loaded.bytes).map_err(|why| StoreError::Damaged(why.to_string()))?;
        let core = passive(self.parts.clock, &self.parts.config, Arc::new(record));
        self.shared.follow(core);
        self.shown = Some(loaded.etag);
        Ok(())
    }

    /// What the store holds. Goes on looking at the election meanwhile: a long read mustn't cost the lease.
    async fn read(&self) -> Result<Option<Loaded>, StoreError> {
        let looks = async {
            loop {
                tokio::time::sleep(LOOK_PAUSE).await;
                let _kept_by_looking = self.look().await.is_ok();
            }
        };
        tokio::select! {
            biased;
            loaded = self.parts.store.load() => loaded,
            never = looks => never,
        }
    }

    /// The record with which this coordinator begins; `None`: it leads no longer.
    async fn load(&mut self) -> Option<(CoordinatorRecord, Option<Etag>)> {
        while self.leads() {
            // A load is final: no write of an earlier leader can be applied any more, its key in the election is gone.
            let loaded = match self.read().await {
                Ok(loaded) => loaded,
                Err(error) => {
                    self.troubled(&error);
                    tokio::time::sleep(LOOK_PAUSE).await;
                    let _kept_by_looking = self.look().await.is_ok();
                    continue;
                }
            };
            let Some(loaded) = loaded else {
                return Some((CoordinatorRecord::new(self.parts.new_cluster_id.clone()), None));
            };
            match read_record(&loaded.bytes) {
                Ok(record) => return Some((record, Some(loaded.etag))),
                Err(error) => {
                    // Another version of Sheaf may be able to go on.
                    self.troubled(&StoreError::Damaged(error.to_string()));
                    self.parts.election.resign().await;
                }
            }
        }
        tokio::time::sleep(LOOK_PAUSE).await;
        None
    }

    /// Leads; says why no longer.
    async fn lead(&mut self, (record, known): (CoordinatorRecord, Option<Etag>)) -> String {
        let parts = &self.parts;
        let core = Coordinator::new(
            parts.clock.now(),
            Arc::new(record),
            parts.config.clone(),
            entropy::seed(),
        );
        let mut deposed = self.shared.deposed.subscribe();
        let reign = super::open::begin(&self.shared, core, Arc::clone(&parts.store), known);
        let keeps = async {
            while self.leads() {
                let _kept_as_long_as_it_leads = self.look().await.is_ok();
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            "its lease in the store has ended, or may have".to_owned()
        };
        tokio::select! {
            biased;
            // An error: it is stopping.
            _ = deposed.wait_for(|deposed| *deposed == Some(reign)) => "another one has written to the store".to_owned(),
            why = keeps => why,
        }
    }

    /// Looks at the election and makes known what is seen.
    async fn look(&self) -> Result<Look, StoreError> {
        let looked = self.parts.election.look(self.parts.clock.now()).await;
        let leads = self.leads();
        match &looked {
            Ok(look) => {
                if self.warned.swap(false, Ordering::Relaxed) {
                    info!("the store answers again");
                }
                let mut standing = look.standing.iter().filter_map(|said| {
                    serde_json::from_str::<Peer>(said).ok() // Of another version: not for us to show.
                });
                let leader = standing.next();
                let store = StoreHealth { kind: self.parts.kind, trouble: None };
                let standing = Standing { leads, leader, followers: standing.collect(), store };
                self.shared.standing.send_if_modified(|known| {
                    std::mem::replace(known, standing.clone()) != standing
                });
            }
            Err(error) => self.troubled(error),
        }
        looked
    }

    fn leads(&self) -> bool {
        self.parts.election.leads(self.parts.clock.now())
    }

    fn troubled(&self, error: &StoreError) {
        let leads = self.leads();
        let trouble = Some(error.to_string());
        if !self.warned.swap(true, Ordering::Relaxed) {
            warn!(%error, leads, "the store can't be used; everything is served, nothing is resized");
        }
        self.shared.standing.send_modify(|known| {
            known.leads = leads;
            known.store.trouble = trouble;
            if !leads {
                known.leader = None;
            }
        });
    }
}
