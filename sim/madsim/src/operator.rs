//! The operator: founds the collection, asks any coordinator for migrations, has every gate counted at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_coordinator::{Ask, AskRefusal, AskedOptions, CopyLimits, NewShard};
use sheaf_map::Weight;
use sheaf_runtime::coordinator::NotDone;
use sheaf_sim::wire::AskMessage;
use sheaf_types::{CollectionConfig, IndexKind, Metric, ShardId};

use crate::book::{Book, Stage};
use crate::clients::Client;
use crate::dice::Dice;
use crate::net::{Answer, Question};
use crate::place::{coordinator_name, name_in, shard_name, url};
use crate::plan::COORDINATORS;
use crate::process::{COLLECTION, DIM};
use crate::trace;

/// Between two tries of the same ask.
const RETRY_PAUSE: Duration = Duration::from_millis(400);
/// Milliseconds that a coordinator gets to answer, and by which the operator is more patient.
const ASK_MS: u64 = 4_000;
const GRACE_MS: u64 = 300;
/// How long a gate may count.
const AUDIT_PATIENCE: Duration = Duration::from_secs(10);
/// Times that a gate is counted before the cluster counts as not whole.
const VERIFY_TRIES_MAX: u32 = 20;

/// Something that an operator wants.
#[derive(Clone, Debug)]
pub enum Wish {
    /// The shard of this number joins.
    Grow(u32),
    /// The shard of the process with this number leaves, if it is in the map then.
    Drain(u32),
    /// The running transition is given up, if it can be.
    Cancel,
    /// The shard of the process with this number gets this weight, in thousandths.
    Reweight(u32, u32),
}

pub struct Operator {
    pub book: Arc<Book>,
    pub client: Client,
    pub dice: Dice,
    /// When, in milliseconds after the cluster was founded, and what.
    pub wishes: Vec<(u64, Wish)>,
    pub copy_points_per_s: Option<u64>,
}

impl Operator {
    pub async fn run(mut self) {
        let config = CollectionConfig {
            name: COLLECTION.to_owned(),
            dim: DIM,
            metric: Metric::L2,
            index: IndexKind::Hnsw,
            pq_subspaces: None,
            binary: None,
            filterable: Vec::new(),
            multivector: None,
            vector_encryption: Default::default(),
        };
        while self.book.record().is_none_or(|record| record.map.shards().is_empty()) {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.insist(|_| Some(Ask::CreateCollection { config: config.clone() }), "create").await;
        self.client.load().await;
        self.book.founded.store(true, Ordering::SeqCst);
        let mut now_ms = 0;
        for (at_ms, wish) in std::mem::take(&mut self.wishes) {
            tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms))).await;
            now_ms = now_ms.max(at_ms);
            let key = format!("{wish:?}-{}", self.book.op().0);
            self.insist(|operator| operator.ask_of(&wish), &key).await;
        }
        self.book.operator_done.store(true, Ordering::SeqCst);
        while !(self.book.stage() == Stage::Audit && self.all_calm()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.client.audit().await;
        self.verify().await;
        self.book.audited.store(true, Ordering::SeqCst);
    }

    fn all_calm(&self) -> bool {
        self.book.calm_clients.load(Ordering::SeqCst) >= self.book.clients()
    }

    /// Asks one coordinator or another until there is an answer that decides.
    async fn insist(&mut self, ask: impl Fn(&Self) -> Option<Ask>, key: &str) {
        loop {
            let Some(ask) = ask(self) else { return };
            let key = Some(key.to_owned());
            let message = AskMessage { ask, key, expects: None, timeout_ms: ASK_MS };
            let coordinator = coordinator_name(self.dice.below(u64::from(COORDINATORS)) as u32);
            let patience = Duration::from_millis(ASK_MS + GRACE_MS);
            let question = Question::Ask(Arc::new(message));
            let answer = self.client.caller.ask(&coordinator, question, patience).await;
            tracing::info!(target: "sheaf_madsim", ?answer, "asked {coordinator}");
            match answer {
                Ok(Answer::Asked(Ok(_))) => return,
                Ok(Answer::Asked(Err(NotDone::Refused(refusal)))) if self.is_final(&refusal) => {
                    return;
                }
                Ok(_) | Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    /// Whether asking again would bring the same answer, or takes too long.
    fn is_final(&self, refusal: &AskRefusal) -> bool {
        match refusal {
            AskRefusal::TimedOut
            | AskRefusal::Deposed
            | AskRefusal::OutcomeUnknown
            | AskRefusal::TooManyAsks { .. } => false,
            // A node must be reached, and must confirm that it left before; a migration has to end first.
            AskRefusal::NodeUnreachable { .. }
            | AskRefusal::NodeRetiring { .. }
            | AskRefusal::InTransition { .. }
            | AskRefusal::Busy { .. } => self.book.stage() >= Stage::Liveness,
            _ => true,
        }
    }

    /// The ask for it; `None`: it makes no sense any more.
    fn ask_of(&self, wish: &Wish) -> Option<Ask> {
        let record = self.book.record()?;
        let id_of = |shard: &u32| -> Option<ShardId> {
            record.map.shard_by_url(&url(&shard_name(*shard))).map(|entry| entry.id)
        };
        let limits =
            CopyLimits { points_per_s_max: self.copy_points_per_s, ..CopyLimits::default() };
        let options = AskedOptions { limits, ..AskedOptions::default() };
        Some(match wish {
            Wish::Grow(shard) => {
                Ask::Grow { shards: vec![NewShard::at(&url(&shard_name(*shard)))], options }
            }
            Wish::Drain(shard) => Ask::Drain { shard: id_of(shard)?, options },
            Wish::Reweight(shard, thousandths) => {
                let weight = Weight::from_thousandths(*thousandths).ok()?;
                Ask::Reweight { shard: id_of(shard)?, weight, options }
            }
            Wish::Cancel => Ask::Cancel { transition: record.transition.as_ref()?.id },
        })
    }

    /// Every gate's own count agrees with the map: nothing foreign, nothing of another version.
    async fn verify(&self) {
        let Some(record) = self.book.record() else { return };
        for entry in record.map.shards() {
            let mut said = "it was not asked".to_owned();
            let mut tries = 0;
            while !self.is_whole(&entry.primary_url, &mut said).await {
                tries += 1;
                if tries >= VERIFY_TRIES_MAX {
                    let text = format!("{} is not whole: {said}", entry.primary_url);
                    return self.book.broken("P8 nothing-destroyed", text);
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            trace::fold(format_args!("verified {said}"));
        }
    }

    async fn is_whole(&self, at: &str, said: &mut String) -> bool {
        let version = self.book.record().map(|record| record.map.version());
        let name = name_in(at).unwrap_or_default();
        let answer = self.client.caller.ask(name, Question::Audit, AUDIT_PATIENCE).await;
        *said = format!("{answer:?}");
        match answer {
            Ok(Answer::Audit(audit)) => Some(audit.version) == version && audit.foreign_points == 0,
            Ok(_) | Err(_) => false,
        }
    }
}
