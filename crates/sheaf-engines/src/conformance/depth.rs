//! What is promised of many points, of extremes, and of things that happen at the same time.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sheaf_types::collection::{FieldType, FilterableField};
use sheaf_types::limits::PAYLOAD_BYTES_MAX;
use sheaf_types::{CollectionConfig, CollectionId, Metric, PlacementKey, PointId, StoredPoint};

use super::sample::{Numbers, point, scan_all, upserts, whole};
use super::{fresh, is_refused, plain, reference};
use crate::{Accept, Bodies, Engine, Filter, Memory, Scan, Search, Write};

/// Every part of a configuration comes back, for each metric.
pub async fn whole_configurations_come_back(engine: &impl Engine, id: CollectionId) {
    let field = |path: &str, field_type| FilterableField { path: path.to_owned(), field_type };
    for (n, metric) in [Metric::L2, Metric::Cosine, Metric::Dot].into_iter().enumerate() {
        let id = CollectionId(id.0 + n as u64);
        let config = Arc::new(CollectionConfig {
            filterable: vec![
                field("a", FieldType::Keyword),
                field("b.c.d", FieldType::Numeric),
                field("é", FieldType::Keyword),
            ],
            ..(*plain(&"n".repeat(255), 1 + n as u32, metric)).clone()
        });
        fresh(engine, id, Arc::clone(&config)).await;
        let listed = engine.collections().await.expect("listing");
        assert_eq!(listed.iter().find(|(listed, _)| *listed == id), Some(&(id, config)));
        engine.drop_collection(id).await.expect("dropping");
    }
}

/// Every float that is a number comes back to the bit; what isn't is refused.
pub async fn extreme_floats_are_kept_and_others_refused(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("floats", 4, Metric::L2)).await;
    let largest_subnormal = f32::from_bits(0x007f_ffff);
    let vectors: [[f32; 4]; 5] = [
        [f32::from_bits(1), -f32::from_bits(1), largest_subnormal, -largest_subnormal],
        [-0.0, 0.0, f32::MIN_POSITIVE, -f32::MIN_POSITIVE],
        [f32::MAX, f32::MIN, 1.0, -1.0],
        [f32::EPSILON, 1.0 + f32::EPSILON, 1.0 - f32::EPSILON / 2.0, 0.1],
        [16_777_215.0, 16_777_216.0, 1e38, 1e-38],
    ];
    let named = |n: usize| format!("v{n}");
    let all: Vec<StoredPoint> =
        vectors.iter().enumerate().map(|(n, vector)| point(id, &named(n), vector, None)).collect();
    engine.apply(id, upserts(&all)).await.expect("writing");
    let found = scan_all(engine, id, whole()).await;
    assert_eq!(found.len(), all.len());
    for (found, wrote) in found.iter().zip(&all) {
        let bits = |vector: Vec<f32>| vector.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let body = found.body.as_ref().expect("a body");
        assert_eq!(bits(body.vector()), bits(wrote.body.vector()), "{}", found.id);
        assert_eq!(found.hash, wrote.hash);
    }
    let signalling = f32::from_bits(0x7f80_0001);
    for odd in [f32::NAN, -f32::NAN, signalling, f32::INFINITY, f32::NEG_INFINITY] {
        let wrong = point(id, "odd", &[1.0, odd, 1.0, 1.0], None);
        let answer = engine.apply(id, upserts(&[wrong])).await;
        assert!(is_refused(&answer), "{odd}: {answer:?}");
    }
    assert_eq!(engine.count(id, Accept::All, None).await, Ok(all.len() as u64));
    engine.drop_collection(id).await.expect("dropping");
}

/// Payloads at the edges of JSON.
pub(super) fn edges() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
    let list = (0..100).fold(json!([]), |inner, _| json!([inner]));
    let wide: Map<String, Value> = (0..2_000).map(|n| (format!("k{n:04}"), json!(n))).collect();
    vec![
        deep,
        json!({ "l": list }),
        Value::Object(wide),
        json!({"a": 5e-324, "b": f64::MAX, "c": -0.0, "d": 0.1, "e": 0.1 + 0.2, "f": f64::MIN_POSITIVE}),
        json!({"a": i64::MIN, "b": u64::MAX, "c": 9_007_199_254_740_993_u64, "d": 1e19, "e": 1.0}),
        json!({"\u{0}": "\u{0}\u{1}\u{1f}\u{7f}", "\"": "\\", "\u{2028}": "\u{feff}\u{10ffff}"}),
        json!({"": {"": {"": null}}}),
        json!({"A": 1, "a": 2, "Ä": 3, "ä": 4, "a\u{308}": 5}),
        json!({}),
        json!({ "t": "x".repeat(PAYLOAD_BYTES_MAX - 2_048) }),
    ]
}

/// Payloads at the edges of JSON come back byte for byte; one that is too large is refused.
pub async fn payloads_at_the_edges_are_kept(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("payloads", 1, Metric::L2)).await;
    let made = |(n, payload): (usize, &Value)| {
        point(id, &format!("p{n:02}"), &[n as f32], Some(&payload.to_string()))
    };
    let all: Vec<StoredPoint> = edges().iter().enumerate().map(made).collect();
    for point in &all {
        let answer = engine.apply(id, upserts(std::slice::from_ref(point))).await;
        assert!(answer.is_ok(), "{}: {answer:?}: {:.99}", point.id, format!("{:?}", point.body));
    }
    let ids = all.iter().map(|point| point.id.clone()).collect();
    let found = engine.get(id, ids).await.expect("reading");
    for (found, wrote) in found.iter().zip(&all) {
        let payload = found.as_ref().and_then(|found| found.body.payload());
        assert_eq!(payload, wrote.body.payload(), "{}", wrote.id);
        assert_eq!(found.as_ref(), Some(wrote), "{}", wrote.id);
    }
    let large = json!({ "t": "x".repeat(PAYLOAD_BYTES_MAX) }).to_string();
    let answer = engine.apply(id, upserts(&[point(id, "large", &[0.0], Some(&large))])).await;
    assert!(is_refused(&answer), "{answer:?}");
    engine.drop_collection(id).await.expect("dropping");
}

/// Scans under way while others delete and write: what is there all the time is seen once, in order, as it is or was.
pub async fn scans_are_whole_while_others_write(engine: &impl Engine, id: CollectionId) {
    fresh(engine, id, plain("concurrent", 2, Metric::L2)).await;
    let name = |n: usize| format!("p{n:04}");
    let made = |n: usize, v: u64| point(id, &name(n), &[n as f32, v as f32], None);
    let all: Vec<StoredPoint> = (0..600).map(|n| made(n, 0)).collect();
    for batch in all.chunks(200) {
        engine.apply(id, upserts(batch)).await.expect("writing");
    }
    // Of three, one is deleted, one overwritten, one left alone.
    let writing = async {
        for n in (0..600).rev().filter(|n| n % 3 < 2) {
            let write = match n % 3 {
                0 => Write::Delete(PointId::from(name(n))),
                _ => Write::Upsert(made(n, 1)),
            };
            engine.apply(id, vec![write]).await.expect("writing");
        }
    };
    let scanning = async {
        for points_max in [5, 50, 17] {
            let found = scan_all(engine, id, Scan { points_max, ..whole() }).await;
            assert!(found.is_sorted_by(|a, b| a.id < b.id), "in order, none twice");
            let seen: BTreeSet<&str> = found.iter().map(|found| found.id.as_str()).collect();
            let missed = (0..600).filter(|n| n % 3 > 0 && !seen.contains(name(*n).as_str()));
            let missed: Vec<usize> = missed.collect();
            assert!(missed.is_empty(), "there all the time, and skipped: {missed:?}");
            for found in &found {
                let n: usize = found.id.as_str()[1..].parse().expect("a number");
                let may = [made(n, 0).hash, made(n, 1).hash];
                assert!(may.contains(&found.hash), "{} is no point that was written", found.id);
            }
        }
    };
    futures_util::future::join(writing, scanning).await;
    let left = scan_all(engine, id, whole()).await;
    let expected = (0..600).filter(|n| n % 3 > 0).map(|n| made(n, u64::from(n % 3 == 1)).hash);
    assert!(left.iter().map(|found| found.hash).eq(expected), "what was answered is what is there");
    engine.drop_collection(id).await.expect("dropping");
}

/// A scan of many points costs so many full pages and no more; `points` is a multiple of 1,000.
pub async fn long_scans_take_full_pages(engine: &impl Engine, id: CollectionId, points: usize) {
    fresh(engine, id, plain("long", 1, Metric::L2)).await;
    for first in (0..points).step_by(1_000) {
        let made = |n: usize| point(id, &format!("p{n:07}"), &[n as f32], None);
        let batch: Vec<StoredPoint> = (first..first + 1_000).map(made).collect();
        engine.apply(id, upserts(&batch)).await.expect("writing");
    }
    let (mut pages, mut found) = (0, 0);
    let mut scan = Scan { bodies: false, ..whole() };
    loop {
        let page = engine.scan(id, scan.clone()).await.expect("a page");
        assert!(page.points.iter().map(|point| &point.id).is_sorted());
        found += page.points.len();
        pages += 1;
        let Some(through) = page.looked_through else { break };
        scan.after = Some(through);
    }
    assert_eq!(found, points);
    // Engines may end a page early, where their own pages end.
    assert!(pages <= points / 1_000 + points / 5_000 + 2, "{pages} pages for {points} points");
    assert_eq!(engine.count(id, Accept::All, None).await, Ok(points as u64));
    engine.drop_collection(id).await.expect("dropping");
}

/// Few of many points are owned here: a search goes on until it has k of them.
pub async fn searches_go_on_until_enough_owned_points_were_found(
    engine: &impl Engine,
    id: CollectionId,
) {
    fresh(engine, id, plain("owned", 40, Metric::L2)).await;
    let mut numbers = Numbers(8);
    let oracle = Memory::new();
    oracle.create_collection(id, plain("owned", 40, Metric::L2)).await.expect("an oracle");
    for batch in 0..4 {
        let mut made =
            |n: usize| point(id, &format!("p{:04}", batch * 500 + n), &numbers.vector(40), None);
        let all: Vec<StoredPoint> = (0..500).map(&mut made).collect();
        engine.apply(id, upserts(&all)).await.expect("writing");
        oracle.apply(id, upserts(&all)).await.expect("an oracle");
    }
    let few: Accept = Accept::Only(Arc::new(|key: PlacementKey| key.0 % 50 == 7));
    let owned = oracle.count(id, few.clone(), None).await.expect("counting") as usize;
    assert!((15..100).contains(&owned), "{owned}");
    for k in [1, 10, owned, owned + 5] {
        let vector = numbers.vector(40);
        let search = Search {
            vector,
            k,
            ef: 64,
            accept: few.clone(),
            filter: None,
            vector_json: None,
            bodies: Bodies::None,
        };
        let found = engine.search(id, search.clone()).await.expect("searching");
        let expected = oracle.search(id, search).await.expect("searching");
        assert_eq!(found.len(), k.min(owned), "k = {k}");
        let ids: BTreeSet<&PointId> = found.iter().map(|hit| &hit.id).collect();
        assert_eq!(ids.len(), found.len(), "none twice");
        assert!(ids.iter().all(|id| few.takes(id.placement_key())), "only owned ones");
        assert!(found.is_sorted_by(|a, b| a.score <= b.score), "best first");
        // An index may miss some; whoever goes through all of them, none.
        let right = expected.iter().filter(|hit| ids.contains(&hit.id)).count();
        assert!(right * 10 >= found.len() * 7, "k = {k}: {right} of {}", found.len());
    }
    engine.drop_collection(id).await.expect("dropping");
}

/// Drawn filters choose the points that another evaluator chooses, in scans and counts.
pub async fn filters_agree_with_a_reference_evaluator(engine: &impl Engine, id: CollectionId) {
    const FILTERS: u32 = 60;
    fresh(engine, id, plain("drawn", 1, Metric::L2)).await;
    let mut numbers = Numbers(9);
    let payloads: Vec<Option<Value>> = (0..150).map(|_| reference::payload(&mut numbers)).collect();
    let named = |n: usize| format!("p{n:03}");
    let made = |(n, payload): (usize, &Option<Value>)| {
        let text = payload.as_ref().map(Value::to_string);
        point(id, &named(n), &[n as f32], text.as_deref())
    };
    let all: Vec<StoredPoint> = payloads.iter().enumerate().map(made).collect();
    engine.apply(id, upserts(&all)).await.expect("writing");
    let (mut some, mut drawn) = (0, 0);
    while some < FILTERS && drawn < 20 * FILTERS {
        drawn += 1;
        let filter = reference::filter(&mut numbers, 2);
        let holds = |payload: &Option<Value>| {
            reference::holds(&filter, payload.as_ref().unwrap_or(&Value::Null))
        };
        let chosen = payloads.iter().enumerate().filter(|(_, payload)| holds(payload));
        let expected: Vec<String> = chosen.map(|(n, _)| named(n)).collect();
        // One that chooses none or all of them shows little.
        if expected.is_empty() || expected.len() == payloads.len() {
            continue;
        }
        some += 1;
        // As it comes from a client.
        let filter = Filter::from_json(&filter.to_json()).expect("it can be said in JSON");
        let scan = Scan { filter: Some(filter.clone()), bodies: false, ..whole() };
        let found = scan_all(engine, id, scan).await;
        let found: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(found, expected, "{filter:?}");
        let count = engine.count(id, Accept::All, Some(filter.clone())).await;
        assert_eq!(count, Ok(expected.len() as u64), "{filter:?}");
    }
    assert_eq!(some, FILTERS, "too few of {drawn} filters chose a part");
    engine.drop_collection(id).await.expect("dropping");
}
