//! Where the database is and how it is used. Decides which URLs can be used; never shows a password.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::tls::{self, Tls};

/// Seconds for one call, and for each wait of it. Source: half of what a client may ask for.
const CALL_SECS: u64 = 30;
/// Seconds in which the database must have been opened: it counts all points.
const OPEN_SECS: u64 = 600;
/// Seconds that a start waits for the gate before it to be gone from the server.
const TAKE_OVER_SECS: u64 = 10;
/// Sessions besides the one that holds the lock. Source: PostgreSQL takes 100 by default, for all its users.
const SESSIONS_MAX: usize = 16;
/// Numbers in a collection up to which it is searched exactly. Source: measured, see docs/engines/pgvector.md.
const EXACT_FLOATS_MAX: u64 = 8_000_000;
/// Seconds until a connection that carries nothing is asked whether the other side lives, and between two asks.
const KEEPALIVE_SECS: (u64, u64) = (10, 5);

/// How an engine uses its database.
#[derive(Clone)]
pub struct PgOptions {
    pub(crate) config: Config,
    pub(crate) tls: Tls,
    server: String,
    /// The database for people: everything but the password.
    pub(crate) place: String,
    /// How long a call may take. A write whose outcome got lost is not answered before that is settled.
    pub deadline: Duration,
    /// How long opening may take.
    pub open_deadline: Duration,
    /// How long opening waits for another gate to let go of the database.
    pub take_over: Duration,
    /// Sessions at most, besides the one that holds the lock.
    pub sessions_max: usize,
    /// Collections of at most this many numbers are searched exactly, larger ones by their index, if they have one.
    pub exact_floats_max: u64,
}

impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions").field("place", &self.place).finish_non_exhaustive()
    }
}

impl PgOptions {
    /// The options for `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=…&sslrootcert=…]`. `password` counts before the URL's.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the URL, without the URL.
    pub fn parse(url: &str, password: Option<&str>) -> Result<Self, String> {
        Self::parse_with(url, password, None)
    }

    /// The same; `ca` is a file in PEM of the authorities that the server's certificate must come from.
    ///
    /// # Errors
    /// As of [`PgOptions::parse`], or the file can't be used.
    pub fn parse_with(
        url: &str,
        password: Option<&str>,
        ca: Option<&Path>,
    ) -> Result<Self, String> {
        let (url, wanted) = tls::split(url)?;
        let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let parsed = url.parse::<Config>().ok().filter(|_| is_url);
        // The parser's own words may quote the URL, and there may be a password in it.
        let mut config =
            parsed.ok_or("it is no URL of PostgreSQL; write postgres://USER@HOST:PORT/DATABASE")?;
        let ([host], [] | [_]) = (config.get_hosts(), config.get_ports()) else {
            return Err(
                "it names no host or several, and a shard's points are in one place; write \
                        postgres://USER@HOST:PORT/DATABASE"
                    .to_owned(),
            );
        };
        let tls = Tls::new(wanted, ca)?;
        if matches!((host, &tls), (Host::Unix(_), Tls::Verified(_))) {
            return Err("PostgreSQL speaks no TLS on a socket of the system; name its host, or leave out TLS".to_owned());
        }
        let (Some(user), host) = (config.get_user().map(str::to_owned), shown(host)) else {
            return Err("it names no user; write postgres://USER@HOST:PORT/DATABASE".to_owned());
        };
        let Some(database) = config.get_dbname().map(str::to_owned) else {
            return Err("it names no database; write postgres://USER@HOST:PORT/DATABASE".to_owned());
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let server = format!("{host}:{port}");
        if let Some(password) = password {
            config.password(password);
        }
        let (idle, between) = KEEPALIVE_SECS;
        let deadline = Duration::from_secs(CALL_SECS);
        config.application_name("sheaf").ssl_mode(tls.mode()).connect_timeout(deadline);
        config
            .keepalives_idle(Duration::from_secs(idle))
            .keepalives_interval(Duration::from_secs(between));
        config.tcp_user_timeout(deadline);
        Ok(Self {
            config,
            tls,
            place: format!("{user}@{server}/{database}"),
            server,
            deadline,
            open_deadline: Duration::from_secs(OPEN_SECS),
            take_over: Duration::from_secs(TAKE_OVER_SECS),
            sessions_max: SESSIONS_MAX,
            exact_floats_max: EXACT_FLOATS_MAX,
        })
    }

    /// The database for people: user, host, port and name, never the password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The name of the database in its server.
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// `HOST:PORT` of its server, as it was given.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether it has to show who it is, and nothing can be read on the wire.
    pub fn is_verified(&self) -> bool {
        matches!(self.tls, Tls::Verified(_))
    }

    /// Whether what is sent to it stays on this machine.
    pub fn is_local(&self) -> bool {
        let is_loopback = |ip: &IpAddr| ip.is_loopback();
        self.config.get_hostaddrs().iter().all(is_loopback)
            && self.config.get_hosts().iter().all(|host| match host {
                Host::Tcp(name) => {
                    name == "localhost" || name.parse().is_ok_and(|ip| is_loopback(&ip))
                }
                Host::Unix(_) => true,
            })
    }
}

fn shown(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let options = PgOptions::parse("postgres://u:hush@127.0.0.1:5/d", None).unwrap();
        assert_eq!(options.place(), "u@127.0.0.1:5/d");
        assert!(!format!("{options:?}").contains("hush"));
        for wrong in
            ["postgres://u:hush@h:x/d", "hush", "postgres://u:hush@h/d?hush=1", "http://u:hush@h/d"]
        {
            let why = PgOptions::parse(wrong, None).unwrap_err();
            assert!(!why.contains("hush"), "{why}");
        }
    }

    #[test]
    fn a_url_that_leaves_something_open_is_refused() {
        for (wrong, says) in [
            ("postgres://h/d", "user"),
            ("postgres://u@h", "database"),
            ("postgres://u@/d", "host"),
            ("postgres://u@a,b/d", "several"),
            ("postgres://u@%2Frun%2Fpostgresql/d?sslmode=require", "no TLS on a socket"),
        ] {
            let why = PgOptions::parse(wrong, None).unwrap_err();
            assert!(why.contains(says), "{wrong}: {why}");
        }
    }

    #[test]
    fn only_loopback_counts_as_local() {
        let is_local = |url: &str| PgOptions::parse(url, None).unwrap().is_local();
        assert!(is_local("postgres://u@127.0.0.1/d") && is_local("postgresql://u@localhost:1/d"));
        assert!(is_local("postgres://u@%2Frun%2Fpostgresql/d"));
        assert!(!is_local("postgres://u@localhost/d?hostaddr=10.0.0.1"));
        assert!(
            !is_local("postgres://u@10.0.0.1/d") && !is_local("postgres://u@localhost.example/d")
        );
    }
}
