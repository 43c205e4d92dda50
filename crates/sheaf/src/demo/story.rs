//! The story of the demo, step by step: load, grow by one, grow by two, drain, crash a donor, crash the coordinator, audit.
//!
//! Decides when the cluster changes and what is killed. Every wait has an end. Judges nothing: `check.rs` does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use sheaf_runtime::entropy;
use sheaf_types::Time;

use super::SharedWorld;
use super::api::{COLLECTION, Router};
use super::check::KeyNumber;
use super::cluster::Cluster;
use super::load::{Clients, Load, World};
use super::report::Findings;
use super::tally::Kind;
use crate::client::{Change, Client};
use crate::follow::{self, Follower};
use crate::output;
use crate::progress::{Progress, Show};
use crate::transition::Transition;
use crate::units;

/// Nodes of data: three shards, and standbys for four joins.
pub const NODES: usize = 7;
const SHARDS: usize = 3;
const ROUTERS: usize = 2;
/// Points in one request of the first load, and requests at a time.
const LOAD_BATCH_POINTS: usize = 250;
const LOAD_REQUESTS: usize = 4;
/// Requests at a time of the last audit.
const AUDIT_REQUESTS: usize = 16;
/// Keys beyond the written ones that the last audit gets one by one; the servers' own audit covers all.
const AUDIT_KEYS_MAX: usize = 20_000;
/// Milliseconds that a copy shall last in which something is killed.
const SLOW_COPY_MS: u64 = 4_000;
/// The same when a database is killed, too, and has to recover.
const SLOW_COPY_WITH_DATABASE_MS: u64 = 10_000;
/// Milliseconds that a killed process stays dead.
const DEAD_MS: u64 = 300;
/// Seconds after which a transition that doesn't end ends the demo.
const TRANSITION_SECS_MAX: u64 = 120;
/// Seconds for the cluster to come up.
const READY_SECS_MAX: u64 = 20;
const LOOK_EVERY_MS: u64 = 100;
/// Readable searches that are shown, by their number among the questions.
const SHOWN_QUERIES: [usize; 4] = [0, 3, 7, 25];

const CLIENTS: Clients =
    Clients { writers: 4, readers: 4, searchers: 2, pause_ms: 8, search_pause_ms: 30 };

/// What happens in a step beside its transition.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    None,
    Donor,
    Coordinator,
}

/// The teller.
pub struct Story<'a> {
    cluster: &'a mut Cluster,
    folder: &'a Path,
    coordinator: Client,
    show: Show,
    seed: u64,
    next_node: usize,
    transitions: Vec<(String, Transition)>,
    moving: Vec<(Time, Time)>,
}

/// The told story: what the clients saw, what was found, and when points moved.
pub type Told = (SharedWorld, Findings, Vec<(Time, Time)>);

impl<'a> Story<'a> {
    pub fn new(
        cluster: &'a mut Cluster,
        folder: &'a Path,
        show: Show,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let urls = [cluster.coordinator.url.clone()];
        let coordinator = Client::new("coordinator", &urls, None)?;
        let (transitions, moving) = (Vec::new(), Vec::new());
        Ok(Self { cluster, folder, coordinator, show, seed, next_node: 0, transitions, moving })
    }

    /// Tells it.
    ///
    /// # Errors
    /// A step could not be done at all; broken promises are findings, not errors.
    pub async fn tell(&mut self, mut world: World, seconds: u64) -> anyhow::Result<Told> {
        let began = world.clock.now();
        self.found().await?;
        self.cluster.start_routers(self.folder, ROUTERS).await?;
        let routers = self.cluster.routers.iter().map(|node| Router::new(&node.url));
        world.routers = routers.collect::<anyhow::Result<_>>()?;
        let world = Arc::new(world);
        self.fill(&world).await?;
        searches(&world, "before").await?;

        let load = Load::start(&world, CLIENTS, self.seed);
        let load_began = world.clock.now();
        output::say(format!(
            "\nLive load begins: {} writers, {} readers, {} searchers",
            CLIENTS.writers, CLIENTS.readers, CLIENTS.searchers
        ));
        self.steps(&world, seconds).await?;
        let load_ends = load_began.plus_ms(seconds * 1_000);
        world.clock.sleep_until(load_ends).await;
        load.stop().await?;

        let mut problems = self.audit(&world).await?;
        searches(&world, "after").await?;
        let ended = self.cluster.ended_by_themselves();
        problems
            .extend(ended.into_iter().map(|(name, log)| format!("{name} ended by itself: {log}")));
        let points = world.routers[0]
            .count()
            .await
            .map_err(|miss| anyhow::anyhow!("{}", miss.why().to_owned()))?;
        let findings = Findings {
            points,
            acked_writes: world.record().acknowledged(),
            transitions: std::mem::take(&mut self.transitions),
            problems,
            seconds: world.clock.now().ms_since(began) as f64 / 1e3,
        };
        Ok((world, findings, std::mem::take(&mut self.moving)))
    }

    /// The first shards enter the empty cluster.
    async fn found(&mut self) -> anyhow::Result<()> {
        for url in self.next_urls(SHARDS)? {
            let body = json!({ "primary_url": url });
            self.change(Method::POST, "/cluster/shards", &body).await?;
        }
        for _ in 0..READY_SECS_MAX * 1_000 / LOOK_EVERY_MS {
            let health: Value = self.coordinator.get("/cluster/health").await?;
            let up = health.as_object().is_some_and(|shards| {
                shards.len() == SHARDS && shards.values().all(|up| up == &json!(true))
            });
            if up {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        }
        bail!("the shards didn't come up in {READY_SECS_MAX} s")
    }

    /// The steps between which the cluster has another shape, with rest between them.
    async fn steps(&mut self, world: &SharedWorld, seconds: u64) -> anyhow::Result<()> {
        let rest = Duration::from_millis((seconds * 1_000 / 20).min(2_000));
        let one = self.next_urls(1)?;
        self.grow(world, "grow by one", &one, Crash::None).await?;
        tokio::time::sleep(rest).await;
        let two = self.next_urls(2)?;
        self.grow(world, "grow by two at once", &two, Crash::None).await?;
        tokio::time::sleep(rest).await;
        self.drain(world, "drain shard 2", 2, Crash::None).await?;
        tokio::time::sleep(rest).await;
        let one = self.next_urls(1)?;
        self.grow(world, "grow, a donor is killed", &one, Crash::Donor).await?;
        tokio::time::sleep(rest).await;
        self.drain(world, "drain, the coordinator is killed", 3, Crash::Coordinator).await
    }

    fn next_urls(&mut self, nodes: usize) -> anyhow::Result<Vec<String>> {
        let range = self.next_node..self.next_node + nodes;
        self.next_node += nodes;
        let nodes = self.cluster.shards.get(range).context("there is no standby left")?;
        Ok(nodes.iter().map(|node| node.url.clone()).collect())
    }

    async fn grow(
        &mut self,
        world: &World,
        step: &str,
        urls: &[String],
        crash: Crash,
    ) -> anyhow::Result<()> {
        let shards: Vec<Value> = urls.iter().map(|url| json!({ "primary_url": url })).collect();
        let body = json!({ "shards": shards });
        self.step(world, step, "/cluster/shards/grow", &body, crash).await
    }

    async fn drain(
        &mut self,
        world: &World,
        step: &str,
        shard: u64,
        crash: Crash,
    ) -> anyhow::Result<()> {
        self.step(world, step, &format!("/cluster/shards/{shard}/drain"), &json!({}), crash).await
    }

    /// Asks for a transition, kills what is to be killed in the middle, follows it to its end.
    async fn step(
        &mut self,
        world: &World,
        step: &str,
        path: &str,
        body: &Value,
        crash: Crash,
    ) -> anyhow::Result<()> {
        let began = world.clock.now();
        world.tally().step_begins(step);
        let mut body = body.clone();
        if crash != Crash::None {
            body["limits"] = self.slow(world, body.get("shards").is_some());
        }
        let answer = self.change(Method::POST, path, &body).await?;
        let id = answer
            .get("transition")
            .and_then(Value::as_u64)
            .context("the answer names no transition")?;
        let mut follower = Follower::new(self.show, step);
        if crash != Crash::None {
            let middle = self.until(world, id, &mut follower, is_in_the_middle).await?;
            ensure!(
                !middle.ended,
                "{step}: the copy ended before anything could be killed in its middle"
            );
            match crash {
                Crash::None => {}
                Crash::Donor => self.crash_donor(world, step, &middle).await?,
                Crash::Coordinator => self.crash_coordinator(step).await?,
            }
            self.throttle(id, &json!({})).await?;
        }
        let ended = self.until(world, id, &mut follower, |transition| transition.ended).await?;
        self.moving.push((began, world.clock.now()));
        follower.finish(&follow::sentence(&ended));
        let committed = ended.committed;
        let reason = ended.reason.clone();
        self.transitions.push((step.to_owned(), ended));
        ensure!(committed, "{step}: the transition was not committed: {reason}");
        Ok(())
    }

    /// Limits by which a copy lasts long enough to have a middle.
    fn slow(&self, world: &World, joining: bool) -> Value {
        let shards = self.next_node.max(1) as u64;
        let whole = world.data.loaded as u64 / shards;
        // A donor hands over its share of what a joining shard gets, or all when it leaves.
        let of_a_donor = if joining { whole / shards } else { whole };
        let has_databases = !self.cluster.servers.is_empty();
        let (copy_ms, least) =
            if has_databases { (SLOW_COPY_WITH_DATABASE_MS, 2) } else { (SLOW_COPY_MS, 10) };
        json!({ "points_per_s_max": (of_a_donor * 1_000 / copy_ms).max(least) })
    }

    async fn throttle(&self, id: u64, limits: &Value) -> anyhow::Result<()> {
        self.change(Method::POST, &format!("/cluster/transitions/{id}/throttle"), limits)
            .await
            .map(drop)
    }

    /// Follows the transition until `done` says so.
    async fn until(
        &self,
        world: &World,
        id: u64,
        follower: &mut Follower,
        done: impl Fn(&Transition) -> bool,
    ) -> anyhow::Result<Transition> {
        let deadline = world.clock.now().plus_ms(TRANSITION_SECS_MAX * 1_000);
        let mut last = String::from("never heard of");
        while world.clock.now() < deadline {
            // While the coordinator restarts, nobody answers.
            match self.coordinator.get::<Value>(&format!("/cluster/transitions/{id}")).await {
                Ok(value) => {
                    let transition = Transition::of(&value);
                    follower.look(world.clock.now(), &transition);
                    if done(&transition) || transition.ended {
                        return Ok(transition);
                    }
                    last = format!(
                        "{}, waiting for {}",
                        transition.phase,
                        transition.waiting_for.join(", ")
                    );
                }
                Err(failure) => last = failure.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        }
        bail!("transition {id} didn't get on in {TRANSITION_SECS_MAX} s: {last}")
    }

    async fn crash_donor(
        &mut self,
        world: &World,
        step: &str,
        middle: &Transition,
    ) -> anyhow::Result<()> {
        let map: Value = self.coordinator.get("/cluster/map").await?;
        let shards =
            map.get("shards").and_then(Value::as_array).context("the map has no shards")?;
        let donor = shards
            .iter()
            .find(|shard| {
                shard
                    .get("id")
                    .and_then(Value::as_u64)
                    .is_some_and(|id| middle.donors.contains(&id))
            })
            .context("the transition has no donor")?;
        let url = donor.get("primary_url").and_then(Value::as_str).unwrap_or_default();
        let (node, server) =
            self.cluster.node_at(url).context("the donor is none of the demo's nodes")?;
        world.tally().outage_begins(world.clock.now());
        let has_database = server.is_some();
        if let Some(server) = server {
            say_kill(
                step,
                &format!("{}, the database of shard {}", server.name, donor["id"]),
                middle,
            );
            server.kill().await?;
            tokio::time::sleep(Duration::from_millis(DEAD_MS)).await;
            server.restart().await?;
        }
        if has_database {
            eprintln!(
                "{step}: its database is back; kill -9 of shard {} ({}), too",
                donor["id"], node.name
            );
        } else {
            say_kill(step, &format!("shard {} ({})", donor["id"], node.name), middle);
        }
        node.kill().await?;
        tokio::time::sleep(Duration::from_millis(DEAD_MS)).await;
        node.restart().await?;
        if has_database {
            until_all_answer(world).await?;
        }
        // Its points can be had again when a get of one of them is answered; routers find out by themselves.
        world.tally().outage_ends(world.clock.now());
        Ok(())
    }

    async fn crash_coordinator(&mut self, step: &str) -> anyhow::Result<()> {
        eprintln!("{step}: kill -9 of the coordinator; the data path goes on without it");
        self.cluster.coordinator.kill().await?;
        tokio::time::sleep(Duration::from_millis(DEAD_MS)).await;
        self.cluster.coordinator.restart().await
    }

    async fn change(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let change = Change::once(entropy::name(), None);
        self.coordinator.change(method, path, Some(body), &change).await.context(path.to_owned())
    }

    /// Creates the collection and loads the first points.
    async fn fill(&self, world: &SharedWorld) -> anyhow::Result<()> {
        let router = &world.routers[0];
        router
            .create(world.data.dim)
            .await
            .map_err(|miss| anyhow::anyhow!("{}", miss.why().to_owned()))?;
        let began = world.clock.now();
        let total = world.data.loaded;
        let mut progress = Progress::new(self.show, &format!("loading {COLLECTION}"));
        let starts = (0..total).step_by(LOAD_BATCH_POINTS);
        let batches = starts.map(|from| {
            let keys: Vec<(KeyNumber, u64)> = (from..(from + LOAD_BATCH_POINTS).min(total))
                .map(|key| (KeyNumber(key), 0))
                .collect();
            async move { world.put(router, &keys).await.map(|()| keys.len()) }
        });
        let mut loaded = 0;
        let mut done = std::pin::pin!(futures_util::stream::iter(batches).buffered(LOAD_REQUESTS));
        while let Some(points) = done.next().await {
            loaded +=
                points.map_err(|miss| anyhow::anyhow!("loading: {}", miss.why().to_owned()))?;
            let now = world.clock.now();
            let rate = loaded as u64 * 1_000 / now.ms_since(began).max(1);
            progress.update(
                now.0,
                "loading",
                loaded as u64,
                total as u64,
                &format!("{} points/s", units::count(rate)),
            );
        }
        let took = units::millis(world.clock.now().ms_since(began));
        progress.finish(&format!(
            "{} points of {} numbers in {took}",
            units::count(loaded as u64),
            world.data.dim
        ));
        Ok(())
    }

    /// After the load: every key that was written is read through each router, and the servers audit themselves.
    async fn audit(&self, world: &SharedWorld) -> anyhow::Result<Vec<String>> {
        let mut problems = Vec::new();
        let keys: Vec<KeyNumber> = (0..world.data.keys())
            .filter(|key| *key < AUDIT_KEYS_MAX || *key >= world.data.loaded)
            .map(KeyNumber)
            .collect();
        let gets = keys.iter().map(|&key| {
            let router = &world.routers[key.0 % world.routers.len()];
            world.get(router, key, Kind::Audit)
        });
        let answered = futures_util::stream::iter(gets).buffer_unordered(AUDIT_REQUESTS);
        let unanswered = answered.filter(|ok| std::future::ready(!ok)).count().await;
        if unanswered > 0 {
            problems.push(format!("{unanswered} points could not be read at the end"));
        }
        for router in &world.routers {
            let count = router
                .count()
                .await
                .map_err(|miss| anyhow::anyhow!("{}", miss.why().to_owned()))?;
            let (surely, perhaps) = world.record().expected_points();
            if !(surely..=surely + perhaps).contains(&count) {
                problems.push(format!(
                    "the cluster counts {count} points, the record has {surely} and perhaps {perhaps} more"
                ));
            }
        }
        let audit: Value = self.coordinator.get("/cluster/verify").await?;
        if audit.get("ok") != Some(&json!(true)) {
            problems.push(format!("the servers' own audit found: {}", audit["problems"]));
        }
        let shards = audit.get("shards").and_then(Value::as_array).map_or(0, Vec::len);
        output::say(format!(
            "\nAudit: {} points read one by one; `sheaf verify` over {shards} shards says {}",
            units::count(keys.len() as u64),
            if audit.get("ok") == Some(&json!(true)) { "ok" } else { "NOT ok" },
        ));
        Ok(problems)
    }
}

/// Waits until every shard counts its points: a database that has just recovered may still have to settle a write.
async fn until_all_answer(world: &World) -> anyhow::Result<()> {
    let mut last = String::from("nobody was asked");
    for _ in 0..READY_SECS_MAX * 1_000 / LOOK_EVERY_MS {
        match world.routers[0].count().await {
            Ok(_) => return Ok(()),
            Err(miss) => last = miss.why().to_owned(),
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
    bail!("the killed shard didn't serve again in {READY_SECS_MAX} s: {last}")
}

fn is_in_the_middle(transition: &Transition) -> bool {
    transition.phase == "copy"
        && transition.points_sent > 0
        && transition.points_sent * 10 >= transition.points * 3
}

fn say_kill(step: &str, whom: &str, middle: &Transition) {
    eprintln!(
        "{step}: kill -9 of {whom} in the copy, {} sent for {} points",
        units::count(middle.points_sent),
        units::count(middle.points)
    );
}

/// A few searches that a person can judge.
async fn searches(world: &World, when: &str) -> anyhow::Result<()> {
    output::say(format!("\nSearches {when}:"));
    for query in SHOWN_QUERIES.iter().filter_map(|&at| world.data.queries.get(at)) {
        // Only real senses have a word; without any, the ids must do.
        let filter = (world.data.dim == super::dataset::REAL_DIM)
            .then(|| json!({ "exists": { "field": "word" } }));
        let hits = world.routers[0].query(&query.vector, 3, filter).await;
        let hits =
            hits.map_err(|miss| anyhow::anyhow!("a search {when}: {}", miss.why().to_owned()))?;
        let words = hits.iter().map(|hit| {
            let word = hit.payload.get("word").and_then(Value::as_str).unwrap_or(&hit.id);
            format!("{word} ({:.2})", hit.score.unwrap_or_default())
        });
        output::say(format!("  {:<48} → {}", query.text, words.collect::<Vec<_>>().join(", ")));
    }
    Ok(())
}
