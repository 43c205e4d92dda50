//! Get, upsert, delete.

use serde_json::json;

use crate::cluster::{Client, Cluster, ids, map_of, words};

#[tokio::test(start_paused = true)]
async fn a_batch_is_split_by_owner_and_every_point_is_read_back() {
    let client = Client::new(Cluster::of(3)).await;
    let answer = client.upsert(ids(100)).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "upserted": 100 })));
    assert_eq!(answer.headers["sheaf-map-version"], "5");
    assert_eq!(client.cluster.seen().len(), 3);
    for id in ids(100) {
        let answer = client.get(&format!("/v1/collections/words/points/{id}")).await;
        assert_eq!(answer.json()["id"], id.as_str());
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    assert_eq!(client.cluster.seen().len(), 100, "each get asked one shard");
}

#[tokio::test(start_paused = true)]
async fn points_reach_their_shard_byte_for_byte() {
    let client = Client::new(Cluster::of(2)).await;
    let point = |id: &str| format!("{{ \"vector\" :[1.10, 2e0],\t\"id\": \"{id}\" }}");
    let body = format!(
        "{{\"points\": [{}]}}",
        [point("a"), point("b"), point("c"), point("d")].join(" ,\n")
    );
    assert_eq!(client.ask("POST", "/v1/collections/words/points", body).await.status, 200);
    let sent: Vec<String> =
        client.cluster.seen().iter().map(|s| String::from_utf8(s.2.to_vec()).unwrap()).collect();
    assert_eq!(sent.len(), 2);
    for id in ["a", "b", "c", "d"] {
        assert!(sent.iter().any(|body| body.contains(&point(id))), "{id} in {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_point_that_does_not_fit_the_collection_keeps_a_whole_batch_of_many_shards_from_being_applied()
 {
    let cluster = Cluster::of(3);
    let words = json!({ "name": "words", "dim": 2, "metric": "cosine" });
    cluster.state().map = Some(map_of(5, 3, &[words]));
    let client = Client::new(cluster).await;
    for (vector, wanted) in [
        (json!([1]), "id-0020\": its vector has 1 numbers, the collection takes 2; nothing was"),
        (json!([0, 0.0]), "id-0020\": its vector has no length"),
    ] {
        let point = |(n, id)| json!({ "id": id, "vector": if n == 20 { vector.clone() } else { json!([n, 1]) } });
        let points: Vec<_> = ids(40).enumerate().map(point).collect();
        let answer =
            client.post("/v1/collections/words/points", &json!({ "points": points })).await;
        assert_eq!(answer.status, 400);
        assert!(answer.detail().contains(wanted), "{}", answer.detail());
        assert_eq!(client.cluster.seen(), [], "no shard was asked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_created_anew_with_another_dimension_takes_points_of_that_dimension_at_once() {
    let client = Client::new(Cluster::of(3)).await;
    let anew = json!({ "name": "words", "dim": 3, "metric": "l2" });
    client.cluster.state().map = Some(map_of(6, 3, &[anew]));
    let points: Vec<_> = ids(9).map(|id| json!({ "id": id, "vector": [0, 0, 0] })).collect();
    let answer = client.post("/v1/collections/words/points", &json!({ "points": points })).await;
    assert_eq!(answer.json(), json!({ "upserted": 9 }));
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_owner_is_handed_on_as_it_came() {
    let client = Client::new(Cluster::of(1)).await;
    let body = "{ \"points\" : [ {\"id\":\"a\",\"vector\":[1,2]} ] }\n";
    client.ask("POST", "/v1/collections/words/points:bulk", body).await;
    let seen = client.cluster.seen();
    assert_eq!(
        (seen[0].1.as_str(), &seen[0].2[..]),
        ("POST /v1/collections/words/points:bulk", body.as_bytes())
    );
}

#[tokio::test(start_paused = true)]
async fn ids_of_any_kind_find_their_way_through_paths() {
    let client = Client::new(Cluster::of(3)).await;
    let long = "x".repeat(4096);
    for id in ["doc#3", "a/b", "", "😀 ?&=", "100%", "..", "\"{}\"", "\n", long.as_str()] {
        assert_eq!(client.upsert([id.to_owned()]).await.status, 200, "{id:?}");
        let raw = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let answer = client.get(&format!("/v1/collections/words/points/{raw}")).await;
        assert_eq!(answer.json()["id"], id, "{raw}");
    }
    let answer = client.upsert(["y".repeat(8193)]).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test(start_paused = true)]
async fn an_absent_point_is_404_in_the_shards_words() {
    let client = Client::new(Cluster::of(3)).await;
    let answer = client.get("/v1/collections/words/points/none").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (404, json!({ "detail": "no such point" }))
    );
}

#[tokio::test(start_paused = true)]
async fn a_deletion_counts_what_there_was_in_the_whole_cluster() {
    let client = Client::new(Cluster::of(3)).await;
    client.upsert(ids(40)).await;
    let some: Vec<String> = ids(50).skip(30).chain(["a\"b".to_owned()]).collect();
    let body = json!({ "ids": some }).to_string();
    let answer = client.ask("DELETE", "/v1/collections/words/points", body.clone()).await;
    assert_eq!(answer.json(), json!({ "deleted": 10 }));
    let again = client.ask("DELETE", "/v1/collections/words/points", body).await;
    assert_eq!(again.json(), json!({ "deleted": 0 }));
    let count = client.post("/v1/collections/words/count", &json!({})).await;
    assert_eq!(count.json(), json!({ "count": 30 }));
}

#[tokio::test(start_paused = true)]
async fn no_points_is_no_work_but_the_collection_must_exist() {
    let client = Client::new(Cluster::of(3)).await;
    let none = json!({ "points": [] });
    let answer = client.post("/v1/collections/words/points", &none).await;
    assert_eq!(answer.json(), json!({ "upserted": 0 }));
    assert_eq!(client.cluster.seen(), []);
    assert_eq!(client.post("/v1/collections/other/points", &none).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_router_with_an_old_map_is_led_to_the_new_owners() {
    let client = Client::new(Cluster::of(1)).await;
    client.upsert(ids(60)).await;
    client.cluster.seen();
    {
        // A commit that the router hasn't heard of: two shards more, points handed over.
        let mut state = client.cluster.state();
        let map = map_of(6, 3, &[words()]);
        for (key, point) in state.points.remove(&1).unwrap() {
            let owner = map.owner(sheaf_types::PlacementKey::of(&key.1)).unwrap();
            state.points.entry(owner.0).or_default().insert(key, point);
        }
        state.map = Some(map);
    }
    let answer = client.upsert(ids(90)).await;
    assert_eq!(answer.json(), json!({ "upserted": 90 }));
    assert_eq!(answer.headers["sheaf-map-version"], "6");
    for id in ids(90) {
        assert_eq!(client.get(&format!("/v1/collections/words/points/{id}")).await.status, 200);
    }
}
