//! Questions and answers over madsim's network: one connection each. Decides what a missing answer means.
//!
//! Nothing is written down as bytes: what goes over this network are the values that production puts into HTTP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use madsim::net::Endpoint;
use sheaf_coordinator::Reply as AskReply;
use sheaf_gate::Seen;
use sheaf_map::Map;
use sheaf_protocol::{Directive, DirectiveRefusal, Frame, FrameRefusal, GateReport, Verdict};
use sheaf_runtime::coordinator::NotDone;
use sheaf_runtime::gate::Audit;
use sheaf_sim::wire::{AskMessage, ClientReply, ClientRequest, DataReply, DataRequest};
use sheaf_types::MapVersion;

use crate::harness::NETWORK;
use crate::place;

/// A question to a process.
#[derive(Clone, Debug)]
pub enum Question {
    Direct { directive: Arc<Directive>, seen: Seen, wait_ms: u64 },
    Report,
    Frame(Arc<Frame>),
    Audit,
    Data(Arc<DataRequest>),
    Map { after: MapVersion, wait_ms: u64 },
    Ask(Arc<AskMessage>),
    Client(Arc<ClientRequest>),
}

/// Its answer.
#[derive(Clone, Debug)]
pub enum Answer {
    Directed(Result<Box<GateReport>, DirectiveRefusal>),
    Report(Box<GateReport>),
    Frame(Result<Verdict, FrameRefusal>),
    Audit(Box<Audit>),
    Data(DataReply),
    Map(Arc<Map>),
    Asked(Result<AskReply, NotDone>),
    Client(ClientReply),
    /// Surely nothing was done; the text says why.
    NotReady(String),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The question never left.
    NotSent,
    /// It may have arrived.
    Lost,
}

/// The way from one process to the others.
#[derive(Clone)]
pub struct Caller {
    name: Arc<str>,
    endpoint: Endpoint,
}

impl Caller {
    pub async fn of(name: &str) -> io::Result<Self> {
        let endpoint = Endpoint::bind("0.0.0.0:0").await?;
        Ok(Self { name: Arc::from(name), endpoint })
    }

    /// Asks the process at this URL, and waits for no longer than `patience`.
    pub async fn ask_at(
        &self,
        url: &str,
        question: Question,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        match place::name_in(url) {
            Some(name) => self.ask(name, question, patience).await,
            None => Err(Failure::NotSent),
        }
    }

    /// Asks the process with this name, and waits for no longer than `patience`.
    pub async fn ask(
        &self,
        name: &str,
        question: Question,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        tracing::trace!(target: NETWORK, from = %self.name, to = name, ?question);
        let asked = self.connect_and_ask(place::address(name), question);
        let answer = tokio::time::timeout(patience, asked).await.unwrap_or(Err(Failure::Lost));
        tracing::trace!(target: NETWORK, to = %self.name, from = name, ?answer);
        answer
    }

    async fn connect_and_ask(
        &self,
        address: SocketAddr,
        question: Question,
    ) -> Result<Answer, Failure> {
        let connected = self.endpoint.connect1(address).await;
        let (sender, mut receiver) = connected.map_err(|_| Failure::NotSent)?;
        sender.send(Box::new(question)).await.map_err(|_| Failure::NotSent)?;
        let answer = receiver.recv().await.map_err(|_| Failure::Lost)?;
        let answer = answer.downcast::<Answer>().map_err(|_| Failure::Lost)?;
        Ok(*answer)
    }
}

/// Answers questions for as long as the process lives. Who has gone needn't be answered.
pub async fn serve<F>(
    name: &str,
    answer: impl Fn(Question) -> F + Clone + Send + Sync + 'static,
) -> io::Result<()>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let endpoint = Endpoint::bind(place::address(name)).await?;
    loop {
        let (sender, mut receiver, _) = endpoint.accept1().await?;
        let answer = answer.clone();
        tokio::spawn(async move {
            let Ok(question) = receiver.recv().await else { return };
            let Ok(question) = question.downcast::<Question>() else { return };
            tokio::select! {
                biased;
                answer = answer(*question) => {
                    let _gone = sender.send(Box::new(answer)).await.is_err();
                }
                () = sender.closed() => {}
            }
        });
    }
}
