//! Puts a run together: one process for each part of the cluster, and one for all clients.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::Handle;
use madsim::task::NodeId;

use crate::book::Book;
use crate::clients::{Client, ids};
use crate::dice::{Dice, Purpose};
use crate::etcd::Etcd;
use crate::gate::{self, Disk};
use crate::net::Caller;
use crate::operator::Operator;
use crate::place::{CLIENTS, ETCD, coordinator_name, ip, router_name, shard_name, url};
use crate::plan::{COORDINATORS, Plan};
use crate::process::{Machine, Paces};
use crate::reigns::Reigns;
use crate::slow::Pace;
use crate::weather::Site;
use crate::{coordinator, router};

/// Between a start that failed and the next one, as a service manager would have it.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// The processes, and the machine that stands for all.
pub fn site(plan: &Plan, book: &Arc<Book>, handle: Handle, net: Arc<NetSim>) -> (Machine, Site) {
    let common = Machine {
        book: Arc::clone(book),
        number: 0,
        skew_ms: 0,
        paces: paces(plan, 0),
        reigns: Arc::new(Reigns::default()),
        coordinators: COORDINATORS,
        seeds: (0..plan.founders).map(|number| url(&shard_name(number))).collect(),
        lease_secs: plan.lease_secs,
        fence_budget_ms: plan.fence_budget_ms,
    };
    let etcd = Etcd::default();
    etcd.set_timeouts(plan.etcd_timeouts_permille);
    let (nodes, paces) = (BTreeMap::new(), BTreeMap::new());
    let mut site = Site { handle, net, nodes, paces, etcd: etcd.clone() };
    process(&mut site, ETCD, move || etcd.clone().run());
    for number in 0..COORDINATORS {
        let machine = machine(plan, &common, &site, number);
        process(&mut site, &coordinator_name(number), move || {
            lives(machine.clone(), coordinator::run)
        });
    }
    for number in 0..plan.shards {
        let machine = machine(plan, &common, &site, number);
        let disk = Disk::new(&machine);
        site.paces.insert(shard_name(number), machine.paces.clone());
        process(&mut site, &shard_name(number), move || {
            let disk = disk.clone();
            lives(machine.clone(), move |machine| gate::run(machine, disk.clone()))
        });
    }
    for number in 0..plan.routers {
        let machine = machine(plan, &common, &site, number);
        process(&mut site, &router_name(number), move || lives(machine.clone(), router::run));
    }
    let (plan, book) = (plan.clone(), Arc::clone(book));
    book.set_clients(plan.clients);
    process(&mut site, CLIENTS, move || clients(plan.clone(), Arc::clone(&book)));
    (common, site)
}

fn machine(plan: &Plan, common: &Machine, site: &Site, number: u32) -> Machine {
    let at = site.nodes.len();
    let skew_ms = plan.skews_ms[at % plan.skews_ms.len()];
    Machine { number, skew_ms, paces: paces(plan, at as u64), ..common.clone() }
}

fn paces(plan: &Plan, at: u64) -> Paces {
    let pace = |purpose| Arc::new(Pace::new(Dice::new(plan.seed, purpose), plan.engine_us));
    [pace(Purpose::Engine(at)), pace(Purpose::Disk(at))]
}

fn process<F>(site: &mut Site, name: &str, run: impl Fn() -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let node: NodeId = site.handle.create_node().name(name).ip(ip(name)).init(run).build().id();
    site.nodes.insert(name.to_owned(), node);
}

/// Runs a process for as long as its node lives.
async fn lives<F>(machine: Machine, run: impl Fn(Machine) -> F)
where
    F: Future<Output = std::io::Result<()>>,
{
    let counts = &machine.book.counts;
    loop {
        counts.boots.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = run(machine.clone()).await {
            tracing::warn!(target: "sheaf_madsim", %error, "a process has ended");
        }
        counts.failed_boots.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

async fn clients(plan: Plan, book: Arc<Book>) {
    let caller = match Caller::of(CLIENTS).await {
        Ok(caller) => caller,
        Err(error) => return book.broken("the harness", format!("no client can ask: {error}")),
    };
    let client = |number| Client {
        book: Arc::clone(&book),
        dice: Dice::new(plan.seed, Purpose::Client(number)),
        ids: ids(plan.points),
        routers: (0..plan.routers).map(router_name).collect(),
        think_ms: plan.think_ms,
        caller: caller.clone(),
    };
    for number in 0..plan.clients {
        tokio::spawn(client(number).run());
    }
    let operator = Operator {
        book: Arc::clone(&book),
        client: client(plan.clients),
        dice: Dice::new(plan.seed, Purpose::Client(plan.clients + 1)),
        wishes: plan.wishes.clone(),
        copy_points_per_s: plan.copy_points_per_s,
    };
    operator.run().await;
    std::future::pending::<()>().await;
}
