//! Collections: who sees them, and when a change counts as done.

use serde_json::json;

use crate::cluster::{Client, Cluster, Trouble, ids, map_of, words};

#[tokio::test(start_paused = true)]
async fn a_collection_can_be_used_as_soon_as_it_is_created() {
    let client = Client::new(Cluster::of(3)).await;
    let answer = client
        .post("/v1/collections", &json!({ "name": "films", "dim": 2, "metric": "dot" }))
        .await;
    assert_eq!(answer.status, 200, "as of Quiver");
    let collection = answer.json();
    assert_eq!(collection["metric"], "dot");
    assert_eq!((&collection["count"], &collection["index_ready"]), (&json!(0), &json!(true)));
    let body = json!({ "points": [{ "id": "a", "vector": [1, 2] }] });
    assert_eq!(client.post("/v1/collections/films/points", &body).await.status, 200);
    let again = client.post("/v1/collections", &json!({ "name": "films", "dim": 2 })).await;
    assert_eq!(again.status, 409);
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_another_router_created_is_found() {
    let client = Client::new(Cluster::of(2)).await;
    let films = json!({ "name": "films", "dim": 2 });
    client.cluster.state().map = Some(map_of(6, 2, &[words(), films]));
    let answer = client.get("/v1/collections/films").await;
    assert_eq!((answer.status.as_u16(), answer.json()["count"].as_u64()), (200, Some(0)));
    assert_eq!(client.get("/v1/collections/music").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_collection_is_gone_on_every_shard_when_the_answer_comes() {
    let client = Client::new(Cluster::of(3)).await;
    client.upsert(ids(9)).await;
    client.cluster.seen();
    let answer = client.ask("DELETE", "/v1/collections/words", "").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "existed": true })));
    let mut told: Vec<u64> = client.cluster.seen().iter().map(|seen| seen.0).collect();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3]);
    assert_eq!(client.get("/v1/collections/words/points/id-0001").await.status, 404);
    let again = client.ask("DELETE", "/v1/collections/words", "").await;
    assert_eq!(again.json(), json!({ "existed": false }));
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_a_shard_has_not_heard_of_is_not_reported_as_done() {
    let mut client = Client::new(Cluster::of(3)).await;
    client.timeout_ms = Some(500);
    client.cluster.trouble(2, Trouble::Away);
    let answer = client.ask("DELETE", "/v1/collections/words", "").await;
    assert_eq!(answer.status, 504);
    assert!(answer.detail().contains("dropped for good"));
    client.cluster.state().trouble.clear();
    let again = client.ask("DELETE", "/v1/collections/words", "").await;
    assert_eq!(again.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_list_has_the_clusters_counts_and_only_what_the_key_may_see() {
    let cluster = Cluster::of(3);
    let private = json!({ "name": "private", "dim": 2 });
    cluster.state().map = Some(map_of(5, 3, &[words(), private]));
    let mut client = Client::with_keys(cluster, &["all", "some:write:wor*"]).await;
    client.key = Some("some");
    assert_eq!(client.upsert(ids(25)).await.status, 200);
    let list = client.get("/v1/collections").await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!((&list[0]["name"], &list[0]["count"]), (&json!("words"), &json!(25)));
    client.key = Some("all");
    assert_eq!(client.get("/v1/collections").await.json().as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_does_what_its_role_and_scope_allow_and_nothing_else() {
    let keys = ["reader:read", "writer:write:words", "admin:admin:wo*"];
    let mut client = Client::with_keys(Cluster::of(1), &keys).await;
    let points = json!({ "points": [] });
    let create = json!({ "name": "other", "dim": 2 });
    for (key, wanted) in [
        (None, [401, 401, 401, 401]),
        (Some("nobody"), [401, 401, 401, 401]),
        (Some("reader"), [200, 403, 403, 403]),
        (Some("writer"), [200, 200, 403, 403]),
        (Some("admin"), [200, 200, 403, 200]),
    ] {
        client.key = key;
        let got = [
            client.get("/v1/collections/words").await.status.as_u16(),
            client.post("/v1/collections/words/points", &points).await.status.as_u16(),
            client.post("/v1/collections", &create).await.status.as_u16(),
            client.ask("DELETE", "/v1/collections/words", "").await.status.as_u16(),
        ];
        assert_eq!(got, wanted, "{key:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_makes_no_sense_is_refused_before_it_is_in_the_catalogue() {
    let client = Client::new(Cluster::of(2)).await;
    for (config, status, named) in [
        (json!({ "name": "x", "dim": 2, "index": "colbert" }), 400, "multivector"),
        (json!({ "name": "x", "dim": 2, "multivector": true }), 400, "similarity"),
        (json!({ "name": "x", "dim": 0 }), 400, "dimension"),
        (json!({ "name": "x", "dim": 2, "colour": "red" }), 400, "colour"),
        (json!({ "name": "x", "dim": 2, "metric": "hamming" }), 400, "hamming"),
    ] {
        let answer = client.post("/v1/collections", &config).await;
        assert_eq!(answer.status, status, "{config}");
        assert!(answer.detail().contains(named), "{}", answer.detail());
    }
    assert_eq!(client.cluster.state().map.as_ref().unwrap().collections().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_no_coordinator_answers_the_catalogue_stays_as_it_is() {
    let mut client = Client::new(Cluster::of(1)).await;
    client.timeout_ms = Some(900);
    client.cluster.state().coordinator_away = true;
    let answer = client.post("/v1/collections", &json!({ "name": "x", "dim": 2 })).await;
    assert_eq!(answer.status, 503);
    assert!(answer.detail().contains("nothing was changed"));
}
