//! A coordinator's record as the version of Sheaf before this one would have written it, when it ran until this start.
//!
//! Hands on every write unchanged. What the form before can't say is left as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde_json::Value;
use sheaf_coordinator::{RECORD_FORMAT, RECORD_FORMAT_OLDEST};
use sheaf_stores::{Etag, Loaded, Reply, Store, StoreError, StoreOutcome};

/// A store that was last written by the version before, if `is_older`.
pub struct OlderStore<S> {
    pub inner: S,
    pub is_older: bool,
    /// Loads that were answered so.
    pub count: Arc<AtomicU64>,
}

impl<S: Store> Store for OlderStore<S> {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async {
            let mut loaded = self.inner.load().await;
            if let (true, Ok(Some(loaded))) = (self.is_older, &mut loaded)
                && let Some(bytes) = older(&loaded.bytes)
            {
                self.count.fetch_add(1, Ordering::SeqCst);
                loaded.bytes = bytes;
            }
            loaded
        })
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        self.inner.compare_and_set(expected, bytes)
    }
}

/// The same record in the form before; `None`: that has no place for something in it.
fn older(bytes: &[u8]) -> Option<Bytes> {
    // Form 1 knows no names of dropped collections.
    const { assert!(RECORD_FORMAT_OLDEST == 1 && RECORD_FORMAT == 2) };
    let mut record: Value = serde_json::from_slice(bytes).ok()?;
    let fields = record.as_object_mut()?;
    if fields.get("dropped")?.as_array()?.is_empty() {
        fields.remove("dropped");
        fields.insert("format".to_owned(), Value::from(RECORD_FORMAT_OLDEST));
        return Some(Bytes::from(record.to_string()));
    }
    None
}
