//! The data API of one shard.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use sheaf_http::auth::Keys;
use sheaf_types::PointId;
use sheaf_types::limits::BODY_BYTES_MAX;

use crate::world::{Answer, Network, Node, PEER_KEY, config, map, path_of, points};

const POINTS: &str = "/v1/collections/words/points";
const QUERY: &str = "/v1/collections/words/query";
const FETCH: &str = "/v1/collections/words/fetch";
const COUNT: &str = "/v1/collections/words/count";

async fn words(metric: &str) -> Node {
    Node::serving(config("words", metric)).await
}

fn ids(answer: &Answer, list: &str) -> Vec<String> {
    let list = answer.json[list].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    list.iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn any_id_is_written_read_and_deleted_exactly() {
    let node = words("l2").await;
    let long = "é".repeat(2_048);
    for id in ["a", "", "a/b", "a?b", "doc#3", "50%", "%41", "a+b c", "..", "😀", "\0", &long] {
        assert_eq!(node.call("GET", &path_of(id), Value::Null).await.status, 404, "{id:?}");
        let point = json!({ "id": id, "vector": [0.1, -3.0e-5], "payload": { "of": id } });
        let upserted = node.call("POST", POINTS, json!({ "points": [point] })).await;
        assert_eq!((upserted.status, &upserted.json), (200, &json!({ "upserted": 1 })), "{id:?}");
        let read = node.call("GET", &path_of(id), Value::Null).await;
        assert_eq!(read.json["id"], id);
        assert_eq!(read.json["payload"]["of"], id);
        assert!(
            read.body
                .windows(14)
                .any(|part| part == b"[0.1,-0.00003]" || part.starts_with(b"[0.1,-3e-5]"))
        );
        let deleted = node.call("DELETE", POINTS, json!({ "ids": [id, "none"] })).await;
        assert_eq!(deleted.json, json!({ "deleted": 1 }), "{id:?}");
    }
}

#[tokio::test]
async fn an_empty_upsert_does_nothing_and_the_last_of_two_equal_ids_counts() {
    let node = words("l2").await;
    let empty = node.call("POST", POINTS, json!({ "points": [] })).await;
    assert_eq!((empty.status, empty.json), (200, json!({ "upserted": 0 })));
    let twice = node.call("POST", POINTS, points(&["a", "a"])).await;
    assert_eq!(twice.json, json!({ "upserted": 2 }));
    let read = node.call("GET", &path_of("a"), Value::Null).await;
    assert_eq!(read.json, json!({ "id": "a", "vector": [1.0, 1.0], "payload": { "n": 1 } }));
    let bare = json!({ "points": [{ "id": "a", "vector": [1, 2], "payload": null }] });
    node.call("POST", POINTS, bare).await;
    assert_eq!(node.call("GET", &path_of("a"), Value::Null).await.json["payload"], Value::Null);
}

#[tokio::test]
async fn a_search_answers_best_first_with_the_scores_of_its_metric() {
    for (metric, best, scores) in [("l2", "p0", [0.0, 1.0, 4.0]), ("dot", "p2", [1.0, 1.0, 1.0])] {
        let node = words(metric).await;
        node.call("POST", POINTS, points(&["p0", "p1", "p2"])).await;
        let vector = if metric == "l2" { json!([0, 1]) } else { json!([1, 0]) };
        let answer = node.call("POST", QUERY, json!({ "vector": vector, "k": 3 })).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let found = ids(&answer, "matches");
        assert_eq!((found[0].as_str(), found.len()), (best, 3), "{metric}");
        if metric == "l2" {
            let matches = answer.json["matches"].as_array().unwrap();
            let seen: Vec<f64> = matches.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
            assert_eq!(seen, scores);
        }
        assert_eq!(answer.json["matches"][0]["payload"]["n"], best[1..].parse::<u64>().unwrap());
        assert_eq!(answer.json["matches"][0].get("vector"), None);
    }
}

#[tokio::test]
async fn a_search_shows_and_filters_as_asked() {
    let node = words("l2").await;
    node.call("POST", POINTS, points(&["p0", "p1", "p2"])).await;
    let query = json!({
        "vector": [0, 0], "k": 1, "with_payload": false, "with_vector": true,
        "filter": { "gte": { "field": "n", "value": 1 } }
    });
    let answer = node.call("POST", QUERY, query).await;
    let wanted = json!({ "matches": [{ "id": "p1", "score": 2.0, "vector": [1.0, 1.0] }] });
    assert_eq!(answer.json, wanted);
    let none = node.call("POST", QUERY, json!({ "vector": [0, 0], "k": 0 })).await;
    assert_eq!(none.json, json!({ "matches": [] }));
}

#[tokio::test]
async fn a_fetch_pages_in_id_order() {
    let node = words("l2").await;
    node.call("POST", POINTS, points(&["c", "", "a", "é", "b", "d"])).await;
    let fetch = async |body: Value| ids(&node.call("POST", FETCH, body).await, "points");
    assert_eq!(fetch(json!({})).await, ["", "a", "b", "c", "d", "é"]);
    assert_eq!(fetch(json!({ "offset": 1, "limit": 2 })).await, ["a", "b"]);
    assert_eq!(fetch(json!({ "after": "b", "limit": 2 })).await, ["c", "d"]);
    assert_eq!(fetch(json!({ "after": "bb", "offset": 1, "limit": 9 })).await, ["d", "é"]);
    assert_eq!(fetch(json!({ "offset": 6 })).await, Vec::<String>::new());
    assert_eq!(fetch(json!({ "limit": 0 })).await, Vec::<String>::new());
    let odd = json!({ "in": { "field": "n", "values": [1, 3, 5] } });
    assert_eq!(fetch(json!({ "filter": odd, "offset": 1 })).await, ["d", "é"]);
    let count = node.call("POST", COUNT, json!({ "filter": odd })).await;
    assert_eq!(count.json, json!({ "count": 3 }));
    assert_eq!(node.call("POST", COUNT, Value::Null).await.json, json!({ "count": 6 }));
}

#[tokio::test]
async fn malformed_and_oversized_requests_are_refused_as_problems() {
    let node = words("cosine").await;
    let many: Vec<String> = (0..1_001).map(|n| format!("p{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let vector = |vector: Value| json!({ "points": [{ "id": "a", "vector": vector }] });
    let bulk = "/v1/collections/words/points:bulk";
    for (path, body, status) in [
        (POINTS, points(&many), 400),
        (bulk, points(&many), 200),
        (POINTS, vector(json!([1])), 400),
        (POINTS, vector(json!([1, 2, 3])), 400),
        (POINTS, vector(json!([0, 0])), 400),
        (POINTS, vector(json!([1, "2"])), 400),
        (POINTS, json!({ "points": 7 }), 400),
        (QUERY, json!({ "vector": [0, 0] }), 400),
        (QUERY, json!({ "vector": [1, 0], "k": 10_001 }), 400),
        (QUERY, json!({ "vector": [1, 0], "filter": { "like": 1 } }), 400),
        (FETCH, json!({ "limit": 10_001 }), 400),
        ("/v1/collections", config("other", "l2"), 501),
        ("/v1/collections/words/query/text", json!({}), 501),
        ("/v1/nothing", json!({}), 404),
    ] {
        let answer = node.call("POST", path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.json);
        if status != 200 {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json["status"], status);
        }
    }
    let wrong = node.call("PUT", POINTS, json!({})).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST, DELETE")));
    assert_eq!(node.call("GET", &path_of(&"i".repeat(8_193)), Value::Null).await.status, 400);
    let large = Body::from(vec![b' '; BODY_BYTES_MAX + 1]);
    assert_eq!(node.ask(Request::post(POINTS).body(large).unwrap()).await.status, 413);
    assert_eq!(node.ask(Request::post(POINTS).body("{".into()).unwrap()).await.status, 400);
}

/// A GET with these headers.
async fn get(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    node.ask(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_request_names_its_map_and_its_shard_and_the_answer_names_the_map() {
    let node = words("l2").await;
    node.call("POST", POINTS, points(&["a"])).await;
    let path = path_of("a");
    let served = get(&node, &path, &[("sheaf-map-version", "1"), ("sheaf-shard", "1")]).await;
    assert_eq!((served.status, served.header("sheaf-map-version")), (200, Some("2")));
    assert_eq!(get(&node, &path_of("b"), &[]).await.header("sheaf-map-version"), Some("2"));
    let other = get(&node, &path, &[("sheaf-shard", "9")]).await;
    assert_eq!((other.status, &other.json["refusal"]["kind"]), (421, &json!("other_shard")));
    let ahead = [("sheaf-map-version", "3"), ("sheaf-timeout-ms", "30")];
    let behind = get(&node, &path, &ahead).await;
    assert_eq!((behind.status, &behind.json["refusal"]["kind"]), (503, &json!("behind")));
    for wrong in [("sheaf-map-version", "x"), ("sheaf-shard", "-1"), ("sheaf-timeout-ms", "0")] {
        assert_eq!(get(&node, &path, &[wrong]).await.status, 400, "{wrong:?}");
    }
    let unknown = node.call("POST", "/v1/collections/none/count", Value::Null).await;
    assert_eq!((unknown.status, &unknown.json["refusal"]["kind"]), (404, &json!("no_collection")));
}

#[tokio::test]
async fn a_search_is_answered_at_its_own_version_or_not_at_all() {
    let node = words("l2").await;
    let mut request = Request::post(COUNT).header("sheaf-map-version", "1");
    let other = node.ask(request.body(Body::empty()).unwrap()).await;
    assert_eq!((other.status, &other.json["refusal"]["kind"]), (421, &json!("other_version")));
    request = Request::post(COUNT).header("sheaf-map-version", "2");
    assert_eq!(node.ask(request.body(Body::empty()).unwrap()).await.status, 200);
}

#[tokio::test]
async fn a_gate_sees_only_what_it_owns_and_refuses_what_has_moved() {
    let network = Network::default();
    let node = Node::new(&network, 1, &Keys::open()).await;
    let alone = map(2, &[1], config("words", "l2"));
    node.directive(&alone, None).await;
    let all: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    node.call("POST", POINTS, points(&all)).await;
    let both = map(3, &[1, 2], config("words", "l2"));
    network.publish(&both);
    let stays = |id: &&&str| both.owner(PointId::from(**id).placement_key()).unwrap().0 == 1;
    let (stay, moved): (Vec<&str>, Vec<&str>) = all.iter().partition(stays);
    // A router knows map 3; the gate learns it from the coordinator.
    let newer = [("sheaf-map-version", "3")];
    assert_eq!(get(&node, &path_of(stay[0]), &newer).await.status, 200);
    let gone = get(&node, &path_of(moved[0]), &newer).await;
    assert_eq!((gone.status, &gone.json["refusal"]["version"]), (421, &json!(3)));
    let counted = node.call("POST", COUNT, Value::Null).await;
    assert_eq!(counted.json["count"], stay.len());
    let mixed = node.call("DELETE", POINTS, json!({ "ids": [stay[0], moved[0]] })).await;
    assert_eq!(mixed.status, 421);
    assert!(node.holds(stay[0]).await, "a refusal means that nothing was applied");
}

#[tokio::test]
async fn keys_open_what_their_role_and_scope_say() {
    let keys = Keys::closed(["r:read:words", "o:read:other", "w:write"], Some(PEER_KEY)).unwrap();
    let node = Node::new(&Network::default(), 1, &keys).await;
    node.directive(&map(2, &[1], config("words", "l2")), None).await;
    let ask = async |key: &str, method: &str, path: &str, body: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = match key {
            "" => request,
            key => request.header("authorization", format!("Bearer {key}")),
        };
        node.ask(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let upsert = points(&["a"]).to_string();
    for (key, method, path, status) in [
        ("", "POST", COUNT, 401),
        ("x", "POST", COUNT, 401),
        ("r", "POST", COUNT, 200),
        ("o", "POST", COUNT, 403),
        ("r", "POST", POINTS, 403),
        ("w", "POST", POINTS, 200),
        (PEER_KEY, "POST", POINTS, 200),
        ("w", "GET", "/internal/report", 403),
        ("", "GET", "/internal/audit", 401),
        (PEER_KEY, "GET", "/internal/report", 200),
        ("", "GET", "/healthz", 200),
        ("", "GET", "/readyz", 200),
        ("", "GET", "/metrics", 200),
    ] {
        let body = if path == POINTS { &upsert } else { "" };
        assert_eq!(ask(key, method, path, body).await.status, status, "{key} {method} {path}");
    }
    let seen = ask("r", "GET", "/v1/collections", "").await;
    assert_eq!((seen.json[0]["name"].as_str(), &seen.json[0]["count"]), (Some("words"), &json!(1)));
    assert_eq!(ask("o", "GET", "/v1/collections", "").await.json, json!([]));
    let shown = ask("r", "GET", "/v1/collections/words", "").await;
    assert_eq!((&shown.json["dim"], &shown.json["metric"]), (&json!(2), &json!("l2")));
    assert_eq!(ask("w", "GET", "/v1/collections/none", "").await.status, 404);
    assert!(ask("", "GET", "/metrics", "").await.body.len() > 100);
}
