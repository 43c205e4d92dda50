//! Documents move between all engines while clients write, and arrive to the bit; what an engine has no room for ends a migration.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sheaf_tests::{Client, Cluster, Operator, Postgres, QuiverServer, Shape};

use crate::documents::{DIM, PATH, all, ask, create, vectors, write};

const DOCUMENTS: usize = 200;
/// Documents that are written all the time.
const WRITTEN: usize = 30;

/// Documents that nobody writes to: their payload has `n`, if they have one.
fn still(rng: &mut ChaCha8Rng) -> Vec<Value> {
    let odd = json!([[-0.0, 1e-45, 0.1, 1.0], [1.175_494_2e-38, -0.0, 1e18, -1e-45]]);
    let document = |n: usize| {
        let count = rng.random_range(1..9);
        let vectors = if n.is_multiple_of(9) { odd.clone() } else { json!(vectors(rng, count)) };
        let payload = match n % 5 {
            0 => Value::Null,
            1 => json!({}),
            2 => json!({"n": n, "f": 0.1 + 0.2, "i": u64::MAX, "__sheaf_vectors__": "AAAA"}),
            _ => json!({"n": n, "title": format!("é{n}")}),
        };
        json!({"id": format!("d/{n:03}"), "vectors": vectors, "payload": payload})
    };
    (0..DOCUMENTS).map(document).collect()
}

/// Writes and deletes until it is dropped; `known` is what was acknowledged.
async fn keep_writing(client: &Client, known: &mut BTreeMap<String, Value>) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    loop {
        let id = format!("w/{:02}", rng.random_range(0..WRITTEN));
        if rng.random_range(0..4) == 0 {
            let gone = json!({"ids": [id]});
            client.delete(PATH, &gone).await.expect("it answers").expect_ok("delete");
            known.remove(&id);
        } else {
            let count = rng.random_range(1..20);
            let vectors = vectors(&mut rng, count);
            let document = json!({"id": id, "vectors": vectors, "payload": {"w": count}});
            write(client, std::slice::from_ref(&document)).await;
            known.insert(id, document);
        }
    }
}

fn on<'a>(engine: &'a str, url: &'a str) -> [&'a str; 4] {
    ["--engine", engine, "--engine-url", url]
}

/// Moves everything from the only shard to this node. Returns the node's shard.
async fn move_all(operator: &Operator, shard: u64, url: &str) -> u64 {
    let (grow, shards) = operator.grow(&[url]).await;
    let _ = operator.ended(grow, 120).await.expect_committed();
    let drain = operator.drain(shard).await;
    let _ = operator.ended(drain, 120).await.expect_committed();
    operator.idle().await;
    shards[0]
}

/// The ids, vectors and payloads of all documents.
async fn held(client: &Client) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for mut hit in all(client).await {
        let id = hit["id"].as_str().expect("an id").to_owned();
        drop(hit.as_object_mut().map(|hit| hit.remove("score")));
        found.insert(id, hit);
    }
    found
}

fn expect_known(found: &BTreeMap<String, Value>, known: &BTreeMap<String, Value>) {
    let ids = |documents: &BTreeMap<String, Value>| documents.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(found), ids(known));
    for (id, document) in known {
        for part in ["vectors", "payload"] {
            // As text: it tells -0.0 from 0.0.
            assert_eq!(found[id][part].to_string(), document[part].to_string(), "{id}");
        }
    }
}

/// As the router shows what was written: each number is a float32 there.
fn shown(document: &Value) -> Value {
    let mut document = document.clone();
    for number in document["vectors"].as_array_mut().into_iter().flatten() {
        for number in number.as_array_mut().into_iter().flatten() {
            let float = number.as_f64().expect("a number") as f32;
            *number = serde_json::from_str(&serde_json::to_string(&float).expect("finite"))
                .expect("JSON");
        }
    }
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_move_between_all_engines_under_writes_and_arrive_to_the_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(72);
    let (quiver, postgres) = (QuiverServer::start().await, Postgres::start().await);
    let database = postgres.database("shard").await;
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    let on_postgres = cluster.add_node_with(&on("pgvector", &database)).await;
    let on_quiver = cluster.add_node_with(&on("quiver", &quiver.url())).await;
    let router = cluster.router(0).client;
    create(&router, "colbert").await;
    let still = still(&mut rng);
    write(&router, &still).await;
    let of_still: BTreeMap<String, Value> = still
        .iter()
        .map(|one| (one["id"].as_str().expect("an id").to_owned(), shown(one)))
        .collect();
    expect_known(&held(&router).await, &of_still);
    let mut questions = Vec::new();
    for k in [1, 10, 50, 1_000] {
        let question = json!({
            "query": vectors(&mut rng, 4), "k": k, "with_vector": true,
            "filter": {"exists": {"field": "n"}},
        });
        let expected = ask(&router, &question).await;
        questions.push((question, expected));
    }
    let operator = cluster.operator();
    let mut written = BTreeMap::new();
    let (mut shard, embedded) = (1, 0);
    for node in [on_postgres, on_quiver, embedded] {
        let url = cluster.nodes[node].url.clone();
        shard = tokio::select! {
            biased;
            shard = move_all(&operator, shard, &url) => shard,
            () = keep_writing(&router, &mut written) => shard,
        };
        assert_eq!(operator.shard_ids().await, [shard]);
        assert!(written.len() > 5, "{} documents were written", written.len());
        // The last write may have been cut off when it was under way: written once more, its outcome is known.
        let again: Vec<Value> = (0..WRITTEN)
            .map(|n| json!({"id": format!("w/{n:02}"), "vectors": vectors(&mut rng, 2), "payload": {"w": n}}))
            .collect();
        let before = held(&router).await;
        let differ = |id: &String| {
            let known = written.get(id).map(|known| shown(known)["vectors"].clone());
            before.get(id).map(|found| &found["vectors"]) != known.as_ref()
        };
        let lost = (0..WRITTEN).map(|n| format!("w/{n:02}")).filter(|id| differ(id));
        assert!(lost.clone().count() <= 1, "{:?}", lost.collect::<Vec<_>>());
        write(&router, &again).await;
        let mut known = of_still.clone();
        for document in &again {
            let id = document["id"].as_str().expect("an id").to_owned();
            known.insert(id.clone(), shown(document));
            written.insert(id, document.clone());
        }
        expect_known(&held(&router).await, &known);
        for (question, expected) in &questions {
            assert_eq!(&ask(&router, question).await, expected, "{question}");
        }
        assert_eq!(operator.verify().await, known.len() as u64);
    }
    cluster.expect_all_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_an_engine_has_no_room_for_ends_the_migration_and_stays_where_it_is() {
    let mut rng = ChaCha8Rng::seed_from_u64(73);
    let quiver = QuiverServer::start().await;
    let mut cluster = Cluster::start(Shape::of(1, 0)).await;
    let node = cluster.add_node_with(&on("quiver", &quiver.url())).await;
    let router = cluster.router(0).client;
    create(&router, "hnsw").await;
    let mut documents = still(&mut rng);
    let large = |rng: &mut ChaCha8Rng, n: usize| json!({"id": format!("large/{n}"), "vectors": vectors(rng, 20_000 / DIM), "payload": {"n": n}});
    documents.extend((0..6).map(|n| large(&mut rng, n)));
    write(&router, &documents).await;
    let before = held(&router).await;
    let operator = cluster.operator();
    let url = cluster.nodes[node].url.clone();
    let (grow, _) = operator.grow(&[&url]).await;
    let ended = operator.ended(grow, 60).await;
    assert!(!ended.committed(), "{}", ended.report);
    let why = ended.report.to_string();
    assert!(why.contains("QUIVER_MAX_PAYLOAD_BYTES"), "{why}");
    operator.idle().await;
    assert_eq!(held(&router).await, before);
    assert_eq!(operator.verify().await, before.len() as u64);
    // Without them it goes; and then none may come.
    let ids: Vec<String> = (0..6).map(|n| format!("large/{n}")).collect();
    router.delete(PATH, &json!({ "ids": ids })).await.expect("it answers").expect_ok("delete");
    move_all(&operator, 1, &url).await;
    let body = json!({ "documents": [large(&mut rng, 0)] });
    let answer = router.post(PATH, &body).await.expect("it answers");
    answer.expect_problem(400, "no room for it");
    assert!(answer.detail().contains("QUIVER_MAX_PAYLOAD_BYTES=2097152"), "{}", answer.detail());
    assert_eq!(operator.verify().await, DOCUMENTS as u64);
    cluster.expect_all_alive();
}
