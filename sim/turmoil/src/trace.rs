//! The trace: a hash over every event of the simulated network, packets' bytes included, and over what hosts wrote down.
//!
//! Prints what Sheaf logs, when that is asked for. Never decides anything.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use twox_hash::XxHash3_128;

use crate::harness::NETWORK;

/// The time that log lines show.
static NOW_MS: AtomicU64 = AtomicU64::new(0);

/// What time it is, for the log.
pub fn at(ms: u64) {
    NOW_MS.store(ms, Ordering::Relaxed);
}

static SUM: Mutex<Option<Sum>> = Mutex::new(None);

struct Sum {
    hash: XxHash3_128,
    events: u64,
    /// The event at hand: it is written out whole first, since hashing it piece by piece costs more than writing it.
    line: String,
}

/// Puts into the hash what `write` writes.
fn add(write: impl FnOnce(&mut String)) {
    let mut sum = SUM.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || Sum { hash: XxHash3_128::new(), events: 0, line: String::new() };
    let sum = sum.get_or_insert_with(start);
    sum.line.clear();
    write(&mut sum.line);
    sum.hash.write(sum.line.as_bytes());
    sum.events += 1;
}

/// Puts something that happened into the hash.
pub fn fold(what: fmt::Arguments<'_>) {
    // Writing to a string doesn't fail.
    add(|line| line.write_fmt(what).unwrap_or_default());
}

/// The hash over everything so far, and how many events it is over.
pub fn hash() -> (u128, u64) {
    let sum = SUM.lock().unwrap_or_else(PoisonError::into_inner);
    sum.as_ref().map_or((0, 0), |sum| (sum.hash.finish_128(), sum.events))
}

/// The process' one subscriber.
pub struct Trace {
    log: bool,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    ids: BTreeMap<String, u64>,
    names: Vec<String>,
    entered: Vec<u64>,
}

impl Trace {
    /// `log`: also print what Sheaf logs.
    pub fn new(log: bool) -> Self {
        Self { log, names: Mutex::new(Names::default()) }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let network = metadata.target() == NETWORK && metadata.is_event();
        let host = metadata.is_span() && matches!(metadata.name(), "node" | "task");
        let sheaf = metadata.target().starts_with("sheaf") && *metadata.level() <= Level::DEBUG;
        network || (self.log && (host || (sheaf && metadata.is_event())))
    }
}

struct Fields<W>(W);

impl<W: Write> Visit for Fields<W> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

struct Name(String);

impl Visit for Name {
    fn record_str(&mut self, _: &Field, value: &str) {
        value.clone_into(&mut self.0);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for Trace {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        if let Some(host) = span.parent() {
            return host.clone(); // A task of it.
        }
        let mut name = Name(String::new());
        span.record(&mut name);
        let mut names = self.names();
        if let Some(id) = names.ids.get(&name.0) {
            return Id::from_u64(*id);
        }
        names.names.push(name.0.clone());
        let id = names.names.len() as u64;
        names.ids.insert(name.0, id);
        Id::from_u64(id)
    }

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == NETWORK {
            add(|line| event.record(&mut Fields(line)));
            return;
        }
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        let names = self.names();
        let host = names.entered.last().and_then(|id| names.names.get(*id as usize - 1));
        let host = host.map_or("", String::as_str);
        let ms = NOW_MS.load(Ordering::Relaxed);
        println!("{ms:>8} ms {host:<12} {:<5}{line}", event.metadata().level().as_str());
    }

    fn enter(&self, span: &Id) {
        self.names().entered.push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.names().entered.pop();
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}
}
