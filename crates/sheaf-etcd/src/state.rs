//! What a store knows of its record in etcd, and the steps of its calls.
//!
//! Decides when a write is known not to be applied any more. A head's text never comes back once it was replaced, so a transaction
//! that compares with it is dead from then on; while it stands, one in doubt may still be applied, and a load renews it first.
//! Every step may be dropped half-way: what a later one must know is kept before anything is sent.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use sheaf_stores::{Etag, Loaded, StoreError, StoreOutcome};

use crate::election::{Badge, Office, by_age};
use crate::head::{
    Head, Keys, PAGE_BYTES_MAX, PAGES_A_READ_MAX, PAGES_A_WRITE_MAX, RECORD_BYTES_MAX, Record,
    epoch_of, folder, pages,
};
use crate::members::{Answered, Members, Rejected};

/// Times that a call begins anew because others replace the head meanwhile.
const LOOKS_MAX: u32 = 8;
/// Writes between two looks for what died writers left.
const WRITES_A_CLEANING: u32 = 64;
/// Why a process that doesn't lead writes nothing.
const NOT_LEADING: &str = "this coordinator doesn't lead, or no longer";
/// Unfinished writes that are cleaned up in one call.
const FOLDERS_A_CLEANING: usize = 16;

/// The head key as it was found; `None`: it isn't there.
type Seen = Option<Found>;

#[derive(Clone, Debug)]
struct Found {
    text: Vec<u8>,
    head: Head,
}

/// What the head key is compared with: its text, or nothing at all.
fn text(seen: &Seen) -> Vec<u8> {
    seen.as_ref().map(|found| found.text.clone()).unwrap_or_default()
}

fn record(seen: &Seen) -> Option<&Record> {
    seen.as_ref().and_then(|found| found.head.record.as_ref())
}

fn etag(seen: &Seen) -> Option<Etag> {
    record(seen).map(Record::etag)
}

fn next_epoch(seen: &Seen) -> u64 {
    seen.as_ref().map_or(1, |found| found.head.epoch + 1)
}

/// Why the head is not known.
enum Unread {
    Refused(String),
    Damaged(String),
}

impl From<Unread> for StoreError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Refused(reason) => Self::Unavailable(reason),
            Unread::Damaged(what) => Self::Damaged(what),
        }
    }
}

/// How far a write came.
enum Step {
    Ended(StoreOutcome),
    /// The head was replaced, perhaps by one with the same record: nothing was stored, and the write may begin anew.
    Anew,
}

/// How the transaction ended that replaces a head.
enum Swap {
    Done,
    /// Another head is stored; it is in this answer.
    Other(TxnResponse),
    /// The badge's key is gone for ever; the head, whichever, is in this answer.
    Over(TxnResponse),
}

pub struct State {
    keys: Keys,
    writer: String,
    members: Members,
    /// Where the badge is without which nothing may be written; `None`: no election is held.
    office: Option<Office>,
    /// The head when it was seen last; `None`: never yet.
    seen: Option<Seen>,
    /// The texts that writes without an answer compare with.
    doubts: BTreeSet<Vec<u8>>,
    /// Writes of this store so far: part of their names.
    writes: u64,
    /// Folders of this store's writes that ended before their head was sent: nothing will ever name them.
    abandoned: BTreeSet<String>,
    writes_until_cleaning: u32,
}

impl State {
    pub fn new(keys: Keys, writer: String, members: Members, office: Option<Office>) -> Self {
        let (doubts, abandoned) = (BTreeSet::new(), BTreeSet::new());
        let (seen, writes, writes_until_cleaning) = (None, 0, 0);
        Self {
            keys,
            writer,
            members,
            office,
            seen,
            doubts,
            writes,
            abandoned,
            writes_until_cleaning,
        }
    }

    /// What went wrong last.
    pub fn trouble(&self) -> &str {
        self.members.trouble()
    }

    pub async fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        let mut incomplete = None;
        for _ in 0..LOOKS_MAX {
            let mut seen = self.look().await?;
            if self.doubts.contains(&text(&seen)) {
                match self.renew(&seen).await? {
                    Some(renewed) => seen = Some(renewed),
                    None => continue,
                }
            }
            // None of them compares with what is stored now.
            self.doubts.clear();
            let Some(record) = record(&seen) else { return Ok(None) };
            match self.read_pages(record).await? {
                Ok(bytes) => return Ok(Some(Loaded { etag: record.etag(), bytes })),
                // Its pages go when it is replaced: only what is missing while it stands is damage.
                Err(what) if incomplete == Some(text(&seen)) => {
                    return Err(StoreError::Damaged(self.damaged(&what)));
                }
                Err(_) => incomplete = Some(text(&seen)),
            }
        }
        Err(StoreError::Unavailable(
            "the record in etcd is replaced faster than it can be read".to_owned(),
        ))
    }

    /// What each process says that stands for election, the leader first.
    pub async fn standing(&mut self) -> Result<Vec<String>, StoreError> {
        let prefix = GetOptions::new().with_prefix();
        let everyone = TxnOp::get(self.keys.all_standing(), Some(prefix));
        let answered = self.members.txn(Txn::new().and_then([everyone])).await;
        let answered = answered.map_err(|rejected| StoreError::Unavailable(rejected.reason))?;
        Ok(by_age(&answered.response).into_iter().map(|(_, said)| said).collect())
    }

    pub async fn write(
        &mut self,
        expected: Option<Etag>,
        bytes: &Bytes,
        sent: &AtomicBool,
    ) -> StoreOutcome {
        let badge = match self.office.as_ref().map(Office::badge) {
            None => None,
            Some(Some(badge)) => Some(badge),
            Some(None) => return StoreOutcome::NotStored { reason: NOT_LEADING.to_owned() },
        };
        for _ in 0..LOOKS_MAX {
            let base = match &self.seen {
                Some(seen) if etag(seen) == expected => seen.clone(),
                Some(_) | None => match self.look().await {
                    Ok(seen) if etag(&seen) == expected => seen,
                    Ok(_) => return StoreOutcome::Refused,
                    Err(Unread::Refused(reason) | Unread::Damaged(reason)) => {
                        return StoreOutcome::NotStored { reason };
                    }
                },
            };
            match self.write_on(&base, badge.as_ref(), bytes, sent).await {
                Step::Ended(outcome) => return outcome,
                Step::Anew => sent.store(false, Ordering::SeqCst),
            }
        }
        let reason = "other processes renew the head in etcd faster than it can be replaced";
        StoreOutcome::NotStored { reason: reason.to_owned() }
    }

    /// Stores a record in place of the one that `base` names.
    async fn write_on(
        &mut self,
        base: &Seen,
        badge: Option<&Badge>,
        bytes: &Bytes,
        sent: &AtomicBool,
    ) -> Step {
        let by = self.name();
        let epoch = next_epoch(base);
        let folder = folder(epoch, &by);
        self.clean_when_due(base).await;
        let until_cleaning = self.writes_until_cleaning;
        let all = pages(bytes);
        // The last pages go with the head.
        let inline_from = all.len().saturating_sub(1) / PAGES_A_WRITE_MAX * PAGES_A_WRITE_MAX;
        let is_paged = inline_from > 0;
        if is_paged && let Err(step) = self.write_pages(&folder, &all, inline_from).await {
            return step;
        }
        let stored = Record::new(epoch, folder.clone(), bytes);
        let found = Found::of(Head::new(epoch, by, Some(stored.clone())));
        let mut changes = vec![TxnOp::put(self.keys.head(), found.text.clone(), None)];
        let inline = all.iter().enumerate().skip(inline_from);
        changes.extend(
            inline.map(|(n, page)| TxnOp::put(self.keys.page(&folder, n), &page[..], None)),
        );
        if is_paged {
            changes.push(TxnOp::delete(self.keys.unfinished(&folder), None));
        }
        changes.extend(
            record(base).into_iter().flat_map(|old| self.deleted(&old.folder, old.pages())),
        );
        let step = self.replace((base, badge), (&stored, found), changes, sent).await;
        if matches!(step, Step::Ended(StoreOutcome::Done(_))) {
            self.writes_until_cleaning = until_cleaning;
        }
        step
    }

    /// Sends the transaction that makes a head the current one, and judges its answer.
    async fn replace(
        &mut self,
        (base, badge): (&Seen, Option<&Badge>),
        (stored, found): (&Record, Found),
        changes: Vec<TxnOp>,
        sent: &AtomicBool,
    ) -> Step {
        let was_in_doubt = !self.doubts.insert(text(base));
        sent.store(true, Ordering::SeqCst);
        self.abandoned.remove(&stored.folder);
        let txn = self.under(badge, self.swap(base, changes));
        let outcome = match self.members.txn(txn).await.map(|answered| ended(base, badge, answered))
        {
            Err(Rejected { reason, after_doubt: true }) => StoreOutcome::Unknown { reason },
            Err(Rejected { reason, after_doubt: false }) => {
                if !was_in_doubt {
                    self.doubts.remove(&text(base));
                }
                StoreOutcome::NotStored { reason }
            }
            Ok((Swap::Done, _)) => {
                self.doubts.remove(&text(base));
                self.seen = Some(Some(found));
                return Step::Ended(StoreOutcome::Done(stored.etag()));
            }
            Ok((Swap::Other(response) | Swap::Over(response), after_doubt)) => {
                // Another head is stored, or the badge is gone: nothing that compares with both is applied any more.
                let now = match self.head_in(&response) {
                    Ok(now) => now,
                    Err(reason) => return Step::Ended(StoreOutcome::Unknown { reason }),
                };
                if text(&now) == text(base) {
                    return Step::Ended(self.not_leading(badge, was_in_doubt, base));
                }
                self.doubts.remove(&text(base));
                let is_ours = record(&now) == Some(stored);
                let is_renewed = etag(&now) == etag(base);
                self.seen = Some(now);
                if is_ours {
                    // An earlier try of this transaction was applied.
                    return Step::Ended(StoreOutcome::Done(stored.etag()));
                }
                if is_renewed {
                    self.writes_until_cleaning = 0;
                    return Step::Anew;
                }
                match after_doubt {
                    true => StoreOutcome::Unknown {
                        reason: "somebody else has written meanwhile, perhaps on top of this write"
                            .to_owned(),
                    },
                    false => StoreOutcome::Refused,
                }
            }
        };
        self.writes_until_cleaning = 0;
        Step::Ended(outcome)
    }

    /// The badge's key is gone, and the head is still the one that was to be replaced.
    fn not_leading(
        &mut self,
        badge: Option<&Badge>,
        was_in_doubt: bool,
        base: &Seen,
    ) -> StoreOutcome {
        // A write before this one may have compared with another badge.
        if !was_in_doubt {
            self.doubts.remove(&text(base));
        }
        if let (Some(office), Some(badge)) = (&self.office, badge) {
            office.is_over(badge);
        }
        self.writes_until_cleaning = 0;
        StoreOutcome::NotStored { reason: NOT_LEADING.to_owned() }
    }

    /// Replaces the head by one with the same record, so that no write in doubt can be applied any more. `None`: it was replaced
    /// by somebody before, perhaps by the write in doubt.
    async fn renew(&mut self, seen: &Seen) -> Result<Option<Found>, StoreError> {
        let head = Head::new(next_epoch(seen), self.name(), record(seen).cloned());
        let found = Found::of(head);
        let change = TxnOp::put(self.keys.head(), found.text.clone(), None);
        let answered = self.members.txn(self.swap(seen, vec![change])).await;
        let answered =
            answered.map_err(|rejected| StoreError::Unavailable(rejected.reason))?.response;
        let is_ours = swapped(seen, &answered)
            || values(&answered).first().is_some_and(|now| now.as_ref() == Some(&found.text));
        if is_ours {
            self.seen = Some(Some(found.clone()));
        }
        Ok(is_ours.then_some(found))
    }

    /// Writes the pages before `until` of a record that is too large for one transaction. Nothing names them yet.
    async fn write_pages(&mut self, folder: &str, all: &[Bytes], until: usize) -> Result<(), Step> {
        self.abandoned.insert(folder.to_owned());
        self.writes_until_cleaning = 0;
        let unfinished = self.keys.unfinished(folder);
        let count = all.len().to_string();
        for (number, some) in all[..until].chunks(PAGES_A_WRITE_MAX).enumerate() {
            let first = number * PAGES_A_WRITE_MAX;
            let put = |(n, page): (usize, &Bytes)| {
                TxnOp::put(self.keys.page(folder, first + n), &page[..], None)
            };
            let mut changes: Vec<TxnOp> = some.iter().enumerate().map(put).collect();
            let mut txn = Txn::new();
            if first == 0 {
                changes.push(TxnOp::put(unfinished.as_str(), count.as_str(), None));
            } else {
                // Late pages of a write that was cleaned up must not come back: nothing would ever delete them.
                let stands = Compare::value(unfinished.as_str(), CompareOp::Equal, count.as_str());
                txn = txn.when([stands]);
            }
            match self.members.txn(txn.and_then(changes)).await {
                Ok(answered) if answered.response.succeeded() => {}
                // Only writes whose base is gone are cleaned up: it was replaced, or renewed.
                Ok(_) => {
                    self.seen = None;
                    return Err(Step::Anew);
                }
                Err(Rejected { reason, .. }) => {
                    return Err(Step::Ended(StoreOutcome::NotStored { reason }));
                }
            }
        }
        Ok(())
    }

    /// The bytes of a record, or what is wrong with them.
    async fn read_pages(&mut self, record: &Record) -> Result<Result<Bytes, String>, StoreError> {
        let mut bytes = Vec::with_capacity(record.length);
        let numbers: Vec<usize> = (0..record.pages()).collect();
        for some in numbers.chunks(PAGES_A_READ_MAX) {
            let keys = some.iter().map(|&number| self.keys.page(&record.folder, number));
            let keys: Vec<String> = keys.collect();
            let gets: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(key.as_str(), None)).collect();
            let answered = self.members.txn(Txn::new().and_then(gets)).await;
            let answered = answered.map_err(|rejected| StoreError::Unavailable(rejected.reason))?;
            let pages = values(&answered.response);
            for (number, key) in keys.iter().enumerate() {
                match pages.get(number) {
                    Some(Some(page)) => bytes.extend_from_slice(page),
                    Some(None) | None => return Ok(Err(format!("the key {key} is missing"))),
                }
            }
        }
        if record.is(&bytes) {
            return Ok(Ok(Bytes::from(bytes)));
        }
        let pages = self.keys.page(&record.folder, 0);
        Ok(Err(format!(
            "what is under the key {pages} and those after it differs from its checksum"
        )))
    }

    /// Reads the head.
    async fn look(&mut self) -> Result<Seen, Unread> {
        let get = TxnOp::get(self.keys.head(), None);
        let answered = self.members.txn(Txn::new().and_then([get])).await;
        let answered = answered.map_err(|rejected| Unread::Refused(rejected.reason))?;
        let seen = self.head_in(&answered.response).map_err(Unread::Damaged)?;
        self.seen = Some(seen.clone());
        Ok(seen)
    }

    /// The head in an answer that has nothing else.
    fn head_in(&self, response: &TxnResponse) -> Result<Seen, String> {
        let Some(text) = values(response).into_iter().next().flatten() else { return Ok(None) };
        match Head::read(&text) {
            Ok(head) => Ok(Some(Found { text, head })),
            Err(what) => Err(self.damaged(&format!("the key {} {what}", self.keys.head()))),
        }
    }

    fn damaged(&self, what: &str) -> String {
        format!(
            "the record in etcd under {} is damaged: {what}. Nothing was changed. Don't delete the keys, they may be all that is \
             left of the cluster's map: restore etcd from a snapshot (etcdctl snapshot restore)",
            self.keys.0
        )
    }

    /// The transaction that replaces the head if it still is this one, and shows the one that is there instead if not.
    fn swap(&self, base: &Seen, changes: Vec<TxnOp>) -> Txn {
        let key = self.keys.head();
        let get = [TxnOp::get(key.as_str(), None)];
        match base {
            Some(found) => {
                let same = Compare::value(key.as_str(), CompareOp::Equal, found.text.as_slice());
                Txn::new().when([same]).and_then(changes).or_else(get)
            }
            // No value is empty, and of a key that isn't there none is greater: in etcd and in its simulated twin.
            None => {
                let is_there = Compare::value(key.as_str(), CompareOp::Greater, "");
                Txn::new().when([is_there]).and_then(get).or_else(changes)
            }
        }
    }

    /// A transaction that is carried out only while the badge's key stands, and shows the head if it doesn't.
    fn under(&self, badge: Option<&Badge>, swap: Txn) -> Txn {
        let Some(badge) = badge else { return swap };
        let leads = Compare::value(badge.key.as_str(), CompareOp::Equal, badge.value.as_str());
        let get = TxnOp::get(self.keys.head(), None);
        Txn::new().when([leads]).and_then([TxnOp::txn(swap)]).or_else([get])
    }

    fn deleted<'a>(&'a self, folder: &'a str, pages: usize) -> impl Iterator<Item = TxnOp> + 'a {
        (0..pages).map(move |number| TxnOp::delete(self.keys.page(folder, number), None))
    }

    /// A name for a write that no other has.
    fn name(&mut self) -> String {
        self.writes += 1;
        format!("{}-{}", self.writer, self.writes)
    }

    /// Deletes the pages of writes that ended half-way. Best effort: what stays is found the next time.
    async fn clean_when_due(&mut self, base: &Seen) {
        if self.writes_until_cleaning > 0 {
            self.writes_until_cleaning -= 1;
            return;
        }
        let prefix = self.keys.all_unfinished();
        let all = TxnOp::get(prefix.as_str(), Some(GetOptions::new().with_prefix()));
        let Ok(answered) = self.members.txn(Txn::new().and_then([all])).await else { return };
        let epoch = base.as_ref().map_or(0, |found| found.head.epoch);
        let current = record(base).map(|record| record.folder.clone());
        let is_dead = |folder: &str| {
            // A write of this epoch or an earlier one compares with a head that is gone.
            let is_outdated = epoch_of(folder).is_some_and(|of| of <= epoch);
            self.abandoned.contains(folder) || (is_outdated && current.as_deref() != Some(folder))
        };
        let listed = unfinished(&answered.response, &prefix);
        let dead: Vec<_> = listed.into_iter().filter(|(folder, _)| is_dead(folder)).collect();
        let all_fit = dead.len() <= FOLDERS_A_CLEANING;
        for (folder, pages) in dead.into_iter().take(FOLDERS_A_CLEANING) {
            let mut changes: Vec<TxnOp> = self.deleted(&folder, pages).collect();
            changes.push(TxnOp::delete(self.keys.unfinished(&folder), None));
            if self.members.txn(Txn::new().and_then(changes)).await.is_err() {
                return;
            }
            self.abandoned.remove(&folder);
        }
        if all_fit {
            self.abandoned.clear();
            self.writes_until_cleaning = WRITES_A_CLEANING;
        }
    }
}

impl Found {
    fn of(head: Head) -> Self {
        Self { text: head.text(), head }
    }
}

/// What the answer to the transaction says that replaces a head, and whether an earlier try is in doubt.
fn ended(base: &Seen, badge: Option<&Badge>, answered: Answered<TxnResponse>) -> (Swap, bool) {
    let Answered { response, after_doubt } = answered;
    let inner = match (badge, response.op_responses().into_iter().next()) {
        (None, _) => response,
        (Some(_), Some(TxnOpResponse::Txn(inner))) => inner,
        (Some(_), _) => return (Swap::Over(response), after_doubt),
    };
    let swap = if swapped(base, &inner) { Swap::Done } else { Swap::Other(inner) };
    (swap, after_doubt)
}

/// Whether `State::swap` has replaced the head.
fn swapped(base: &Seen, response: &TxnResponse) -> bool {
    response.succeeded() == base.is_some()
}

/// The value that each read of a transaction found.
fn values(response: &TxnResponse) -> Vec<Option<Vec<u8>>> {
    let each = response.op_responses().into_iter();
    let gets = each.filter_map(|each| match each {
        TxnOpResponse::Get(get) => Some(get),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    });
    gets.map(|get| get.kvs().first().map(|kv| kv.value().to_vec())).collect()
}

/// Folders of unfinished writes and the number of their pages.
fn unfinished(response: &TxnResponse, prefix: &str) -> Vec<(String, usize)> {
    let each = response.op_responses().into_iter();
    let listed = each.flat_map(|each| match each {
        TxnOpResponse::Get(get) => get.kvs().to_vec(),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => Vec::new(),
    });
    let named = listed.filter_map(|kv| {
        let key = std::str::from_utf8(kv.key()).ok()?;
        let folder = key.strip_prefix(prefix)?.to_owned();
        let pages = std::str::from_utf8(kv.value()).ok()?.parse::<usize>().ok()?;
        Some((folder, pages))
    });
    // A number that no write has is not for us to act on.
    named.filter(|(_, pages)| *pages <= RECORD_BYTES_MAX / PAGE_BYTES_MAX).collect()
}
