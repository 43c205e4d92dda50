//! The stores on good, damaged and failing disks: what is promised durable stays, and damage is named, never guessed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sheaf_stores::{
    Disk, Etag, Failure, FileStore, Folder, Loaded, MemoryStore, NotKept, RecordStore, Reply,
    Store, StoreError, StoreOutcome, conformance,
};

fn file_store(folder: &tempfile::TempDir) -> Result<FileStore<Folder>, StoreError> {
    FileStore::open(Folder::open(folder.path())?, "record")
}

async fn set(store: &dyn Store, expected: Option<Etag>, text: &str) -> StoreOutcome {
    store.compare_and_set(expected, Bytes::from(text.to_owned())).await
}

async fn text(store: &dyn Store) -> Option<String> {
    let loaded = store.load().await.unwrap();
    loaded.map(|loaded| String::from_utf8(loaded.bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn every_store_conforms() {
    conformance::run(MemoryStore::new).await;
    conformance::run(|| FileStore::open(FakeDisk::default(), "record").unwrap()).await;
    let mut folders = Vec::new();
    conformance::run(|| {
        folders.push(tempfile::tempdir().unwrap());
        file_store(folders.last().unwrap()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn of_two_handles_on_a_store_one_wins() {
    let store = MemoryStore::new();
    conformance::two_handles_never_both_win(&store, &store).await;
}

/// Whose answers to writes in doubt are lost: after the write was stored, and instead of it.
struct LosesAnswers(MemoryStore, Failure);

impl Store for LosesAnswers {
    fn load(&self) -> Reply<'_, Result<Option<Loaded>, StoreError>> {
        self.0.load()
    }

    fn compare_and_set(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        self.0.compare_and_set(expected, bytes)
    }
}

impl conformance::Doubtful for LosesAnswers {
    fn write_in_doubt(&self, expected: Option<Etag>, bytes: Bytes) -> Reply<'_, StoreOutcome> {
        self.0.fail_next(self.1);
        self.0.compare_and_set(expected, bytes)
    }

    fn deliver(&self) -> Reply<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test]
async fn a_load_of_a_store_in_memory_is_final() {
    for failure in [Failure::UnknownStored, Failure::UnknownNotStored] {
        let store = LosesAnswers(MemoryStore::new(), failure);
        conformance::a_load_decides_what_was_in_doubt(&store).await;
    }
}

#[tokio::test]
async fn a_record_survives_its_process_and_goes_on_from_its_etag() {
    let folder = tempfile::tempdir().unwrap();
    let StoreOutcome::Done(etag) = set(&file_store(&folder).unwrap(), None, "one").await else {
        panic!("an empty folder takes a record");
    };
    let store = file_store(&folder).unwrap();
    let bytes = Bytes::from_static(b"one");
    assert_eq!(store.load().await.unwrap(), Some(Loaded { etag, bytes }));
    // Without a load before it, too.
    drop(store);
    let store = file_store(&folder).unwrap();
    assert_eq!(set(&store, None, "x").await, StoreOutcome::Refused);
    assert!(matches!(set(&store, Some(etag), "two").await, StoreOutcome::Done(_)));
}

#[tokio::test]
async fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = file_store(&folder).unwrap();
    let refused = file_store(&folder).unwrap_err();
    assert!(matches!(&refused, StoreError::InUse(text) if text.contains("another process")));
    drop(first);
    assert!(file_store(&folder).is_ok(), "the lock is gone with its owner");
}

#[tokio::test]
async fn what_an_unfinished_write_left_is_removed_and_never_taken_for_the_record() {
    let folder = tempfile::tempdir().unwrap();
    set(&file_store(&folder).unwrap(), None, "one").await;
    let leftover = folder.path().join("record.new");
    fs::write(&leftover, "half of ano").unwrap();
    let store = file_store(&folder).unwrap();
    assert_eq!(text(&store).await.as_deref(), Some("one"));
    assert!(!leftover.exists());
}

/// Stores a record, changes its file, and loads it again.
async fn load_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Option<Loaded>, StoreError> {
    let disk = FakeDisk::default();
    let store = FileStore::open(disk.clone(), "record").unwrap();
    set(&store, None, "a record").await;
    change(disk.0.lock().unwrap().visible.get_mut("record").unwrap());
    FileStore::open(disk, "record").unwrap().load().await
}

fn assert_damaged(loaded: Result<Option<Loaded>, StoreError>, how: &str) {
    let Err(StoreError::Damaged(text)) = loaded else {
        panic!("{how}: {loaded:?}");
    };
    assert!(text.contains("disk:/record") && text.contains("restore"), "{how}: {text}");
}

#[tokio::test]
async fn a_file_cut_short_at_any_byte_or_grown_is_damage() {
    let length = 44 + "a record".len();
    for kept in 0..length {
        assert_damaged(load_changed(|file| file.truncate(kept)).await, &format!("{kept} bytes"));
    }
    assert_damaged(load_changed(|file| file.push(0)).await, "one byte more");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_damage() {
    for at in 0..44 + "a record".len() {
        let bit = 1 << (at % 8);
        let flipped = load_changed(|file| file[at] ^= bit).await;
        assert_damaged(flipped, &format!("bit {bit} of byte {at}"));
    }
}

#[tokio::test]
async fn a_file_of_a_later_format_is_left_alone_and_says_so() {
    let Err(StoreError::Damaged(text)) = load_changed(|file| file[8] = 2).await else {
        panic!("a format that isn't known can't be read");
    };
    assert!(text.contains("has the format 2"), "{text}");
}

#[tokio::test]
async fn a_damaged_record_is_not_overwritten() {
    let disk = FakeDisk::default();
    set(&FileStore::open(disk.clone(), "record").unwrap(), None, "one").await;
    disk.0.lock().unwrap().visible.get_mut("record").unwrap()[44] ^= 1;
    let damaged = disk.file("record");
    let store = FileStore::open(disk.clone(), "record").unwrap();
    for expected in [None, Some(Etag(1))] {
        let outcome = set(&store, expected, "two").await;
        assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
    }
    assert_eq!(disk.file("record"), damaged);
}

#[tokio::test]
async fn a_full_disk_stores_nothing_and_keeps_the_old_record() {
    let disk = FakeDisk::default();
    let store = FileStore::open(disk.clone(), "record").unwrap();
    set(&store, None, "one").await;
    disk.fail(Step::Write);
    let outcome = set(&store, Some(Etag(1)), "two").await;
    assert!(matches!(outcome, StoreOutcome::NotStored { .. }), "{outcome:?}");
    assert_eq!(text(&store).await.as_deref(), Some("one"));
    assert_eq!(disk.file("record.new"), None, "half a file doesn't keep the disk full");
    assert!(matches!(set(&store, Some(Etag(1)), "two").await, StoreOutcome::Done(_)));
}

#[tokio::test]
async fn a_failure_from_the_rename_on_is_an_unknown_outcome_until_it_is_loaded() {
    for (step, stored) in [(Step::Rename, "one"), (Step::SyncNames, "two")] {
        let disk = FakeDisk::default();
        let store = FileStore::open(disk.clone(), "record").unwrap();
        set(&store, None, "one").await;
        disk.fail(step);
        let outcome = set(&store, Some(Etag(1)), "two").await;
        assert!(matches!(outcome, StoreOutcome::Unknown { .. }), "{step:?}: {outcome:?}");
        assert_eq!(text(&store).await.as_deref(), Some(stored), "{step:?}");
        disk.crash();
        let store = FileStore::open(disk.clone(), "record").unwrap();
        assert_eq!(text(&store).await.as_deref(), Some(stored), "{step:?}: what was loaded stays");
    }
}

#[tokio::test]
async fn a_crash_after_any_number_of_steps_leaves_the_old_or_the_new_record() {
    for steps in 0..4 {
        let disk = FakeDisk::default();
        let store = FileStore::open(disk.clone(), "record").unwrap();
        set(&store, None, "one").await;
        disk.0.lock().unwrap().steps_left = Some(steps);
        let outcome = set(&store, Some(Etag(1)), "two").await;
        disk.crash();
        let found = text(&FileStore::open(disk.clone(), "record").unwrap()).await;
        let may_be: &[&str] = match outcome {
            StoreOutcome::Done(_) => &["two"],
            StoreOutcome::NotStored { .. } => &["one"],
            StoreOutcome::Unknown { .. } => &["one", "two"],
            StoreOutcome::Refused => panic!("nobody else writes"),
        };
        assert!(may_be.contains(&found.as_deref().unwrap()), "{steps}: {outcome:?}, {found:?}");
    }
}

#[tokio::test]
async fn a_single_writer_finds_out_what_became_of_an_unknown_write() {
    for failure in [Failure::NotStored, Failure::UnknownStored, Failure::UnknownNotStored] {
        let store = Arc::new(MemoryStore::new());
        let (mut record, none) = RecordStore::<u32>::open(store.clone()).await.unwrap();
        assert_eq!(none, None);
        assert_eq!(record.keep(&1).await, Ok(()));
        store.fail_next(failure);
        assert!(matches!(record.keep(&2).await, Err(NotKept::TryAgain(_))), "{failure:?}");
        assert_eq!(record.keep(&3).await, Ok(()), "{failure:?}");
        let (_, found) = RecordStore::<u32>::open(store).await.unwrap();
        assert_eq!(found, Some(3), "{failure:?}");
    }
}

#[tokio::test]
async fn a_record_that_somebody_else_replaced_is_not_overwritten() {
    let store = Arc::new(MemoryStore::new());
    let (mut first, _) = RecordStore::<u32>::open(store.clone()).await.unwrap();
    first.keep(&1).await.unwrap();
    let (mut second, _) = RecordStore::<u32>::open(store.clone()).await.unwrap();
    second.keep(&2).await.unwrap();
    assert_eq!(first.keep(&3).await, Err(NotKept::Replaced));
    store.fail_next(Failure::UnknownNotStored);
    second.keep(&4).await.unwrap_err();
    let (mut third, _) = RecordStore::<u32>::open(store.clone()).await.unwrap();
    third.keep(&5).await.unwrap();
    assert_eq!(second.keep(&6).await, Err(NotKept::Replaced));
    assert_eq!(text(&*store).await.as_deref(), Some("5"));
}

#[tokio::test]
async fn a_record_of_another_kind_is_refused_when_opened() {
    let store = Arc::new(MemoryStore::new());
    set(&*store, None, "\"words\"").await;
    let refused = RecordStore::<u32>::open(store).await;
    assert!(matches!(refused.err(), Some(StoreError::Damaged(_))));
}

/// A disk that loses in a crash what was not made durable, and fails one step when told to.
#[derive(Clone, Debug, Default)]
struct FakeDisk(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    /// What a running process sees.
    visible: BTreeMap<String, Vec<u8>>,
    /// What a crash leaves.
    durable: BTreeMap<String, Vec<u8>>,
    fails: BTreeSet<Step>,
    /// After so many steps, all fail.
    steps_left: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Write,
    Rename,
    SyncNames,
}

impl FakeDisk {
    fn fail(&self, step: Step) {
        self.0.lock().unwrap().fails.insert(step);
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().visible.get(name).cloned()
    }

    fn crash(&self) {
        let mut files = self.0.lock().unwrap();
        files.visible = files.durable.clone();
        (files.steps_left, files.fails) = (None, BTreeSet::new());
    }

    fn step(&self, step: Step) -> io::Result<std::sync::MutexGuard<'_, Files>> {
        let mut files = self.0.lock().unwrap();
        let spent = match &mut files.steps_left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if files.fails.remove(&step) || spent {
            if step == Step::Write {
                files.visible.insert("record.new".to_owned(), b"half".to_vec());
            }
            return Err(io::Error::other("the disk fails"));
        }
        Ok(files)
    }
}

impl Disk for FakeDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.file(name))
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Write)?.visible.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.step(Step::Rename)?;
        let bytes = files.visible.remove(from).unwrap();
        files.visible.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().visible.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut files = self.step(Step::SyncNames)?;
        files.durable = files.visible.clone();
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        format!("disk:/{name}")
    }

    fn is_slow(&self) -> bool {
        false
    }
}
