//! A replica's shell: searches on a follower of one shard's engine, at one version of the map, or none at all.
//!
//! Decides when a follower is good for a version: its engine has served that version, and has done nothing for a later one. Serves no point
//! by its id and takes no write.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sheaf_engines::{Accept, EngineError, Follower, Hit, Search};
use sheaf_map::Map;
use sheaf_protocol::Refusal;
use sheaf_types::{MapVersion, PlacementKey, ShardId, Time};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::gate::{NotServed, Served};
use crate::router::RouterHost;

/// Between two proofs that the follower has caught up.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// How old such a proof may get: a follower that fell behind is not asked any more.
const PROOF_AGE_MAX: Duration = Duration::from_secs(5);
/// How long a coordinator may take to say which map is current.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);
/// Milliseconds that a search waits for the map that its router has already.
const MAP_WAIT_MS: u64 = 200;

/// Which version a gate durably serves, when it says so; `None`: it doesn't, or not as this shard.
pub type VersionReply<'a> = Pin<Box<dyn Future<Output = Option<MapVersion>> + Send + 'a>>;

/// The way to the gate of the shard.
pub trait Primary: Send + Sync + 'static {
    /// What the gate at this URL durably serves as this shard.
    fn version(&self, url: String, shard: ShardId) -> VersionReply<'_>;
}

/// What a replica is made of.
pub struct ReplicaParts {
    pub shard: ShardId,
    pub follower: Arc<dyn Follower>,
    pub primary: Arc<dyn Primary>,
    /// Whose maps it judges by.
    pub maps: RouterHost,
}

/// A running replica. Cheap to clone.
#[derive(Clone)]
pub struct ReplicaHost(Arc<Shared>);

struct Shared {
    parts: ReplicaParts,
    proof: RwLock<Option<Proof>>,
    stopped: watch::Sender<bool>,
}

/// The follower has had all that its engine had while that served this version.
#[derive(Clone, Copy, Debug)]
struct Proof {
    version: MapVersion,
    /// When this was begun to be found out, on the clock.
    since: Duration,
}

impl ReplicaHost {
    /// A replica, and the task that keeps its proof fresh: spawn it.
    pub fn new(parts: ReplicaParts) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (proof, stopped) = (RwLock::default(), watch::channel(false).0);
        let host = Self(Arc::new(Shared { parts, proof, stopped }));
        let rounds = Arc::clone(&host.0).prove();
        (host, rounds)
    }

    pub fn clock(&self) -> Clock {
        self.0.clock()
    }

    /// The version that searches may name now; `None`: none.
    pub fn version(&self) -> Option<MapVersion> {
        self.0.proof().ok().map(|proof| proof.version)
    }

    pub fn stop(&self) {
        self.0.stopped.send_replace(true);
    }

    /// The nearest points that the shard owned at this version, as the follower has them.
    ///
    /// # Errors
    /// It can't be answered at this version: somebody else has to be asked.
    pub async fn search(
        &self,
        version: MapVersion,
        shard: Option<ShardId>,
        collection: &str,
        deadline: Time,
        search: impl FnOnce(Accept) -> Search,
    ) -> Result<Served<Vec<Hit>>, NotServed> {
        let shared = &self.0;
        let me = shared.parts.shard;
        if shard.is_some_and(|shard| shard != me) {
            return Err(NotServed::Refused(Refusal::OtherShard { me }));
        }
        let map = shared.map_of(version, deadline).await.map_err(NotServed::Refused)?;
        let proof = shared.proof().map_err(NotServed::Refused)?;
        if proof.version != version {
            let reason =
                format!("this replica has caught up with its shard at map {}", proof.version);
            return Err(refused(format!("{reason}, not yet at {version}")));
        }
        let Some(collection) = map.collection(collection) else {
            return Err(NotServed::Refused(Refusal::NoCollection { version }));
        };
        let (owners, id) = (Arc::clone(&map), collection.id);
        let owned = move |key: PlacementKey| owners.owner(key) == Some(me);
        let search = search(Accept::Only(Arc::new(owned)));
        let hits = match shared.parts.follower.search(id, search).await {
            Ok(hits) => hits,
            // It hasn't heard of it yet: the map has it.
            Err(EngineError::NoCollection(_)) => {
                return Err(refused("this replica doesn't have the collection yet".to_owned()));
            }
            Err(error) => return Err(NotServed::Engine(error)),
        };
        // What moved away at a later version is deleted once the gate has that: nothing was before this.
        if shared.is_current(&map).await {
            return Ok(Served { version, value: hits });
        }
        Err(refused(format!("nobody confirms that map {version} is current still")))
    }
}

fn refused(reason: String) -> NotServed {
    NotServed::Refused(Refusal::EngineUnavailable { reason })
}

impl Shared {
    fn clock(&self) -> Clock {
        self.parts.maps.clock()
    }

    fn proof(&self) -> Result<Proof, Refusal> {
        let proof = *self.proof.read().unwrap_or_else(PoisonError::into_inner);
        let is_fresh =
            |proof: &Proof| self.clock().elapsed().saturating_sub(proof.since) <= PROOF_AGE_MAX;
        proof.filter(is_fresh).ok_or_else(|| Refusal::EngineUnavailable {
            reason: "this replica isn't known to have caught up with its shard".to_owned(),
        })
    }

    /// The map of exactly this version.
    async fn map_of(&self, version: MapVersion, deadline: Time) -> Result<Arc<Map>, Refusal> {
        let soon = deadline.min(self.clock().now().plus_ms(MAP_WAIT_MS));
        let maps = &self.parts.maps;
        match maps.map_of_at_least(version, soon).await {
            Some(map) if map.version() == version => Ok(map),
            Some(map) => Err(Refusal::OtherVersion { version: map.version() }),
            None => {
                let known = maps.map().map_or(MapVersion(0), |map| map.version());
                Err(Refusal::Behind { version: known, wanted: version })
            }
        }
    }

    /// Whether the shard's gate, or else a coordinator, says that this map is the current one.
    async fn is_current(&self, map: &Map) -> bool {
        let Some(entry) = map.shard(self.parts.shard) else { return false };
        let url = entry.primary_url.clone();
        match self.parts.primary.version(url, self.parts.shard).await {
            Some(version) => version == map.version(),
            None => {
                let newest = self.parts.maps.look_for_newer_map(LOOK_PATIENCE).await;
                newest.is_some_and(|newest| newest.version() == map.version())
            }
        }
    }

    async fn prove(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let rounds = async {
            let mut trouble = None;
            loop {
                match self.round().await {
                    Ok(proof) => {
                        if trouble.take().is_some() {
                            info!(version = proof.version.0, "the follower has caught up");
                        }
                        *self.proof.write().unwrap_or_else(PoisonError::into_inner) = Some(proof);
                    }
                    // Once for each outage, not once for each round.
                    Err(reason) if trouble.as_ref() != Some(&reason) => {
                        warn!(%reason, "searches are left to the shard itself");
                        trouble = Some(reason);
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = rounds => {}
        }
    }

    /// The version of the last proof, if a coordinator says that it is current still: while the gate is away nothing is written, and what it
    /// had is there.
    async fn version_as_before(&self) -> Option<MapVersion> {
        let before = (*self.proof.read().unwrap_or_else(PoisonError::into_inner))?.version;
        let newest = self.parts.maps.look_for_newer_map(LOOK_PATIENCE).await?;
        (newest.version() == before).then_some(before)
    }

    async fn round(&self) -> Result<Proof, String> {
        let since = self.clock().elapsed();
        let map = match self.parts.maps.map() {
            Some(map) => map,
            None => {
                self.parts.maps.look_for_newer_map(LOOK_PATIENCE).await.ok_or("no map is known")?
            }
        };
        let me = self.parts.shard;
        let entry = map.shard(me).ok_or_else(|| format!("{me} is not in the map"))?;
        let url = entry.primary_url.clone();
        // From when it serves a version, all that moved to it is in its engine, and so in front of the mark.
        let version = match self.parts.primary.version(url, me).await {
            Some(version) => version,
            None => self.version_as_before().await.ok_or_else(|| {
                format!(
                    "the gate of {me} doesn't say what it serves, and it isn't known from before"
                )
            })?,
        };
        self.parts.follower.catch_up().await.map_err(|error| error.to_string())?;
        Ok(Proof { version, since })
    }
}
