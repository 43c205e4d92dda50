//! A whole move between two gates over HTTP, with the test as the coordinator.

use std::sync::Arc;

use serde_json::{Value, json};
use sheaf_http::auth::Keys;
use sheaf_protocol::{CopyOptions, CopyState, Order, Stage};
use sheaf_types::{Attempt, PointId, ShardId, TransitionId};

use crate::world::{Network, Node, config, map, path_of, points};

const POINTS: &str = "/v1/collections/words/points";

#[tokio::test]
async fn points_move_by_http_and_are_served_by_their_new_owner_only() {
    let network = Network::default();
    let donor = Node::new(&network, 1, &Keys::open()).await;
    let recipient = Node::new(&network, 2, &Keys::open()).await;
    let before = map(2, &[1], config("words", "l2"));
    let after = map(3, &[1, 2], config("words", "l2"));
    donor.directive(&before, None).await;
    let ids: Vec<String> = (0..400).map(|n| format!("p{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(donor.call("POST", POINTS, points(&ids)).await.status, 200);
    let moves = |id: &&str| after.owner(PointId::from(*id).placement_key()) == Some(ShardId(2));
    let (moving, staying): (Vec<&str>, Vec<&str>) = ids.iter().copied().partition(|id| moves(id));

    let order = |stage, attempt| Order {
        transition: TransitionId(1),
        attempt: Attempt(attempt),
        stage,
        next: Arc::new(after.clone()),
        copy: CopyOptions::default(),
    };
    let prepare = order(Stage::Prepare, 0);
    for node in [&donor, &recipient] {
        node.directive(&before, Some(prepare.clone())).await;
        node.until(&before, &prepare, |report| report.prepared).await;
    }
    let copy = order(Stage::Copy, 0);
    donor.directive(&before, Some(copy.clone())).await;
    recipient.directive(&before, Some(copy.clone())).await;
    let converged = |report: &sheaf_protocol::GateReport| {
        report.outgoing.iter().all(|move_| move_.state == CopyState::Converged)
            && !report.outgoing.is_empty()
    };
    donor.until(&before, &copy, converged).await;
    // A write and a deletion of points that have been copied already.
    let update = json!({ "points": [{ "id": moving[0], "vector": [7, 7] }] });
    assert_eq!(donor.call("POST", POINTS, update).await.status, 200);
    let deleted = donor.call("DELETE", POINTS, json!({ "ids": [moving[1]] })).await;
    assert_eq!(deleted.json["deleted"], 1);

    let fence = order(Stage::Fence, 1);
    donor.directive(&before, Some(fence.clone())).await;
    recipient.directive(&before, Some(fence.clone())).await;
    let drained = |report: &sheaf_protocol::GateReport| {
        report.outgoing.iter().all(|move_| move_.proof.is_some())
    };
    let report = donor.until(&before, &fence, drained).await;
    let proof = report.outgoing[0].proof.unwrap();
    assert_eq!((proof.donor, proof.attempt), (proof.recipient, Attempt(1)));
    assert_eq!(proof.donor.points, moving.len() as u64 - 1);
    let sealed = recipient.until(&before, &fence, |report| report.incoming.len() == 1).await;
    assert_eq!(sealed.incoming[0].digest, proof.donor);

    network.publish(&after);
    recipient.directive(&after, None).await;
    donor.directive(&after, None).await;
    let get = async |node: &Node, id: &str| node.call("GET", &path_of(id), Value::Null).await;
    assert_eq!(get(&recipient, moving[0]).await.json["vector"], json!([7.0, 7.0]));
    assert_eq!(get(&recipient, moving[1]).await.status, 404);
    assert_eq!(get(&recipient, moving[2]).await.status, 200);
    assert_eq!(get(&recipient, staying[0]).await.status, 421);
    assert_eq!(get(&donor, moving[0]).await.status, 421);
    assert_eq!(get(&donor, staying[0]).await.status, 200);
    let mut counted = 0;
    for node in [&donor, &recipient] {
        let count = node.call("POST", "/v1/collections/words/count", Value::Null).await;
        counted += count.json["count"].as_u64().unwrap();
    }
    assert_eq!(counted, ids.len() as u64 - 1);
}
