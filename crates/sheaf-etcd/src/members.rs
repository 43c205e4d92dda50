//! The members of an etcd, asked one after the other until one answers.
//!
//! Decides what an error says about a transaction: surely not applied, or perhaps. Everything that is asked here may be asked
//! twice: its author made sure of that.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, KvClient, Txn, TxnResponse};

/// Milliseconds between two rounds over all members.
const ROUND_MS: u64 = 50;

/// gRPC codes with which etcd refuses a request before anything of it is applied: invalid argument, permission denied, failed
/// precondition. "Resource exhausted" is not among them: the transaction that fills etcd's quota is applied, and answered so.
const REFUSALS: [i32; 3] = [3, 7, 9];

/// Connections to each member, and which one answered last.
pub struct Members {
    members: Vec<(String, Option<KvClient>)>,
    access: Option<(String, String)>,
    at: usize,
    /// For one try at one member.
    try_max: Duration,
    /// A try was begun and its end was not seen: its connection is not to be trusted.
    under_way: bool,
    /// What went wrong last.
    trouble: String,
}

/// An answer of etcd.
pub struct Answered {
    pub response: TxnResponse,
    /// An earlier try of the same transaction may have been applied, or may be yet.
    pub after_doubt: bool,
}

/// etcd refuses this transaction.
#[derive(Debug)]
pub struct Rejected {
    pub reason: String,
    /// As in [`Answered`].
    pub after_doubt: bool,
}

impl Members {
    pub fn new(members: Vec<String>, access: Option<(String, String)>, try_max: Duration) -> Self {
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
    pub async fn txn(&mut self, txn: Txn) -> Result<Answered, Rejected> {
        let mut after_doubt = false;
        loop {
            for _ in 0..self.members.len() {
                match self.try_one(txn.clone()).await {
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
    async fn try_one(&mut self, txn: Txn) -> Result<TxnResponse, Failed> {
        if self.under_way {
            self.turn();
        }
        self.under_way = true;
        let tried = tokio::time::timeout(self.try_max, self.ask(txn)).await;
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

    async fn ask(&mut self, txn: Txn) -> Result<TxnResponse, Failed> {
        let (member, client) = &mut self.members[self.at];
        let mut kv = match client {
            Some(kv) => kv.clone(),
            None => {
                let options = self.access.as_ref().map(|(user, password)| {
                    ConnectOptions::new().with_user(user.as_str(), password.as_str())
                });
                let connected = Client::connect([member.as_str()], options).await;
                let connected = connected.map_err(|error| Failed::of(&error, false))?;
                client.insert(connected.kv_client()).clone()
            }
        };
        kv.txn(txn).await.map_err(|error| Failed::of(&error, true))
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
