//! What coordinators and other gates say to a gate.

use bytes::Bytes;
use serde_json::json;
use sheaf_http::auth::Keys;
use sheaf_http::frame;
use sheaf_protocol::{Content, Frame, StreamId};
use sheaf_types::{ClusterId, ShardId, TransitionId};

use crate::world::{Network, Node, config, map};

async fn standby() -> Node {
    Node::new(&Network::default(), 1, &Keys::open()).await
}

#[tokio::test]
async fn a_standby_reports_itself_and_serves_nothing() {
    let node = standby().await;
    let report = node.peer("GET", "/internal/report", "").await.json;
    assert_eq!(report["store_id"], "store-1");
    assert_eq!(report["shard"], json!(null));
    let served = node.call("POST", "/v1/collections/words/count", json!(null)).await;
    assert_eq!((served.status, &served.json["refusal"]["kind"]), (503, &json!("not_serving")));
    assert_eq!(node.call("GET", "/v1/collections", json!(null)).await.status, 503);
    assert_eq!(node.peer("GET", "/internal/audit", "").await.status, 409);
}

#[tokio::test]
async fn a_directive_for_another_node_is_refused_and_a_malformed_one_is_a_problem() {
    let node = standby().await;
    let map = map(2, &[1], config("words", "l2"));
    let mut directive = json!({
        "cluster_id": "cluster", "term": 1, "revision": 1, "shard": 1, "store_id": "another",
        "map": map, "order": null, "sweep": false, "retired": false
    });
    let refused = node.peer("POST", "/internal/directive", directive.to_string()).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json["refusal"], json!({ "kind": "other_store", "mine": "store-1" }));
    directive["map"]["version"] = json!("x");
    let malformed = node.peer("POST", "/internal/directive", directive.to_string()).await;
    assert_eq!((malformed.status, malformed.json["title"].as_str()), (400, Some("Bad Request")));
    let query = node.peer("POST", "/internal/directive?wait_ms=soon", "{}").await;
    assert_eq!(query.status, 400);
}

#[tokio::test]
async fn a_frame_that_cannot_be_is_answered_and_bytes_that_are_none_are_a_problem() {
    let node = standby().await;
    let frame = Frame {
        cluster_id: ClusterId::from("cluster"),
        transition: TransitionId(1),
        donor: ShardId(2),
        recipient: ShardId(1),
        stream: StreamId::default(),
        seq: 1,
        content: Content::BeginPass,
    };
    let refused = node.peer("POST", "/internal/frame", frame::encode(&frame)).await;
    assert_eq!(refused.json, json!({ "refused": { "kind": "other_gate" } }));
    for bytes in [Bytes::new(), Bytes::from_static(b"{}"), frame::encode(&frame).slice(1..)] {
        assert_eq!(node.peer("POST", "/internal/frame", bytes).await.status, 400);
    }
}

#[tokio::test]
async fn an_audit_counts_what_is_owned_and_names_what_is_not() {
    let network = Network::default();
    let node = Node::new(&network, 1, &Keys::open()).await;
    node.directive(&map(2, &[1], config("words", "l2")), None).await;
    let ids: Vec<String> = (0..300).map(|n| format!("p{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    node.call("POST", "/v1/collections/words/points", crate::world::points(&ids)).await;
    let audit = node.peer("GET", "/internal/audit", "").await.json;
    assert_eq!((&audit["version"], &audit["owned"]["words"]["points"]), (&json!(2), &json!(300)));
    assert_eq!((&audit["foreign_points"], &audit["foreign_ids"]), (&json!(0), &json!([])));

    // A map that is only fetched permits no sweep: what isn't owned any more stays, and is foreign.
    network.publish(&map(3, &[1, 2], config("words", "l2")));
    let request = http::Request::post("/v1/collections/words/count").header("sheaf-map-version", 3);
    assert_eq!(node.ask(request.body(axum::body::Body::empty()).unwrap()).await.status, 200);
    let audit = node.peer("GET", "/internal/audit", "").await.json;
    let owned = audit["owned"]["words"]["points"].as_u64().unwrap();
    let foreign = audit["foreign_points"].as_u64().unwrap();
    assert_eq!((owned + foreign, &audit["version"]), (300, &json!(3)));
    assert!(owned > 0 && foreign > 0);
    assert_eq!(audit["foreign_ids"].as_array().unwrap().len() as u64, foreign.min(100));
}
