//! A router's process: production's router, asked and asking by messages.

use std::sync::Arc;
use std::time::Duration;

use sheaf_map::Map;
use sheaf_router::{Call, Outcome, Verdict};
use sheaf_runtime::entropy;
use sheaf_runtime::router::{KeeperOptions, MapReply, MapSource, RouterHost};
use sheaf_sim::router_node::{op_of, part_of};
use sheaf_sim::wire::{ClientReply, ClientRequest, DataReply, DataRequest, Found};
use sheaf_types::MapVersion;

use crate::net::{self, Answer, Caller, Failure, Question};
use crate::place::{coordinator_name, router_name};
use crate::process::Machine;

/// How long a coordinator may take for what it needn't wait for, as over HTTP.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a router waits for an answer after the shard should have given it, as over HTTP.
const GRACE: Duration = Duration::from_millis(50);

/// The coordinators, by messages.
struct Coordinators {
    caller: Caller,
    count: u32,
}

impl MapSource for Coordinators {
    fn coordinators(&self) -> usize {
        self.count as usize
    }

    fn map(&self, coordinator: usize, after: MapVersion, wait: Duration) -> MapReply<'_> {
        Box::pin(async move {
            let question = Question::Map { after, wait_ms: wait.as_millis() as u64 };
            let name = coordinator_name(coordinator as u32);
            match self.caller.ask(&name, question, wait + ANSWER_TIMEOUT).await {
                Ok(Answer::Map(map)) => Ok((*map).clone()),
                other => Err(format!("{name}: {other:?}")),
            }
        })
    }
}

/// `sheaf router`
pub async fn run(machine: Machine) -> std::io::Result<()> {
    let name = router_name(machine.number);
    let caller = Caller::of(&name).await?;
    let source = Coordinators { caller: caller.clone(), count: machine.coordinators };
    let options = KeeperOptions::default();
    let seed = entropy::seed();
    let (host, keeper) = RouterHost::new(machine.clock(), Arc::new(source), options, seed);
    tokio::spawn(keeper);
    machine.book.router_started(machine.number, host.clone());
    net::serve(&name, move |question| answer(host.clone(), caller.clone(), question)).await
}

async fn answer(host: RouterHost, caller: Caller, question: Question) -> Answer {
    let Question::Client(request) = question else {
        return Answer::NotReady(format!("no question for a router: {question:?}"));
    };
    let deadline = host.clock().now().plus_ms(request.timeout_ms);
    let Some(map) = host.map() else {
        return Answer::NotReady("this router has no map".to_owned());
    };
    let send = |call: Call, map: Arc<Map>| {
        ask_shard(host.clone(), caller.clone(), Arc::clone(&request), call, map)
    };
    let mut ended = host.run(map, op_of(&request.work), deadline, send).await;
    Answer::Client(match ended.verdict {
        Verdict::Complete { calls, .. } => {
            let parts = calls.iter().filter_map(|call| ended.replies.remove(call));
            let points = parts.flat_map(|part| part.points).collect();
            ClientReply::Done(Found { points, ..Found::default() })
        }
        Verdict::Incomplete(incomplete) => ClientReply::Parts {
            applied: incomplete.applied,
            not_applied: incomplete.not_applied,
            reason: incomplete.reason,
        },
    })
}

async fn ask_shard(
    host: RouterHost,
    caller: Caller,
    request: Arc<ClientRequest>,
    call: Call,
    map: Arc<Map>,
) -> (Outcome, Option<Found>) {
    let Some(entry) = map.shard(call.shard) else { return (Outcome::NotSent, None) };
    let left = host.clock().until(call.answer_by);
    let asked = DataRequest {
        version: Some(call.version),
        shard: Some(call.shard),
        collection: Arc::clone(&request.collection),
        work: part_of(&request.work, &call.items),
        timeout_ms: left.as_millis().max(1) as u64,
    };
    let question = Question::Data(Arc::new(asked));
    match caller.ask_at(&entry.primary_url, question, left + GRACE).await {
        Ok(Answer::Data(DataReply::Done { version, found })) => {
            (Outcome::Done { version }, Some(found))
        }
        Ok(Answer::Data(DataReply::Refused(refusal))) => (Outcome::Refused(refusal), None),
        Ok(Answer::NotReady(_)) | Err(Failure::NotSent) => (Outcome::NotSent, None),
        Ok(_) | Err(Failure::Lost) => (Outcome::Lost, None),
    }
}
