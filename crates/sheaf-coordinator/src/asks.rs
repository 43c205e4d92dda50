//! What was asked and is not decided: asks that wait until a node has said who it is, and those that wait for the store.
//!
//! Decides which ask comes next and hands it to the part that decides it. Every wait has a bound and a deadline (I14).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sheaf_types::limits::{IDEMPOTENCY_KEYS_MAX, PENDING_ASKS_MAX};
use sheaf_types::{Time, mark};

use crate::adoption::{self, Adopted};
use crate::config::Config;
use crate::contacts::Contacts;
use crate::effect::{Effects, Reply, WakeReason};
use crate::event::{Ask, Asked, AskedOptions, Identity, NewShard, Token};
use crate::membership::{self, Identities};
use crate::moves;
use crate::record::{CoordinatorRecord, Origin, Request, UsedKey};
use crate::refusal::AskRefusal;
use crate::{catalogue, url};

/// Bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 256;
/// Nodes in one ask.
const NODES_MAX: usize = 1_000;

/// Who wants something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    Client(Token),
    /// Autoscale, with its reason.
    Autoscale {
        why: String,
    },
}

/// What an ask comes to.
#[derive(Debug)]
pub(crate) enum Decided {
    /// Answered once this record is durable.
    Change(Box<CoordinatorRecord>, Reply),
    /// Answered at once: it is so already.
    Unchanged(Reply),
    /// Not now.
    Wait,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Waiter {
    pub caller: Caller,
    pub asked: Asked,
    /// URLs that haven't been identified yet.
    missing: BTreeSet<String>,
    identities: Identities,
}

/// The asks that are not decided, in the order of their arrival.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Asks {
    waiting: VecDeque<Waiter>,
}

impl Asks {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether autoscale waits for an answer.
    pub(crate) fn has_autoscale(&self) -> bool {
        self.waiting.iter().any(|waiter| matches!(waiter.caller, Caller::Autoscale { .. }))
    }

    /// Whether an operator's cancel is waiting.
    pub(crate) fn has_cancel(&self) -> bool {
        self.waiting.iter().any(|waiter| matches!(waiter.asked.ask, Ask::Cancel { .. }))
    }

    /// Takes in an ask; nodes that it names are asked who they are.
    pub(crate) fn take(
        &mut self,
        caller: Caller,
        mut asked: Asked,
        record: &CoordinatorRecord,
        effects: &mut Effects,
    ) -> Result<(), AskRefusal> {
        if self.waiting.len() >= PENDING_ASKS_MAX {
            return Err(AskRefusal::TooManyAsks { limit: PENDING_ASKS_MAX });
        }
        if let Some(bytes) = asked.key.as_ref().map(String::len).filter(|n| *n > KEY_BYTES_MAX) {
            return Err(AskRefusal::KeyTooLong { bytes, limit: KEY_BYTES_MAX });
        }
        let nodes = asked.ask.nodes_mut();
        if nodes.len() > NODES_MAX {
            let why = format!("{} nodes in one call are more than {NODES_MAX}", nodes.len());
            return Err(AskRefusal::BadMap { why });
        }
        for node in nodes {
            node.primary_url = url::normalise(&node.primary_url)?;
            for replica in &mut node.replica_urls {
                *replica = url::normalise(replica)?;
            }
        }
        let mut missing = BTreeSet::new();
        if replayed(record, &asked).is_none() {
            for node in asked.ask.nodes_mut() {
                membership::check_urls(record, node)?;
                missing.insert(node.primary_url.clone());
            }
        }
        let known: BTreeSet<&String> = self.waiting.iter().flat_map(|w| &w.missing).collect();
        effects.identify.extend(missing.iter().filter(|url| !known.contains(url)).cloned());
        let identities = BTreeMap::new();
        self.waiting.push_back(Waiter { caller, asked, missing, identities });
        Ok(())
    }

    /// Someone answered at a URL, or nobody did.
    pub(crate) fn on_identified(&mut self, url: &str, identity: &Identity) {
        for waiter in &mut self.waiting {
            if waiter.missing.remove(url) {
                waiter.identities.insert(url.to_owned(), identity.clone());
            }
        }
    }

    /// Takes out the asks whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Caller> {
        if self.waiting.iter().all(|waiter| waiter.asked.deadline > now) {
            return Vec::new();
        }
        let (late, kept): (VecDeque<_>, VecDeque<_>) =
            self.waiting.drain(..).partition(|waiter| waiter.asked.deadline <= now);
        self.waiting = kept;
        late.into_iter().map(|waiter| waiter.caller).collect()
    }

    /// Takes out everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Caller> + '_ {
        self.waiting.drain(..).map(|waiter| waiter.caller)
    }

    /// Takes out the first ask that can be decided, with what it comes to.
    pub(crate) fn decide_next(
        &mut self,
        judge: impl Fn(&Waiter) -> Result<Decided, AskRefusal>,
    ) -> Option<(Waiter, Result<Decided, AskRefusal>)> {
        for at in 0..self.waiting.len() {
            let Some(waiter) = self.waiting.get(at).filter(|waiter| waiter.missing.is_empty())
            else {
                continue;
            };
            let decided = judge(waiter);
            if !matches!(decided, Ok(Decided::Wait)) {
                return self.waiting.remove(at).map(|waiter| (waiter, decided));
            }
        }
        None
    }

    pub(crate) fn wake(&self) -> Option<(Time, WakeReason)> {
        let first = self.waiting.iter().map(|waiter| waiter.asked.deadline).min()?;
        Some((first, WakeReason::Ask))
    }
}

/// The answer that this key got before.
fn replayed(record: &CoordinatorRecord, asked: &Asked) -> Option<Result<Reply, AskRefusal>> {
    let key = asked.key.as_ref()?;
    let used = record.keys.iter().find(|used| used.key == *key)?;
    let same = used.ask == asked.ask;
    Some(if same {
        Ok(used.reply.clone())
    } else {
        Err(AskRefusal::KeyReused { key: key.clone() })
    })
}

/// Decides an ask.
pub(crate) fn decide(
    waiter: &Waiter,
    record: &CoordinatorRecord,
    contacts: &Contacts,
    config: &Config,
    now: Time,
) -> Result<Decided, AskRefusal> {
    let asked = &waiter.asked;
    if let Some(replayed) = replayed(record, asked) {
        mark!("an ask that is repeated gets its first answer");
        return replayed.map(Decided::Unchanged);
    }
    if let Some(shard) = contacts.ahead_of(record) {
        mark!("an ask is refused because a gate is ahead of the record");
        return Err(AskRefusal::RecordOutdated { shard });
    }
    let version = record.map.version();
    if let Some(expected) = asked.expects.filter(|expected| *expected != version) {
        mark!("an ask names a map that isn't current");
        return Err(AskRefusal::OtherVersion { expected, version });
    }
    let decided = dispatch(waiter, record.draft(), contacts, config, now)?;
    let Decided::Change(mut changed, reply) = decided else {
        return Ok(decided);
    };
    if let Some(key) = &asked.key {
        while changed.keys.len() >= IDEMPOTENCY_KEYS_MAX {
            changed.keys.pop_front();
        }
        let (key, ask) = (key.clone(), asked.ask.clone());
        changed.keys.push_back(UsedKey { key, ask, reply: reply.clone() });
    }
    Ok(Decided::Change(changed, reply))
}

fn dispatch(
    waiter: &Waiter,
    draft: CoordinatorRecord,
    contacts: &Contacts,
    config: &Config,
    now: Time,
) -> Result<Decided, AskRefusal> {
    let transit = |draft, wanted, options: &AskedOptions| {
        transit(waiter, draft, now, wanted, options, config)
    };
    match &waiter.asked.ask {
        Ask::AddShards { shards } => {
            let mut draft = draft;
            if draft.map.shards().is_empty() && draft.underway().next().is_none() {
                let entries = membership::admit(&mut draft, shards, &waiter.identities)?;
                return membership::found(draft, now, entries);
            }
            membership::check_empty(&draft, contacts)?;
            transit(draft, Wanted::Grow(shards), &AskedOptions::default())
        }
        Ask::Adopt { shards, next_shard, version, collections } => {
            let wanted =
                Adopted { shards, next_shard: *next_shard, version: *version, collections };
            adoption::adopt(draft, now, &wanted, &waiter.identities)
        }
        Ask::Grow { shards, options } => transit(draft, Wanted::Grow(shards), options),
        Ask::Drain { shard, options } => {
            transit(draft, Wanted::As(Request::Drain { shard: *shard }), options)
        }
        Ask::Replace { shard, with, options } => {
            transit(draft, Wanted::Replace(*shard, with), options)
        }
        Ask::Reweight { shard, weight, options } => {
            let request = Request::Reweight { shard: *shard, weight: *weight };
            transit(draft, Wanted::As(request), options)
        }
        Ask::Promote { shard } => moves::promote(draft, now, *shard),
        Ask::Remove { shard, accept_data_loss } => {
            membership::remove(draft, now, *shard, *accept_data_loss)
        }
        Ask::SetReplicas { shard, replica_urls } => {
            membership::set_replicas(draft, now, *shard, replica_urls)
        }
        Ask::Pause { transition } => moves::pause(draft, now, *transition),
        Ask::Resume { transition } => moves::resume(draft, now, *transition),
        Ask::Throttle { transition, limits } => moves::throttle(draft, now, *transition, *limits),
        Ask::Cancel { transition } => moves::cancel(draft, now, *transition),
        Ask::CreateCollection { config } => catalogue::create(draft, contacts, now, config.clone()),
        Ask::DropCollection { name } => catalogue::drop_collection(draft, contacts, now, name),
    }
}

/// A transition before its nodes are admitted.
enum Wanted<'a> {
    As(Request),
    Grow(&'a [NewShard]),
    Replace(sheaf_types::ShardId, &'a NewShard),
}

fn transit(
    waiter: &Waiter,
    mut draft: CoordinatorRecord,
    now: Time,
    wanted: Wanted<'_>,
    options: &AskedOptions,
    config: &Config,
) -> Result<Decided, AskRefusal> {
    let options = moves::options(options, config.fence_budget_ms)?;
    let request = match wanted {
        Wanted::As(request) => request,
        Wanted::Grow(nodes) => {
            Request::Grow { shards: membership::admit(&mut draft, nodes, &waiter.identities)? }
        }
        Wanted::Replace(shard, node) => {
            let nodes = std::slice::from_ref(node);
            let mut admitted = membership::admit(&mut draft, nodes, &waiter.identities)?;
            let with = admitted.pop().ok_or(AskRefusal::NoShards)?;
            Request::Replace { shard, with }
        }
    };
    let origin = match &waiter.caller {
        Caller::Client(_) => Origin::Operator,
        Caller::Autoscale { .. } => Origin::Autoscale,
    };
    let reply = moves::accept(&mut draft, now, request, origin, options)?;
    Ok(Decided::Change(Box::new(draft), reply))
}

impl Ask {
    /// The nodes that it names.
    fn nodes_mut(&mut self) -> Vec<&mut NewShard> {
        match self {
            Self::AddShards { shards } | Self::Grow { shards, .. } => shards.iter_mut().collect(),
            Self::Adopt { shards, .. } => shards.iter_mut().map(|shard| &mut shard.node).collect(),
            Self::Replace { with, .. } => vec![with],
            Self::Drain { .. }
            | Self::Reweight { .. }
            | Self::Promote { .. }
            | Self::SetReplicas { .. }
            | Self::Remove { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Throttle { .. }
            | Self::Cancel { .. }
            | Self::CreateCollection { .. }
            | Self::DropCollection { .. } => Vec::new(),
        }
    }
}
