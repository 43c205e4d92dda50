//! A follower's HTTP API: what it hands to the leader, what it answers itself, and what it says when the leader doesn't answer.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sheaf_coordinator::Config;
use sheaf_http::auth::Keys;
use sheaf_http::coordinator::{CoordinatorApiParts, coordinator};
use sheaf_runtime::Clock;
use sheaf_runtime::coordinator::{CandidateParts, CoordinatorHost, Gates};
use sheaf_stores::{MemoryElection, MemoryStore, Polls, Store};
use sheaf_transport::{Limits, Reply, Transport, TransportError};
use sheaf_types::{ClusterId, Time};
use tower::ServiceExt;

use crate::gates::{ModelGates, me, url};

const KEY: (&str, &str) = ("authorization", "Bearer key-of-an-admin");

/// Whom a request reaches, by host.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    routes: BTreeMap<String, Router>,
    /// Answers get lost, or nobody is reached.
    trouble: Option<Trouble>,
    handed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    NotSent,
    Lost,
}

impl Transport for Wires {
    fn call(&self, request: Request<Bytes>, _limits: Limits) -> Reply<'_> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let (to, reason) = (host.clone(), "the test said so".to_owned());
        let (routes, trouble) = {
            let mut inner = self.0.lock().unwrap();
            inner.handed.push(format!("{} {}", request.method(), request.uri().path()));
            (inner.routes.get(&host).cloned(), inner.trouble)
        };
        Box::pin(async move {
            let Some(routes) = routes.filter(|_| trouble != Some(Trouble::NotSent)) else {
                return Err(TransportError::NotSent { to, reason });
            };
            let answer = routes.oneshot(request.map(Body::from)).await.expect("it never fails");
            if trouble == Some(Trouble::Lost) {
                return Err(TransportError::Lost { to, reason });
            }
            let (parts, body) = answer.into_parts();
            let to = String::new();
            let body = body.map_err(move |error| TransportError::Lost {
                to: to.clone(),
                reason: error.to_string(),
            });
            Ok(http::Response::from_parts(parts, body.boxed_unsync()))
        })
    }
}

/// Two coordinators of one store: the first one leads.
struct Two {
    wires: Wires,
    leader: CoordinatorHost,
    follower: CoordinatorHost,
}

impl Two {
    async fn start() -> Self {
        let (wires, gates) = (Wires::default(), ModelGates::new(4));
        let (clock, store) = (Clock::starting_at(Time(1_000_000)), Arc::new(MemoryStore::new()));
        let polls = Polls::new(move || clock.now());
        let stand = |name: &str| {
            let said = serde_json::to_string(&me(name)).unwrap();
            let store = Arc::clone(&store) as Arc<dyn Store>;
            let reached = Arc::new(AtomicBool::new(false));
            let election = MemoryElection::new(&polls, store, said, 3_000, reached);
            let host = CoordinatorHost::stand(CandidateParts {
                clock,
                store: election.store(),
                election: Arc::new(election),
                kind: "memory",
                gates: Arc::clone(&gates) as Arc<dyn Gates>,
                config: Config::default(),
                new_cluster_id: ClusterId::from("c"),
            });
            let parts = CoordinatorApiParts {
                host: host.clone(),
                transport: Arc::new(wires.clone()),
                keys: Keys::closed(["key-of-an-admin:admin"], Some("peer")).unwrap(),
                authorization: None,
            };
            wires.0.lock().unwrap().routes.insert(name.to_owned(), coordinator(parts));
            host
        };
        let leader = stand("first");
        leader.found(vec![url(1), url(2)]).await;
        let follower = stand("second");
        let mut standing = follower.standing();
        standing.wait_for(|standing| standing.leader == Some(me("first"))).await.unwrap();
        follower.maps().wait_for(Option::is_some).await.unwrap();
        Self { wires, leader, follower }
    }

    fn trouble(&self, trouble: Option<Trouble>) {
        self.wires.0.lock().unwrap().trouble = trouble;
    }

    /// What was handed from one to the other.
    fn handed(&self) -> Vec<String> {
        std::mem::take(&mut self.wires.0.lock().unwrap().handed)
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let routes = self.wires.0.lock().unwrap().routes["second"].clone();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let answer = routes.oneshot(request.body(body).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn grow(n: u64) -> Value {
    json!({ "primary_url": url(n) })
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_follower_is_answered_by_the_leader_once_and_with_the_callers_key() {
    let two = Two::start().await;
    let (status, body) = two.ask("POST", "/cluster/shards/grow", grow(3), &[]).await;
    assert_eq!(status, 401, "the leader isn't bothered by strangers: {body}");
    assert!(two.handed().is_empty());
    let key = [KEY, ("idempotency-key", "once")];
    let (status, body) = two.ask("POST", "/cluster/shards/grow", grow(3), &key).await;
    assert_eq!((status, &body), (202, &json!({ "transition": 1, "shards": [3] })));
    assert_eq!(two.handed(), ["POST /cluster/shards/grow"]);
    // The same once more, now straight from the leader: it was made with that key.
    assert_eq!(two.leader.look(|core| core.record().keys.len()), 1);
    let (status, body) = two.ask("GET", "/cluster/status", Value::Null, &[KEY]).await;
    assert_eq!(
        (status, &body["leads"], &body["leader"]["name"]),
        (200, &json!(true), &json!("first"))
    );
    let refused = two.ask("POST", "/cluster/shards/9/drain", Value::Null, &[KEY]).await;
    assert_eq!(refused.0, 404, "a refusal is handed on as it is: {}", refused.1);
}

#[tokio::test(start_paused = true)]
async fn long_polls_are_answered_by_the_follower_whole_or_as_a_difference() {
    let two = Two::start().await;
    let version = two.follower.maps().borrow().as_ref().unwrap().version().0;
    let path = format!("/cluster/map?after={version}&wait=20");
    let collection = json!({ "name": "c", "dim": 3, "metric": "l2" });
    let delta = [KEY, ("sheaf-map-delta", "1")];
    let (whole, part, changed) = tokio::join!(
        two.ask("GET", &path, Value::Null, &[KEY]),
        two.ask("GET", &path, Value::Null, &delta),
        two.ask("POST", "/cluster/collections", collection, &[KEY]),
    );
    assert_eq!(changed.0, 201, "{}", changed.1);
    assert_eq!((whole.0, &whole.1["version"]), (200, &json!(version + 1)));
    assert_eq!(whole.1["shards"].as_array().map(Vec::len), Some(2));
    assert_eq!((part.0, &part.1["since"]), (200, &json!(version)), "{}", part.1);
    assert_eq!(part.1["collections_changed"].as_array().map(Vec::len), Some(1));
    assert!(part.1.get("shards").is_none());
    assert_eq!(two.handed(), ["POST /cluster/collections"], "the polls weren't handed on");
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_does_not_answer_reads_are_a_followers_own_and_changes_are_not_promised() {
    let two = Two::start().await;
    for (trouble, status) in [(Trouble::NotSent, 503), (Trouble::Lost, 504)] {
        two.trouble(Some(trouble));
        let (told, body) = two.ask("GET", "/cluster/status", Value::Null, &[KEY]).await;
        assert_eq!((told, &body["leads"]), (200, &json!(false)), "{trouble:?}: {body}");
        assert_eq!(body["shards"].as_array().map(Vec::len), Some(2));
        let (told, body) = two.ask("POST", "/cluster/shards/grow", grow(3), &[KEY]).await;
        assert_eq!(told, status, "{trouble:?}: {body}");
        let says_nothing_changed =
            body["detail"].as_str().is_some_and(|detail| detail.contains("nothing was changed"));
        assert_eq!(says_nothing_changed, trouble == Trouble::NotSent, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_on_once_is_not_again() {
    let two = Two::start().await;
    let handed = [KEY, ("sheaf-forwarded", "1")];
    let (status, body) = two.ask("POST", "/cluster/shards/grow", grow(3), &handed).await;
    assert_eq!(status, 503, "{body}");
    assert!(two.handed().is_empty(), "it would go round in circles");
}
