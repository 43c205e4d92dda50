//! Any text is an id: points with odd ones survive growing and draining bit for bit, and are found by every call.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_tests::ask::segment;
use sheaf_tests::{Cluster, Router, Shape};

const COLLECTION: &str = "odd";

/// Ids that URLs, file names, texts and encodings treat in ways of their own.
fn ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "",
        " ",
        "  a b ",
        "doc#3",
        "a/b",
        "/",
        "//",
        "a/../b",
        "a?b",
        "?k=1&v=2",
        "#",
        "%",
        "%2F",
        "a%2Fb",
        "%00",
        "%zz",
        "+",
        "a+b",
        ".",
        "..",
        "~",
        "a;b",
        "a:b",
        ":bulk",
        "points:bulk",
        "\\",
        "\"",
        "'",
        "{}",
        "null",
        "0",
        "00",
        "-1",
        "\0",
        "\n",
        "a\r\nb",
        "\t",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}a",
        "ä",
        "a\u{308}",
        "ß",
        "İ",
        "日本語",
        "עברית",
        "🐅",
        "👩‍👩‍👧‍👦",
        "\u{10ffff}",
        "A",
        "a",
    ]
    .map(str::to_owned)
    .to_vec();
    ids.push("x".repeat(4_096));
    ids.push("🐅".repeat(1_024));
    ids.push("/".repeat(4_096));
    // Enough others that every shard has some of each kind.
    ids.extend(
        (0..60).flat_map(|n| [format!("doc#{n}"), format!("{n}/{n}"), format!("{n}?{n}%2F")]),
    );
    ids
}

/// Numbers that a copy by way of a text, or of another width, would change.
fn vector(n: usize) -> Vec<f32> {
    let odd = [
        0.1,
        -0.0,
        1.0e-45,
        f32::MIN_POSITIVE,
        16_777_217.0,
        -1.0 / 3.0,
        3.402_823e18,
        1.175_494_2e-38,
        1.0e-7,
        8_388_608.5,
    ];
    (0..4).map(|k| odd[(n + k) % odd.len()]).collect()
}

fn payload(id: &str, n: usize) -> Value {
    match n % 5 {
        0 => Value::Null,
        1 => json!({}),
        2 => json!({ "id": id, "none": null, "list": [null, [], {}, [[null]]], "yes": true }),
        3 => json!({
            "u64": u64::MAX, "i64": i64::MIN, "odd": 9_007_199_254_740_993_u64, "float": 0.1 + 0.2,
            "whole": 1.0, "tiny": 5e-324, "huge": 1e300, "minus": -0.5,
        }),
        _ => json!({
            "": "empty key", "a.b": { "c\"d": [1, 2.5, "x\u{0}y"] }, "日本": "👩‍👩‍👧‍👦\u{2028}\\", "z": { "y": { "x": { "w": [id] } } },
        }),
    }
}

/// What was written, by id.
fn points() -> BTreeMap<String, (Vec<u32>, Value)> {
    let numbered = ids().into_iter().enumerate();
    numbered
        .map(|(n, id)| {
            let (bits, payload) =
                (vector(n).into_iter().map(f32::to_bits).collect(), payload(&id, n));
            (id, (bits, payload))
        })
        .collect()
}

/// A shown point: its id, and its vector's bits and payload.
fn read(shown: &Value) -> (String, (Vec<u32>, Value)) {
    let id = shown["id"].as_str().unwrap_or_else(|| panic!("no id: {shown}")).to_owned();
    let numbers = shown["vector"].as_array().unwrap_or_else(|| panic!("no vector: {shown}"));
    let bits = numbers.iter().filter_map(Value::as_f64).map(|n| (n as f32).to_bits()).collect();
    (id, (bits, shown["payload"].clone()))
}

async fn post(router: &Router, call: &str, body: &Value) -> Value {
    let path = format!("/v1/collections/{COLLECTION}/{call}");
    router.client.post(&path, body).await.expect("it answers").expect_ok(&path)
}

/// Every point by its path, all by a fetch, all by a search: equal to what was written.
async fn expect_all(cluster: &Cluster, when: &str) {
    let wanted = points();
    for router in cluster.all_routers() {
        for (id, point) in &wanted {
            let path = format!("/v1/collections/{COLLECTION}/points/{}", segment(id));
            let answer = router.client.get(&path).await.expect("it answers");
            let shown = read(&answer.expect_ok(&format!("{when}: get {id:?}")));
            assert_eq!((&shown.0, &shown.1), (id, point), "{when}: by path");
        }
        let all = json!({ "limit": 10_000, "with_vector": true });
        let fetched = post(&router, "fetch", &all).await;
        let fetched: Vec<_> =
            fetched["points"].as_array().into_iter().flatten().map(read).collect();
        assert!(fetched.is_sorted_by(|a, b| a.0 < b.0), "{when}: a fetch is in the order of ids");
        assert_eq!(fetched.into_iter().collect::<BTreeMap<_, _>>(), wanted, "{when}: by fetch");
        let all = json!({ "vector": [0.0, 0.0, 0.0, 0.0], "k": 1_000, "with_vector": true });
        let found = post(&router, "query", &all).await;
        let found: Vec<_> = found["matches"].as_array().into_iter().flatten().map(read).collect();
        assert_eq!(found.len(), wanted.len(), "{when}: a search finds each once");
        assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), wanted, "{when}: by query");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn points_with_odd_ids_numbers_and_payloads_survive_growing_and_draining_unchanged() {
    let mut cluster = Cluster::start(Shape::of(2, 1)).await;
    let router = cluster.router(0);
    let config = json!({ "name": COLLECTION, "dim": 4, "metric": "l2" });
    let created = router.client.post("/v1/collections", &config).await.expect("it answers");
    created.expect_ok("create");
    let batch: Vec<Value> = ids()
        .iter()
        .enumerate()
        .map(|(n, id)| json!({ "id": id, "vector": vector(n), "payload": payload(id, n) }))
        .collect();
    let written = post(&router, "points", &json!({ "points": batch })).await;
    assert_eq!(written["upserted"], batch.len());
    expect_all(&cluster, "before").await;

    let operator = cluster.operator();
    let (transition, _) = operator.grow(&[&cluster.nodes[2].url]).await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    expect_all(&cluster, "after a grow").await;
    let transition = operator.drain(1).await;
    let _ = operator.ended(transition, 60).await.expect_committed();
    expect_all(&cluster, "after a drain").await;
    operator.idle().await;
    assert_eq!(operator.verify().await, points().len() as u64);

    let all: Vec<String> = points().into_keys().collect();
    assert_eq!(router.delete(COLLECTION, &all).await.expect("every shard is up"), all.len() as u64);
    assert_eq!(router.count(COLLECTION).await.expect("every shard is up"), 0);
    cluster.expect_all_alive();
}
