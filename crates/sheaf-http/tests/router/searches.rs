//! Query, fetch, count: many shards' answers as one.

use serde_json::{Value, json};

use crate::cluster::{Client, Cluster, ids, map_of, words};

fn ids_of(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_query_answers_the_same_over_one_shard_and_over_five() {
    let mut answers = Vec::new();
    for shards in [1, 5] {
        let client = Client::new(Cluster::of(shards)).await;
        client.upsert(ids(50)).await;
        let query = json!({ "vector": [20.4, 0], "k": 7, "with_payload": true });
        let answer = client.post("/v1/collections/words/query", &query).await;
        assert_eq!(answer.headers["sheaf-map-version"], "5");
        assert_eq!(answer.headers["content-type"], "application/json");
        answers.push(answer.json());
    }
    assert_eq!(answers[0], answers[1]);
    let wanted = ["id-0020", "id-0021", "id-0019", "id-0022", "id-0018", "id-0023", "id-0017"];
    assert_eq!(ids_of(&answers[1]["matches"]), wanted);
    assert_eq!(answers[1]["matches"][0]["payload"], json!({ "n": 20 }));
}

#[tokio::test(start_paused = true)]
async fn ten_neighbours_come_when_the_client_does_not_say() {
    let client = Client::new(Cluster::of(3)).await;
    client.upsert(ids(50)).await;
    let answer = client.post("/v1/collections/words/query", &json!({ "vector": [0, 0] })).await;
    assert_eq!(answer.json()["matches"].as_array().unwrap().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_fetch_are_all_points_once_in_id_order() {
    let client = Client::new(Cluster::of(4)).await;
    client.upsert(ids(45)).await;
    let mut all = Vec::new();
    for offset in [0, 10, 20, 30, 40, 50] {
        let page = json!({ "offset": offset, "limit": 10 });
        let answer = client.post("/v1/collections/words/fetch", &page).await;
        all.extend(ids_of(&answer.json()["points"]));
    }
    assert_eq!(all, ids(45).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_search_over_an_old_map_starts_again_at_the_new_one() {
    let client = Client::new(Cluster::of(2)).await;
    client.upsert(ids(30)).await;
    client.cluster.state().map = Some(map_of(9, 2, &[words()]));
    let answer = client.post("/v1/collections/words/count", &json!({})).await;
    assert_eq!(answer.json(), json!({ "count": 30 }));
    assert_eq!(answer.headers["sheaf-map-version"], "9");
}

#[tokio::test(start_paused = true)]
async fn a_point_that_two_shards_show_is_an_error_and_never_two_hits() {
    let client = Client::new(Cluster::of(2)).await;
    client.upsert(ids(4)).await;
    {
        let mut state = client.cluster.state();
        let all: Vec<_> =
            state.points.values().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        for mine in state.points.values_mut() {
            mine.extend(all.iter().cloned());
        }
    }
    let query = json!({ "vector": [0, 0] });
    for (call, body) in [("query", query), ("fetch", json!({}))] {
        let answer = client.post(&format!("/v1/collections/words/{call}"), &body).await;
        assert_eq!(answer.status, 500, "{call}");
        assert!(answer.detail().contains("id-000"), "{}", answer.detail());
    }
}

#[tokio::test(start_paused = true)]
async fn limits_and_unknown_fields_are_refused_before_any_shard_is_asked() {
    let client = Client::new(Cluster::of(2)).await;
    for (call, body, named) in [
        ("query", json!({ "vector": [0], "k": 10_001 }), "10001"),
        ("query", json!({ "vector": [0], "top_k": 3 }), "top_k"),
        ("query", json!({ "k": 3 }), "vector"),
        ("fetch", json!({ "limit": 10_001 }), "10001"),
        ("fetch", json!({ "offset": 9_999, "limit": 2 }), "10001"),
        ("fetch", json!({ "filters": {} }), "filters"),
        ("count", json!({ "where": {} }), "where"),
    ] {
        let answer = client.post(&format!("/v1/collections/words/{call}"), &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.detail().contains(named), "{}", answer.detail());
    }
    assert_eq!(client.cluster.seen(), []);
}
