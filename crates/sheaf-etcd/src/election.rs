//! The election on etcd: a key with a lease for each process that stands; the oldest one leads.
//!
//! Decides when this process may write (it holds the badge) and when it must ask for a new lease. Every step may be dropped
//! half-way; a lease of which nobody knows ends by itself.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use sheaf_stores::{Election, Look, Reply, StoreError};
use sheaf_types::Time;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::head::{Head, Keys};
use crate::members::{Members, Rejected};
use crate::store::EtcdOptions;

/// Parts of a lease: it is renewed after one, and a look takes one at most.
const PARTS_A_LEASE: u32 = 3;
/// Tries that fit into a look.
const TRIES_A_LOOK: u32 = 2;

/// The key that makes its holder the leader, and its value. Never the same for two leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Badge {
    pub key: String,
    pub value: String,
    /// Until when its lease lasts at least, by this process's clock.
    until: Time,
}

/// Where the election puts the badge, and the store looks for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Office(Arc<StdMutex<Option<Badge>>>);

impl Office {
    pub(crate) fn badge(&self) -> Option<Badge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store has seen that this badge's key is gone.
    pub(crate) fn is_over(&self, badge: &Badge) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| held.key == badge.key) {
            *held = None;
        }
    }

    fn set(&self, badge: Option<Badge>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = badge;
    }
}

/// One process's part in the election of an etcd store.
pub struct EtcdElection {
    state: Mutex<State>,
    office: Office,
    /// A part of the lease.
    part: Duration,
}

struct State {
    keys: Keys,
    members: Members,
    /// Part of the names of keys: no other process has it.
    writer: String,
    /// What is said to whoever looks.
    said: String,
    lease_secs: u32,
    leases: u64,
    /// A lease whose key may or may not be there.
    begun: Option<i64>,
    held: Option<Held>,
}

/// A lease and the key on it.
#[derive(Clone, Debug)]
struct Held {
    lease: i64,
    key: String,
    until: Time,
    renew_at: Time,
}

impl EtcdElection {
    /// `said`: of this process, to whoever looks. `lease`: whole seconds; etcd itself may make it longer.
    pub(crate) fn new(
        options: &EtcdOptions,
        office: Office,
        said: String,
        lease_secs: u32,
    ) -> Self {
        let part = Duration::from_secs(u64::from(lease_secs)) / PARTS_A_LEASE;
        let EtcdOptions { address, access, writer, .. } = options.clone();
        let members = Members::new(address.members, access, part / TRIES_A_LOOK);
        let (keys, begun, held) = (Keys(address.prefix), None, None);
        let state = State { keys, members, writer, said, lease_secs, leases: 0, begun, held };
        Self { state: Mutex::new(state), office, part }
    }

    async fn look_at(&self, now: Time) -> Result<Look, StoreError> {
        let mut state = self.state.lock().await;
        let looked = match timeout(self.part, state.look(now, self.part)).await {
            Ok(looked) => looked,
            Err(_) => Err(StoreError::Unavailable(format!(
                "etcd took longer than {} ms; at last: {}",
                self.part.as_millis(),
                state.members.trouble()
            ))),
        };
        let held = state.held.as_ref().filter(|held| now < held.until);
        let (Some(held), Ok(Looked { look, first })) = (held, &looked) else {
            let certain = self.office.badge().filter(|badge| {
                // What it was last told still holds, and its lease may have been renewed in this very look.
                held.is_some_and(|held| held.key == badge.key) && looked.is_err()
            });
            let until = held.map_or(now, |held| held.until);
            self.office.set(certain.map(|badge| Badge { until, ..badge }));
            return looked.map(|looked| looked.look);
        };
        let leads = *first == Some(held.key.clone());
        let badge = Badge {
            key: held.key.clone(),
            value: look.standing.first().cloned().unwrap_or_default(),
            until: held.until,
        };
        self.office.set(leads.then_some(badge));
        looked.map(|looked| looked.look)
    }
}

impl Election for EtcdElection {
    fn look(&self, now: Time) -> Reply<'_, Result<Look, StoreError>> {
        Box::pin(self.look_at(now))
    }

    fn leads(&self, now: Time) -> bool {
        self.office.badge().is_some_and(|badge| now < badge.until)
    }

    fn resign(&self) -> Reply<'_, ()> {
        Box::pin(async {
            self.office.set(None);
            let mut state = self.state.lock().await;
            if let Some(held) = state.held.take() {
                let revoked = timeout(self.part, state.members.revoke(held.lease)).await;
                // If not, it ends by itself.
                let _ends_later = revoked.is_err();
            }
        })
    }
}

/// What a look has found.
struct Looked {
    look: Look,
    /// The key of the leader.
    first: Option<String>,
}

impl State {
    async fn look(&mut self, now: Time, part: Duration) -> Result<Looked, StoreError> {
        self.stand(now, part).await.map_err(|rejected| StoreError::Unavailable(rejected.reason))?;
        let all = self.keys.all_standing();
        let everyone = TxnOp::get(all, Some(GetOptions::new().with_prefix()));
        let head = TxnOp::get(self.keys.head(), None);
        let answered = self.members.txn(Txn::new().and_then([everyone, head])).await;
        let answered = answered.map_err(|rejected| StoreError::Unavailable(rejected.reason))?;
        let everyone = by_age(&answered.response);
        let etag = match found(&answered.response).get(1).and_then(|found| found.first()) {
            None => None,
            Some(head) => Head::read(head.value()).map_err(StoreError::Damaged)?.etag(),
        };
        if let Some(held) = &self.held
            && !everyone.iter().any(|(key, _)| *key == held.key)
        {
            self.held = None; // It has ended, whatever this process's clock says; the next look stands anew.
        }
        let first = everyone.first().map(|(key, _)| key.clone());
        let standing = everyone.into_iter().map(|(_, said)| said).collect();
        Ok(Looked { look: Look { standing, etag }, first })
    }

    /// Sees to it that this process has a lease and its key on it.
    async fn stand(&mut self, now: Time, part: Duration) -> Result<(), Rejected> {
        let part_ms = part.as_millis() as u64;
        let until = now.plus_ms(part_ms * u64::from(PARTS_A_LEASE));
        let renew_at = now.plus_ms(part_ms);
        match &mut self.held {
            Some(held) if now < held.renew_at => return Ok(()),
            Some(held) if now < held.until => {
                if self.members.keep_alive(held.lease).await? {
                    (held.until, held.renew_at) = (until, renew_at);
                    return Ok(());
                }
            }
            Some(_) | None => {}
        }
        self.held = None;
        if let Some(lease) = self.begun {
            // Its key, if it is there, would be taken for that of a process that stands, until the lease ends by itself.
            let _ended_already = self.members.revoke(lease).await.is_err();
            self.begun = None;
        }
        let id = self.members.grant(i64::from(self.lease_secs)).await?;
        self.leases += 1;
        let key = self.keys.standing(&format!("{}-{}", self.writer, self.leases));
        self.begun = Some(id);
        self.members.put(&key, &self.said, id).await?;
        self.begun = None;
        self.held = Some(Held { lease: id, key, until, renew_at });
        Ok(())
    }
}

/// What each read of a transaction found.
fn found(response: &TxnResponse) -> Vec<Vec<KeyValue>> {
    let each = response.op_responses().into_iter();
    let found = each.map(|each| match each {
        TxnOpResponse::Get(get) => get.kvs().to_vec(),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => Vec::new(),
    });
    found.collect()
}

/// Keys and values of who stands, by age, where a transaction's first read is of all of them.
pub(crate) fn by_age(response: &TxnResponse) -> Vec<(String, String)> {
    let mut everyone = found(response).into_iter().next().unwrap_or_default();
    everyone.sort_by_key(KeyValue::create_revision);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    everyone.iter().map(|kv| (text(kv.key()), text(kv.value()))).collect()
}
