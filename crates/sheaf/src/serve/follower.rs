//! Which follower a replica asks, and whose.
//!
//! Decides which settings make sense for its engine. Asks nobody: a server that isn't what the settings say is found out in the rounds.

use std::sync::Arc;

use sheaf_engines::{Follower, QuiverFollower, QuiverFollowerOptions};
use sheaf_pgvector::{PgFollower, PgFollowerOptions};
use sheaf_runtime::entropy;
use sheaf_transport::Transport;

use super::engine::{self, PgSettings};
use crate::client::Failure;
use crate::config::check::Complaints;
use crate::config::{Common, EngineKind, ReplicaSettings};

/// A follower that the settings name.
pub enum Followed {
    Quiver(QuiverFollowerOptions),
    Pgvector(Box<PgFollowerOptions>),
}

impl Followed {
    /// # Errors
    /// A key can't be sent, or there are no sessions to be had.
    pub fn open(self, transport: Arc<dyn Transport>) -> Result<Arc<dyn Follower>, Failure> {
        match self {
            Self::Quiver(options) => {
                let follower = QuiverFollower::new(transport, options);
                Ok(Arc::new(follower.map_err(super::failed)?))
            }
            Self::Pgvector(options) => {
                Ok(Arc::new(PgFollower::new(*options).map_err(super::failed)?))
            }
        }
    }
}

/// The follower that the settings name.
pub fn followed(
    common: &Common,
    settings: &ReplicaSettings,
    complaints: &mut Complaints,
) -> Option<Followed> {
    let mut only_for = |given: bool, setting: &str, engine: &str| {
        if given {
            complaints.add(format!("{setting} is for {engine}; choose that, or leave it out"));
        }
    };
    let ReplicaSettings { engine_key, leader_key, engine_ca, leader_ca, .. } = settings;
    let ReplicaSettings { engine_password, leader_password, .. } = settings;
    if settings.engine != EngineKind::Quiver {
        only_for(engine_key.is_some(), "engine_key", "--engine quiver");
        only_for(leader_key.is_some(), "leader_key", "--engine quiver");
    }
    if settings.engine != EngineKind::Pgvector {
        only_for(engine_password.is_some(), "engine_password", "--engine pgvector");
        only_for(leader_password.is_some(), "leader_password", "--engine pgvector");
        only_for(engine_ca.is_some(), "engine_ca", "--engine pgvector");
        only_for(leader_ca.is_some(), "leader_ca", "--engine pgvector");
    }
    match settings.engine {
        EngineKind::Embedded => {
            complaints.add(
                "nothing follows a shard on the embedded engine, so it can have no replica; leave out --engine for a shard on Quiver, \
                 or write --engine pgvector",
            );
            None
        }
        EngineKind::Quiver => quiver(common, settings, complaints),
        EngineKind::Pgvector => pgvector(common, settings, complaints),
    }
}

fn quiver(
    common: &Common,
    settings: &ReplicaSettings,
    complaints: &mut Complaints,
) -> Option<Followed> {
    let mut server = |name: &str, url: &Option<String>, what: &str| {
        let Some(url) = url else {
            complaints.add(format!("{name} is missing: http://HOST:PORT of {what}"));
            return None;
        };
        engine::quiver_url(common, name, url, complaints)
    };
    let url = server("engine_url", &settings.engine_url, "the Quiver server that follows");
    let leader = server("leader_url", &settings.leader_url, "the Quiver server that it follows");
    let (url, leader_url) = url.zip(leader)?;
    if url == leader_url {
        complaints.add("engine_url and leader_url are the same server; a replica needs one that follows the other");
        return None;
    }
    let (key, leader_key) = (settings.engine_key.clone(), settings.leader_key.clone());
    let name = entropy::name();
    Some(Followed::Quiver(QuiverFollowerOptions { url, key, leader_url, leader_key, name }))
}

fn pgvector(
    common: &Common,
    settings: &ReplicaSettings,
    complaints: &mut Complaints,
) -> Option<Followed> {
    const URL: &str = "postgres://USER@HOST:PORT/DATABASE";
    let ReplicaSettings { engine_url, engine_ca, leader_url, leader_ca, .. } = settings;
    let password = settings.engine_password.as_deref();
    let standby = match engine_url {
        Some(url) => {
            let (name, ca_flag, ca) = ("engine_url", "--engine-ca", engine_ca.as_deref());
            PgSettings { name, url, password, ca, ca_flag }.options(common, complaints)
        }
        None => {
            complaints.add(format!("engine_url is missing: {URL} of the standby that follows"));
            None
        }
    };
    let password = settings.leader_password.as_deref();
    let leader = match leader_url {
        Some(url) => {
            let (name, ca_flag, ca) = ("leader_url", "--leader-ca", leader_ca.as_deref());
            PgSettings { name, url, password, ca, ca_flag }.options(common, complaints)
        }
        None => {
            complaints.add(format!("leader_url is missing: {URL} that the shard's gate writes to"));
            None
        }
    };
    let (standby, leader) = standby.zip(leader)?;
    if standby.database() != leader.database() {
        complaints.add("engine_url and leader_url name different databases; on a standby each has the name that it has on the server which that follows");
        return None;
    }
    if standby.server() == leader.server() {
        complaints.add("engine_url and leader_url are the same server; a replica needs a standby that follows the other");
        return None;
    }
    let name = entropy::name();
    Some(Followed::Pgvector(Box::new(PgFollowerOptions { standby, leader, name })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(settings: &ReplicaSettings) -> String {
        let mut complaints = Complaints::default();
        let followed = followed(&Common::default(), settings, &mut complaints);
        let said = complaints.or(followed.map(|_| ()));
        said.map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn of(engine: EngineKind, url: &str, leader: &str) -> ReplicaSettings {
        let given = |url: &str| Some(url.to_owned()).filter(|url| !url.is_empty());
        let (engine_url, leader_url) = (given(url), given(leader));
        ReplicaSettings { engine, engine_url, leader_url, ..ReplicaSettings::default() }
    }

    #[test]
    fn a_follower_needs_two_servers_of_one_engine_that_can_be_followed() {
        use EngineKind::{Embedded, Pgvector, Quiver};
        const STANDBY: &str = "postgres://u:hush@127.0.0.1:2/d";
        const PRIMARY: &str = "postgres://u:hush@127.0.0.1:1/d";
        assert_eq!(said(&of(Quiver, "http://127.0.0.1:2", "http://127.0.0.1:1")), "");
        assert_eq!(said(&of(Pgvector, STANDBY, PRIMARY)), "");
        let far = "postgres://u:hush@10.0.0.1/d";
        for (settings, says) in [
            (of(Embedded, "", ""), "can have no replica"),
            (of(Quiver, "", "http://127.0.0.1:1"), "engine_url is missing"),
            (of(Quiver, "http://127.0.0.1:1", "http://127.0.0.1:1"), "the same server"),
            (of(Quiver, STANDBY, PRIMARY), "http://HOST:PORT"),
            (of(Pgvector, "", PRIMARY), "engine_url is missing"),
            (of(Pgvector, STANDBY, ""), "leader_url is missing"),
            (of(Pgvector, STANDBY, "http://127.0.0.1:1"), "leader_url: it is no URL of PostgreSQL"),
            (of(Pgvector, PRIMARY, PRIMARY), "the same server"),
            (of(Pgvector, "postgres://other@127.0.0.1:1/d", PRIMARY), "the same server"),
            (of(Pgvector, "postgres://u@127.0.0.1:2/e", PRIMARY), "different databases"),
            (of(Pgvector, far, PRIMARY), "--engine-ca FILE"),
            (of(Pgvector, STANDBY, far), "--leader-ca FILE"),
        ] {
            let said = said(&settings);
            assert!(said.contains(says) && !said.contains("hush"), "{says}: {said}");
        }
    }

    #[test]
    fn what_is_for_another_engine_is_refused() {
        let secret = || Some("hush".to_owned());
        let quiver = || of(EngineKind::Quiver, "http://127.0.0.1:2", "http://127.0.0.1:1");
        let postgres =
            || of(EngineKind::Pgvector, "postgres://u@127.0.0.1:2/d", "postgres://u@127.0.0.1:1/d");
        let file = || Some("/none/ca.pem".into());
        for (settings, says) in [
            (ReplicaSettings { engine_password: secret(), ..quiver() }, "engine_password is for"),
            (ReplicaSettings { leader_password: secret(), ..quiver() }, "leader_password is for"),
            (ReplicaSettings { engine_ca: file(), ..quiver() }, "engine_ca is for"),
            (ReplicaSettings { leader_ca: file(), ..quiver() }, "leader_ca is for"),
            (ReplicaSettings { engine_key: secret(), ..postgres() }, "engine_key is for"),
            (ReplicaSettings { leader_key: secret(), ..postgres() }, "leader_key is for"),
            (
                ReplicaSettings { leader_ca: file(), ..postgres() },
                "leader_url: /none/ca.pem can't be read",
            ),
        ] {
            let said = said(&settings);
            assert!(said.contains(says) && !said.contains("hush"), "{says}: {said}");
        }
    }
}
