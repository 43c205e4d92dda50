//! Faults as they come and go. Decides the state of each link when several faults meet on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use turmoil::Sim;

use crate::plan::{Fault, Plan};
use crate::world::Site;

type Pair = (String, String);

/// What is wrong at the moment.
#[derive(Default)]
pub struct Weather {
    /// How many faults keep messages from getting from the one host to the other.
    cuts: BTreeMap<Pair, u32>,
    holds: BTreeSet<Pair>,
    off: BTreeSet<String>,
    /// Faults that began, by kind.
    pub begun: BTreeMap<&'static str, u64>,
}

impl Weather {
    pub fn begin(&mut self, sim: &mut Sim<'_>, site: &Site, plan: &Plan, fault: &Fault) {
        *self.begun.entry(kind(fault)).or_default() += 1;
        match fault {
            Fault::Cut { host, others, both } => self.cut(sim, host, others, *both),
            Fault::Hold { host, other } => {
                self.holds.insert(pair(host, other));
                self.refresh(sim, host, other);
            }
            Fault::Loss { host, other, permille } => {
                sim.set_link_fail_rate(host.as_str(), other.as_str(), *permille as f64 / 1_000.0);
            }
            Fault::Lag { host, ms_max } => lag(sim, plan, host, *ms_max),
            Fault::Off { host, silent } => self.off(sim, site, plan, host, *silent),
            Fault::DiskFails { host, ppm } => {
                site.with_disk(host, |machine| machine.hardware.fail(*ppm))
            }
            Fault::DiskFull { host } => site.with_disk(host, |machine| machine.hardware.fill(true)),
            Fault::Slow { host, mean_us } => {
                site.with_disk(host, |machine| machine.pace.set(*mean_us))
            }
            Fault::StoreAway { host } => site.with_disk(host, |machine| machine.store_away(true)),
        }
    }

    pub fn end(&mut self, sim: &mut Sim<'_>, site: &Site, plan: &Plan, fault: &Fault) {
        match fault {
            Fault::Cut { host, others, both } => self.mend(sim, host, others, *both),
            Fault::Hold { host, other } => {
                self.holds.remove(&pair(host, other));
                sim.release(host.as_str(), other.as_str());
                self.refresh(sim, host, other);
            }
            Fault::Loss { host, other, .. } => {
                sim.set_link_fail_rate(host.as_str(), other.as_str(), 0.0);
                sim.repair(host.as_str(), other.as_str());
                self.refresh(sim, host, other);
            }
            Fault::Lag { host, .. } => lag(sim, plan, host, plan.latency_ms.1),
            Fault::Off { host, silent } => self.on(sim, plan, host, *silent),
            Fault::DiskFails { host, .. } => {
                site.with_disk(host, |machine| machine.hardware.fail(0))
            }
            Fault::DiskFull { host } => {
                site.with_disk(host, |machine| machine.hardware.fill(false))
            }
            Fault::Slow { host, .. } => {
                site.with_disk(host, |machine| machine.pace.set(plan.engine_us))
            }
            Fault::StoreAway { host } => site.with_disk(host, |machine| machine.store_away(false)),
        }
    }

    fn off(&mut self, sim: &mut Sim<'_>, site: &Site, plan: &Plan, host: &str, silent: bool) {
        if silent {
            self.cut(sim, host, &neighbours(plan, host), true);
        }
        if self.off.insert(host.to_owned()) {
            site.power_off(host);
            sim.crash(host);
        }
    }

    fn on(&mut self, sim: &mut Sim<'_>, plan: &Plan, host: &str, silent: bool) {
        if self.off.remove(host) {
            sim.bounce(host);
        }
        if silent {
            self.mend(sim, host, &neighbours(plan, host), true);
        }
    }

    fn cut(&mut self, sim: &mut Sim<'_>, host: &str, others: &[String], both: bool) {
        for other in others {
            *self.cuts.entry((host.to_owned(), other.clone())).or_default() += 1;
            if both {
                *self.cuts.entry((other.clone(), host.to_owned())).or_default() += 1;
            }
            self.refresh(sim, host, other);
        }
    }

    fn mend(&mut self, sim: &mut Sim<'_>, host: &str, others: &[String], both: bool) {
        for other in others {
            let mut end = |from: &str, to: &str| {
                let causes = self.cuts.entry((from.to_owned(), to.to_owned())).or_default();
                *causes = causes.saturating_sub(1);
            };
            end(host, other);
            if both {
                end(other, host);
            }
            self.refresh(sim, host, other);
        }
    }

    /// Cuts come before holds: turmoil knows no link that does both.
    fn refresh(&self, sim: &mut Sim<'_>, host: &str, other: &str) {
        let cut = |from: &str, to: &str| {
            self.cuts.get(&(from.to_owned(), to.to_owned())).is_some_and(|causes| *causes > 0)
        };
        let (there, back) = (cut(host, other), cut(other, host));
        if !there && !back {
            if self.holds.contains(&pair(host, other)) {
                sim.hold(host, other);
            } else {
                sim.repair(host, other);
            }
            return;
        }
        for (from, to, cut) in [(host, other, there), (other, host, back)] {
            if cut {
                sim.partition_oneway(from, to);
            } else {
                sim.repair_oneway(from, to);
            }
        }
    }
}

fn pair(host: &str, other: &str) -> Pair {
    let (host, other) = (host.to_owned(), other.to_owned());
    if host < other { (host, other) } else { (other, host) }
}

/// Everybody who may talk with this host.
fn neighbours(plan: &Plan, host: &str) -> Vec<String> {
    let mut all = plan.hosts();
    all.extend((0..plan.clients).map(crate::world::client_name));
    all.push(crate::world::OPERATOR.to_owned());
    all.retain(|other| other != host);
    all
}

fn lag(sim: &Sim<'_>, plan: &Plan, host: &str, ms_max: u64) {
    for other in neighbours(plan, host) {
        sim.set_link_max_message_latency(host, other.as_str(), Duration::from_millis(ms_max));
    }
}

fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Cut { both: true, .. } => "cut",
        Fault::Cut { both: false, .. } => "one-way cut",
        Fault::Hold { .. } => "hold",
        Fault::Loss { .. } => "loss",
        Fault::Lag { .. } => "lag",
        Fault::Off { silent: true, .. } => "power loss",
        Fault::Off { silent: false, .. } => "crash",
        Fault::DiskFails { .. } => "failing disk",
        Fault::DiskFull { .. } => "full disk",
        Fault::Slow { .. } => "slow engine",
        Fault::StoreAway { .. } => "store away",
    }
}
