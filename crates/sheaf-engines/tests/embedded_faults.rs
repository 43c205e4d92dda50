//! The embedded engine keeps its word when the disk fails, fills up, crashes or is damaged.

mod faulty;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use faulty::FaultyDisk;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sheaf_engines::embedded::{Command, Database, Disk, Done, FileDisk, Work};
use sheaf_engines::{Accept, Bodies, EmbeddedOptions, EngineError, Scan, Search, Write};
use sheaf_types::{CollectionConfig, CollectionId, PointBody, PointId, StoredPoint};

const C: CollectionId = CollectionId(1);

fn open_on(disk: Arc<dyn Disk>) -> Result<Database, EngineError> {
    Database::open(EmbeddedOptions {
        work: Work::Inline,
        cache_bytes: 0,
        ..EmbeddedOptions::on(disk)
    })
}

fn open(disk: &FaultyDisk) -> Result<Database, EngineError> {
    open_on(Arc::new(disk.clone()))
}

fn create(database: &Database) {
    let config = serde_json::json!({"name": "faults", "dim": 2});
    let config: CollectionConfig = serde_json::from_value(config).unwrap();
    let command = Command::Create { collection: C, config: Arc::new(config) };
    assert_eq!(database.commit(&[command]), [Ok(Done::Created)]);
}

fn upsert(id: &str, value: u64) -> Write {
    let payload = format!(r#"{{"pad":"{}"}}"#, "x".repeat(500));
    let body = PointBody::encode(&[value as f32, 0.0], Some(&payload));
    Write::Upsert(StoredPoint::new(C, PointId::from(id), body))
}

fn apply(database: &Database, writes: Vec<Write>) -> Result<Done, EngineError> {
    database.commit(&[Command::Apply { collection: C, writes }]).pop().unwrap()
}

/// The value of a point: what was written last.
fn value(database: &Database, id: &str) -> Result<Option<u64>, EngineError> {
    let mut found = database.get(C, &[PointId::from(id)])?;
    Ok(found.pop().flatten().map(|point| point.body.vector()[0] as u64))
}

fn all_values(database: &Database) -> Result<BTreeMap<String, u64>, EngineError> {
    let mut scan = Scan {
        after: None,
        through: None,
        points_max: 100,
        bytes_max: 1 << 20,
        bodies: true,
        accept: Accept::All,
        filter: None,
    };
    let mut values = BTreeMap::new();
    loop {
        let page = database.scan(C, &scan)?;
        for point in page.points {
            let value = point.body.unwrap().vector()[0] as u64;
            values.insert(point.id.as_str().to_owned(), value);
        }
        let Some(through) = page.looked_through else { return Ok(values) };
        scan.after = Some(through);
    }
}

fn searched_values(database: &Database) -> Result<BTreeMap<String, u64>, EngineError> {
    let search = Search {
        vector: vec![0.0, 0.0],
        k: 10_000,
        ef: 64,
        accept: Accept::All,
        filter: None,
        vector_json: None,
        bodies: Bodies::None,
    };
    let hits = database.search(C, &search)?;
    Ok(hits.iter().map(|hit| (hit.id.as_str().to_owned(), hit.score.sqrt() as u64)).collect())
}

#[test]
fn a_full_disk_refuses_writes_keeps_everything_and_recovers() {
    let disk = FaultyDisk::new(1);
    let database = open(&disk).unwrap();
    create(&database);
    disk.state().capacity = 3 * 1024 * 1024;
    let mut acked = BTreeMap::new();
    let mut refused = 0;
    for n in 0..20_000u64 {
        let id = format!("p{n}");
        match apply(&database, (0..10).map(|m| upsert(&format!("{id}-{m}"), n)).collect()) {
            Ok(_) => acked.extend((0..10).map(|m| (format!("{id}-{m}"), n))),
            Err(EngineError::Unavailable(what)) => {
                assert!(what.contains("Nothing was applied"), "{what}");
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused == 3 && acked.len() > 100, "{refused} refused, {} acked", acked.len());
    assert_eq!(all_values(&database).as_ref(), Ok(&acked), "reads go on");
    assert_eq!(searched_values(&database).as_ref(), Ok(&acked), "searches go on");
    disk.state().capacity = usize::MAX;
    apply(&database, vec![upsert("after", 7)]).unwrap();
    acked.insert("after".into(), 7);
    disk.crash();
    drop(database);
    let database = open(&disk).unwrap();
    assert_eq!(all_values(&database), Ok(acked.clone()));
    assert_eq!(searched_values(&database), Ok(acked));
}

/// What a point may be, as far as its writer was told.
#[derive(Clone, Debug, Default)]
struct Known(BTreeSet<Option<u64>>);

/// How often each answer to a write was given.
#[derive(Debug, Default)]
struct Answers {
    done: u32,
    unavailable: u32,
    unknown: u32,
}

fn errors_and_crashes_with(seed: u64, answers: &mut Answers) {
    let disk = FaultyDisk::new(seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut database = open(&disk).unwrap();
    create(&database);
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for n in 0..20 {
        known.insert(format!("p{n}"), Known([None].into()));
    }
    let mut next = 1;
    for _ in 0..150 {
        {
            let mut state = disk.state();
            state.io_errors = if rng.random_bool(0.3) { 0.02 } else { 0.0 };
            state.sync_errors = if rng.random_bool(0.2) { 0.5 } else { 0.0 };
        }
        match rng.random_range(0..10) {
            0 => {
                disk.crash();
                drop(database);
                let mut state = disk.state();
                (state.io_errors, state.sync_errors) = (0.0, 0.0);
                drop(state);
                database = open(&disk).unwrap();
            }
            1..6 => {
                let id = format!("p{}", rng.random_range(0..20));
                let new = rng.random_bool(0.7).then_some(next);
                next += 1;
                let write = match new {
                    Some(value) => upsert(&id, value),
                    None => Write::Delete(PointId::from(id.as_str())),
                };
                let may_be = known.get_mut(&id).unwrap();
                match apply(&database, vec![write]) {
                    Ok(_) => {
                        may_be.0 = [new].into();
                        answers.done += 1;
                    }
                    Err(EngineError::Unavailable(_)) => answers.unavailable += 1,
                    Err(EngineError::Unknown(_)) => {
                        may_be.0.insert(new);
                        answers.unknown += 1;
                    }
                    Err(other) => panic!("seed {seed}: {other}"),
                }
            }
            _ => {
                let id = format!("p{}", rng.random_range(0..20));
                match value(&database, &id) {
                    Ok(found) => {
                        let may_be = known.get_mut(&id).unwrap();
                        assert!(
                            may_be.0.contains(&found),
                            "seed {seed}: {id} is {found:?}, not {may_be:?}"
                        );
                        // Once it was seen it stays so.
                        may_be.0 = [found].into();
                    }
                    Err(EngineError::Unavailable(_)) => {}
                    Err(other) => panic!("seed {seed}: {other}"),
                }
            }
        }
    }
}

#[test]
fn no_answer_turns_out_wrong_under_errors_failed_syncs_and_crashes() {
    let mut answers = Answers::default();
    for seed in 0..60 {
        errors_and_crashes_with(seed, &mut answers);
    }
    let Answers { done, unavailable, unknown } = answers;
    assert!(done > 1_000 && unavailable > 100 && unknown > 20, "too little happened: {answers:?}");
}

fn filled(disk: Arc<dyn Disk>) -> BTreeMap<String, u64> {
    let database = open_on(disk).unwrap();
    create(&database);
    let ids = (0..300).map(|n| (format!("p{n:03}"), n));
    let writes = ids.clone().map(|(id, n)| upsert(&id, n)).collect();
    apply(&database, writes).unwrap();
    ids.collect()
}

#[test]
fn a_damaged_file_is_refused_by_name_or_still_right() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut refused, mut right) = (0, 0);
    for round in 0..150 {
        let disk = FaultyDisk::new(round);
        let wrote = filled(Arc::new(disk.clone()));
        disk.damage(|bytes| match round % 4 {
            0 => bytes.truncate(rng.random_range(1..bytes.len())),
            1 => {
                let from = rng.random_range(0..bytes.len() - 4_096);
                bytes[from..from + 4_096].fill(0);
            }
            2 => {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            _ => {
                let from = rng.random_range(0..bytes.len() - 64);
                rng.fill(&mut bytes[from..from + 64]);
            }
        });
        match open(&disk) {
            Ok(database) => {
                assert_eq!(all_values(&database).as_ref(), Ok(&wrote), "round {round}");
                assert_eq!(searched_values(&database).as_ref(), Ok(&wrote), "round {round}");
                right += 1;
            }
            Err(EngineError::Damaged(what)) => {
                assert!(what.starts_with("a simulated disk"), "{what}");
                refused += 1;
            }
            Err(other) => panic!("round {round}: {other:?}"),
        }
    }
    // Some damage hits pages that are not in use.
    assert!(refused > 30 && right > 10, "{refused} refused, {right} right");
}

#[test]
fn a_file_that_is_something_else_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.redb");
    std::fs::write(&path, "These are not the bytes of a database. ".repeat(1_000)).unwrap();
    let error = open_on(Arc::new(FileDisk::new(dir.path()))).err().unwrap();
    let EngineError::Damaged(what) = error else { panic!("{error:?}") };
    assert!(what.contains(path.to_str().unwrap()), "{what}");
}

#[test]
fn one_directory_serves_one_engine_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let open = || open_on(Arc::new(FileDisk::new(dir.path())));
    let first = open().unwrap();
    let error = open().err().unwrap();
    let EngineError::Unavailable(what) = error else { panic!("{error:?}") };
    assert!(what.contains("in use by another process"), "{what}");
    drop(first);
    open().unwrap();
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrote = filled(Arc::new(FileDisk::new(dir.path())));
    let database = open_on(Arc::new(FileDisk::new(dir.path()))).unwrap();
    assert_eq!(all_values(&database).as_ref(), Ok(&wrote));
    let stats = database.stats();
    apply(&database, vec![upsert("p000", 9), Write::Delete(PointId::from("p001"))]).unwrap();
    wrote.insert("p000".into(), 9);
    wrote.remove("p001");
    drop(database);
    let database = open_on(Arc::new(FileDisk::new(dir.path()))).unwrap();
    assert_eq!(all_values(&database).as_ref(), Ok(&wrote));
    assert_eq!(searched_values(&database), Ok(wrote));
    assert_eq!(database.stats().points, stats.points - 1);
    let point_bytes = stats.bytes / stats.points;
    assert_eq!(
        database.stats().bytes,
        stats.bytes - point_bytes,
        "bytes are counted alike after a restart"
    );
}
