//! Records of other versions of Sheaf: that of the one before is read, that of a later one is left alone.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use sheaf_runtime::coordinator::{RecordError, read_record};
use sheaf_stores::{MemoryStore, Store, StoreOutcome};
use sheaf_types::Term;

use crate::gates::{ModelGates, open, until};
use crate::{cluster, ids};

/// The record of a founded cluster, as JSON.
async fn record() -> Value {
    let (store, _gates, host) = cluster().await;
    host.stop();
    serde_json::from_slice(&store.load().await.unwrap().unwrap().bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_record_of_the_version_before_is_read_and_written_in_the_new_form() {
    let mut before = record().await;
    assert_eq!(before["format"], 2);
    before["format"] = Value::from(1);
    before.as_object_mut().unwrap().remove("dropped").expect("form 2 has it");
    let store = Arc::new(MemoryStore::new());
    let bytes = Bytes::from(serde_json::to_vec(&before).unwrap());
    assert!(matches!(store.compare_and_set(None, bytes).await, StoreOutcome::Done(_)));
    let host = open(&store, &ModelGates::new(2), 1).await;
    until(&host, |record| record.term == Term(2)).await;
    assert_eq!(ids(&host), [1, 2]);
    let after = store.load().await.unwrap().unwrap().bytes;
    let after: Value = serde_json::from_slice(&after).unwrap();
    assert_eq!(
        (&after["format"], &after["dropped"]),
        (&Value::from(2), &Value::from(Vec::<u8>::new()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_of_another_version_is_refused_by_its_number_whatever_else_is_in_it() {
    for found in [0, 3] {
        let mut other = record().await;
        other["format"] = Value::from(found);
        other["unheard_of"] = Value::from("x");
        let bytes = serde_json::to_vec(&other).unwrap();
        assert_eq!(read_record(&bytes).map(|_| ()), Err(RecordError::Form { found }));
    }
    let mut odd = record().await;
    odd["unheard_of"] = Value::from("x");
    let refused = read_record(&serde_json::to_vec(&odd).unwrap()).map(|_| ());
    assert!(matches!(refused, Err(RecordError::Unreadable { .. })), "{refused:?}");
}
