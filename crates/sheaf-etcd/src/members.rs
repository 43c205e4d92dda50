//! The members of an etcd, asked one after the other until one answers.
//!
//! Decides what an error says about a request: surely not applied, or perhaps. Everything that is asked here may be asked
//! twice: its author made sure of that.

use std::future::Future;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, PutOptions, Txn, TxnResponse};

/// Milliseconds between two rounds over all members.
const ROUND_MS: u64 = 50;

/// gRPC codes with which etcd refuses a request before anything of it is applied: invalid argument, not found, permission denied,
/// failed precondition. "Resource exhausted" is not among them: the transaction that fills etcd's quota is applied, and answered so.
const REFUSALS: [i32; 4] = [3, NOT_FOUND, 7, 9];
/// Of these, what is said of a lease that has ended.
const NOT_FOUND: i32 = 5;

/// How members are spoken to.
#[derive(Clone, Default)]
pub struct EtcdAccess {
    /// User and password.
    pub login: Option<(String, String)>,
    /// `None`: in plain text.
    pub tls: Option<EtcdTls>,
}

/// How members prove who they are, and we.
#[derive(Clone)]
pub struct EtcdTls {
    /// Certificates of who has signed theirs, in PEM.
    pub ca: Vec<u8>,
    /// Our certificate and its key, in PEM, for members that ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl EtcdAccess {
    fn endpoint(&self, member: &str) -> String {
        if self.tls.is_some() { format!("https://{member}") } else { member.to_owned() }
    }

    fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new();
        if let Some((user, password)) = &self.login {
            options = options.with_user(user.as_str(), password.as_str());
        }
        // The simulated etcd has no TLS, and is never given any.
        #[cfg(not(madsim))]
        if let Some(tls) = &self.tls {
            let ca = etcd_client::Certificate::from_pem(&tls.ca);
            let mut with = etcd_client::TlsOptions::new().ca_certificate(ca);
            if let Some((certificate, key)) = &tls.identity {
                with = with.identity(etcd_client::Identity::from_pem(certificate, key));
            }
            options = options.with_tls(with);
        }
        options
    }
}

/// Connections to each member, and which one answered last.
pub struct Members {
    members: Vec<(String, Option<Client>)>,
    access: EtcdAccess,
    at: usize,
    /// For one try at one member.
    try_max: Duration,
    /// A try was begun and its end was not seen: its connection is not to be trusted.
    under_way: bool,
    /// What went wrong last.
    trouble: String,
}

/// An answer of etcd.
pub struct Answered<T> {
    pub response: T,
    /// An earlier try of the same request may have been applied, or may be yet.
    pub after_doubt: bool,
}

/// etcd refuses this request.
#[derive(Debug)]
pub struct Rejected {
    pub reason: String,
    /// As in [`Answered`].
    pub after_doubt: bool,
}

impl Members {
    pub fn new(members: Vec<String>, access: EtcdAccess, try_max: Duration) -> Self {
        assert!(!members.is_empty(), "an etcd has members");
        let members = members.into_iter().map(|member| (member, None)).collect();
        let trouble = "no member answered in time".to_owned();
        Self { members, access, at: 0, try_max, under_way: false, trouble }
    }

    /// What went wrong last.
    pub fn trouble(&self) -> &str {
        &self.trouble
    }

    /// Asks until a member answers: without an end, the caller sets the deadline.
    pub async fn txn(&mut self, txn: Txn) -> Result<Answered<TxnResponse>, Rejected> {
        self.ask(|client| {
            let txn = txn.clone();
            async move { client.kv_client().txn(txn).await }
        })
        .await
    }

    /// A lease of so many seconds, by its id. Without an end, as [`Members::txn`]; one that nobody knows of ends by itself.
    pub async fn grant(&mut self, seconds: i64) -> Result<i64, Rejected> {
        let granted = self.ask(|client| async move {
            client.lease_client().grant(seconds, None).await.map(|granted| granted.id())
        });
        granted.await.map(|answered| answered.response)
    }

    /// Puts a key that goes when the lease ends. One try: etcd's simulated twin forgets the lease of a key that is put twice.
    pub async fn put(&mut self, key: &str, value: &str, lease: i64) -> Result<(), Rejected> {
        let put = self.try_one(|client| {
            let (key, value) = (key.to_owned(), value.to_owned());
            let options = PutOptions::new().with_lease(lease);
            async move { client.kv_client().put(key, value, Some(options)).await }
        });
        let put = put.await.map(|_| ());
        put.map_err(|Failed { reason, sent, .. }| Rejected { reason, after_doubt: sent })
    }

    /// Renews a lease; `false`: it has ended. Without an end, as [`Members::txn`].
    pub async fn keep_alive(&mut self, lease: i64) -> Result<bool, Rejected> {
        let kept = self.ask(|client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(Error::GRpcStatus(status)) if status.code() as i32 == NOT_FOUND => Ok(false),
                Err(error) => Err(error),
            }
        });
        kept.await.map(|answered| answered.response)
    }

    /// Ends a lease. Without an end, as [`Members::txn`].
    pub async fn revoke(&mut self, lease: i64) -> Result<(), Rejected> {
        let revoked =
            self.ask(|client| async move { client.lease_client().revoke(lease).await.map(|_| ()) });
        revoked.await.map(|_| ())
    }

    async fn ask<T, F>(&mut self, call: impl Fn(Client) -> F) -> Result<Answered<T>, Rejected>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut after_doubt = false;
        loop {
            for _ in 0..self.members.len() {
                match self.try_one(&call).await {
                    Ok(response) => return Ok(Answered { response, after_doubt }),
                    Err(Failed { reason, refused: true, .. }) => {
                        return Err(Rejected { reason, after_doubt });
                    }
                    Err(Failed { sent, .. }) => after_doubt |= sent,
                }
            }
            tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
        }
    }

    /// One try at the member that answered last; after a failure it is the next one's turn.
    async fn try_one<T, F>(&mut self, call: impl Fn(Client) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Error>>,
    {
        if self.under_way {
            self.turn();
        }
        self.under_way = true;
        let tried = tokio::time::timeout(self.try_max, self.connected(call)).await;
        let tried = tried.unwrap_or_else(|_| {
            let reason = format!("no answer within {} ms", self.try_max.as_millis());
            Err(Failed { reason, refused: false, sent: true })
        });
        self.under_way = false;
        if let Err(failed) = &tried {
            self.trouble = format!("etcd at {}: {}", self.members[self.at].0, failed.reason);
            self.turn();
        }
        tried
    }

    async fn connected<T, F>(&mut self, call: impl Fn(Client) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (member, client) = &mut self.members[self.at];
        let client = match client {
            Some(client) => client.clone(),
            None => {
                let (endpoint, options) = (self.access.endpoint(member), self.access.options());
                let connected = Client::connect([endpoint], Some(options)).await;
                let connected = connected.map_err(|error| Failed::of(&error, false))?;
                client.insert(connected).clone()
            }
        };
        call(client).await.map_err(|error| Failed::of(&error, true))
    }

    /// Forgets the connection to this member and goes on with the next one.
    fn turn(&mut self) {
        self.members[self.at].1 = None;
        self.at = (self.at + 1) % self.members.len();
    }
}

/// Why one try has no answer.
struct Failed {
    reason: String,
    /// Nothing of it was applied, and another member would say the same.
    refused: bool,
    /// Something may have reached the member.
    sent: bool,
}

impl Failed {
    fn of(error: &Error, sent: bool) -> Self {
        let refused = matches!(error, Error::GRpcStatus(status) if REFUSALS.contains(&(status.code() as i32)));
        Self { reason: error.to_string(), refused, sent }
    }
}
