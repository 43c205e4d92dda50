//! Faults as they come and go. Decides the state of each link when several faults meet on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::Handle;
use madsim::task::NodeId;

use crate::etcd::Etcd;
use crate::place::{ETCD, coordinator_name, shard_name};
use crate::plan::{COORDINATORS, Fault, Others, Plan, Way, Whom};
use crate::process::Paces;

/// Milliseconds that a message takes when nothing is wrong.
const LATENCY_MS: (u64, u64) = (1, 10);

/// The processes, as the weather reaches them.
pub struct Site {
    pub handle: Handle,
    pub net: Arc<NetSim>,
    pub nodes: BTreeMap<String, NodeId>,
    pub paces: BTreeMap<String, Paces>,
    pub etcd: Etcd,
}

/// A fault that has begun, with whom it met.
#[derive(Debug)]
pub struct Begun {
    fault: Fault,
    host: String,
}

/// What is wrong at the moment.
#[derive(Default)]
pub struct Weather {
    /// How many faults keep messages from getting from the one to the other.
    cuts: BTreeMap<(String, String), u32>,
    paused: BTreeMap<String, u32>,
    dead: BTreeMap<String, u32>,
    lags: Vec<u64>,
    losses: Vec<u64>,
    /// Faults that began, by kind.
    pub begun: BTreeMap<&'static str, u64>,
}

impl Weather {
    /// Begins a fault; `leader`: the coordinator that leads.
    pub async fn begin(&mut self, site: &Site, plan: &Plan, fault: Fault, leader: u32) -> Begun {
        *self.begun.entry(kind(&fault)).or_default() += 1;
        let name = |whom: &Whom| match whom {
            Whom::Named(name) => name.clone(),
            Whom::Leader => coordinator_name(leader),
        };
        let host = match &fault {
            Fault::Kill(whom) | Fault::Pause(whom) | Fault::Cut { whom, .. } => name(whom),
            Fault::EtcdDown => ETCD.to_owned(),
            Fault::Lag { .. } | Fault::Loss { .. } => String::new(),
            Fault::Slow { shard, .. } => shard_name(*shard),
        };
        match &fault {
            Fault::Kill(_) => self.kill(site, &host),
            Fault::Pause(_) => {
                *self.paused.entry(host.clone()).or_default() += 1;
                site.handle.pause(site.nodes[&host]);
            }
            Fault::Cut { others, way, .. } => {
                self.change_links(site, plan, (&host, others, *way), |causes| causes + 1);
            }
            Fault::EtcdDown => self.etcd_down(site, plan).await,
            Fault::Lag { ms_max } => {
                self.lags.push(*ms_max);
                self.refresh_net(site);
            }
            Fault::Loss { permille } => {
                self.losses.push(*permille);
                self.refresh_net(site);
            }
            Fault::Slow { mean_us, .. } => {
                site.paces[&host].iter().for_each(|pace| pace.set(*mean_us))
            }
        }
        Begun { fault, host }
    }

    pub fn end(&mut self, site: &Site, plan: &Plan, begun: &Begun) {
        let Begun { fault, host } = begun;
        match fault {
            Fault::Kill(_) | Fault::EtcdDown => {
                if ends(&mut self.dead, host) {
                    site.handle.restart(site.nodes[host]);
                    if self.paused.get(host).is_some_and(|causes| *causes > 0) {
                        site.handle.pause(site.nodes[host]);
                    }
                }
            }
            Fault::Pause(_) => {
                if ends(&mut self.paused, host) {
                    site.handle.resume(site.nodes[host]);
                }
            }
            Fault::Cut { others, way, .. } => {
                self.change_links(site, plan, (host, others, *way), |causes| causes - 1);
            }
            Fault::Lag { ms_max } => {
                remove(&mut self.lags, *ms_max);
                self.refresh_net(site);
            }
            Fault::Loss { permille } => {
                remove(&mut self.losses, *permille);
                self.refresh_net(site);
            }
            Fault::Slow { .. } => site.paces[host].iter().for_each(|pace| pace.set(plan.engine_us)),
        }
    }

    fn kill(&mut self, site: &Site, host: &str) {
        let causes = self.dead.entry(host.to_owned()).or_default();
        *causes += 1;
        if *causes == 1 {
            // What waits in a process that stands still would be dropped outside of it.
            site.handle.resume(site.nodes[host]);
            site.handle.kill(site.nodes[host]);
        }
    }

    /// etcd goes down, and what it has answered by then is in the state with which it comes back.
    async fn etcd_down(&mut self, site: &Site, plan: &Plan) {
        if self.dead.get(ETCD).is_some_and(|causes| *causes > 0) {
            return self.kill(site, ETCD);
        }
        let all = (ETCD, &Others::All, Way::In);
        self.change_links(site, plan, all, |causes| causes + 1);
        site.handle.resume(site.nodes[ETCD]);
        // What was under way arrives.
        let latency_ms = self.lags.iter().copied().max().unwrap_or_default().max(LATENCY_MS.1);
        tokio::time::sleep(Duration::from_millis(latency_ms + 20)).await;
        site.etcd.save(&site.handle, site.nodes[ETCD]).await;
        self.kill(site, ETCD);
        self.change_links(site, plan, all, |causes| causes - 1);
    }

    fn change_links(
        &mut self,
        site: &Site,
        plan: &Plan,
        (host, others, way): (&str, &Others, Way),
        change: impl Fn(u32) -> u32,
    ) {
        for other in names(plan, others).into_iter().filter(|other| other != host) {
            for (from, to, cut) in
                [(host, other.as_str(), way != Way::In), (other.as_str(), host, way != Way::Out)]
            {
                if !cut {
                    continue;
                }
                let causes = self.cuts.entry((from.to_owned(), to.to_owned())).or_default();
                *causes = change(*causes);
                let (src, dst) = (site.nodes[from], site.nodes[to]);
                match causes {
                    0 => site.net.unclog_link(src, dst),
                    _ => site.net.clog_link(src, dst),
                }
            }
        }
    }

    fn refresh_net(&self, site: &Site) {
        let ms_max = self.lags.iter().copied().max().unwrap_or_default().max(LATENCY_MS.1);
        let permille = self.losses.iter().copied().max().unwrap_or_default();
        site.net.update_config(|config| {
            config.send_latency =
                Duration::from_millis(LATENCY_MS.0)..Duration::from_millis(ms_max);
            config.packet_loss_rate = permille as f64 / 1_000.0;
        });
    }
}

/// Whether this was the last of several causes.
fn ends(causes: &mut BTreeMap<String, u32>, host: &str) -> bool {
    let causes = causes.entry(host.to_owned()).or_default();
    *causes = causes.saturating_sub(1);
    *causes == 0
}

fn remove(from: &mut Vec<u64>, one: u64) {
    if let Some(at) = from.iter().position(|known| *known == one) {
        from.remove(at);
    }
}

fn names(plan: &Plan, others: &Others) -> BTreeSet<String> {
    match others {
        Others::Etcd => BTreeSet::from([ETCD.to_owned()]),
        Others::Coordinators => (0..COORDINATORS).map(coordinator_name).collect(),
        Others::Shards => (0..plan.shards).map(shard_name).collect(),
        Others::All => plan.hosts().into_iter().collect(),
        Others::Named(name) => BTreeSet::from([name.clone()]),
    }
}

fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Kill(_) => "kill",
        Fault::Pause(_) => "pause",
        Fault::Cut { way: Way::Both, .. } => "cut",
        Fault::Cut { way: Way::In | Way::Out, .. } => "one-way cut",
        Fault::EtcdDown => "etcd restart",
        Fault::Lag { .. } => "lag",
        Fault::Loss { .. } => "loss",
        Fault::Slow { .. } => "slow engine",
    }
}
