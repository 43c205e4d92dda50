//! The command line: which commands there are, and whom they ask. Each command is in its own file.

mod adopt;
mod collections;
mod control;
mod grow;
mod health;
mod history;
mod import;
mod leave;
mod map;
mod plan;
mod report;
mod reweight;
mod status;
mod store;
mod throttle;
mod verify;
mod watch;

use clap::{Args, Parser, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use sheaf_runtime::entropy;

use crate::client::{Change, Client, Failure};
use crate::follow;
use crate::output;
use crate::serve;

/// Sheaf: an elastic cluster of vector databases, whose migrations lose nothing.
#[derive(Debug, Parser)]
#[command(name = "sheaf", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What `sheaf` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a coordinator: it owns the map and every decision
    Coordinator(Box<serve::CoordinatorFlags>),
    /// Run a shard: one node of data. One that has never joined is a standby
    Shard(serve::ShardFlags),
    /// Run a replica: it answers searches of a shard that may be a little old, from a follower of the shard's engine
    Replica(serve::ReplicaFlags),
    /// Run a router: clients talk to it
    Router(serve::RouterFlags),
    /// See it work: a whole cluster on this machine grows, shrinks and crashes under load, and everything is checked
    Demo(crate::demo::DemoArgs),

    /// All of the cluster on one screen
    Status(Target),
    /// The map: shards and collections
    Map(Target),
    /// Which shards answer
    Health(Target),
    /// What a change would move, and how long it would take; changes nothing
    Plan(plan::PlanArgs),
    /// Take over a running Quiver cluster, with its points where they are
    Adopt(adopt::AdoptArgs),
    /// Let nodes join, all at once, by an online migration
    Grow(grow::GrowArgs),
    /// Let a node join in two steps: it copies now, and serves after `promote`
    Join(grow::JoinArgs),
    /// Let a joining shard serve as soon as its copy has converged
    Promote(grow::PromoteArgs),
    /// Let a shard leave by an online migration
    Drain(leave::DrainArgs),
    /// Let a node take a shard's place by an online migration
    Replace(leave::ReplaceArgs),
    /// Forget a shard that has left, or take one out of the map with all that it owns
    Remove(leave::RemoveArgs),
    /// Change how much a shard takes, by an online migration
    Reweight(reweight::ReweightArgs),
    /// Follow the running transition
    Watch(watch::WatchArgs),
    /// Stop copying; captured writes go on being sent
    Pause(control::ControlArgs),
    /// Go on copying
    Resume(control::ControlArgs),
    /// Give up the transition; possible until its commit
    Cancel(control::ControlArgs),
    /// Limit how fast the running transition copies
    Throttle(throttle::ThrottleArgs),
    /// What was decided, and why
    History(history::HistoryArgs),
    /// The proof that a transition left
    Report(report::ReportArgs),
    /// Audit the cluster: every point on exactly its owner, nothing extra
    Verify(verify::VerifyArgs),
    /// Load points from a file
    Import(import::ImportArgs),
    /// List, create or drop collections
    Collections(collections::CollectionsArgs),
    /// A coordinator's record as a file: backups, and moves between a folder and etcd
    Store(store::StoreArgs),
}

/// Whom to ask, and how to answer.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// A coordinator's URL; repeat it for several
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SHEAF_COORDINATOR",
        value_delimiter = ' ',
        default_value = "http://127.0.0.1:7600"
    )]
    pub coordinator: Vec<String>,
    /// A router's URL; repeat it for several
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SHEAF_ROUTER",
        value_delimiter = ' ',
        default_value = "http://127.0.0.1:7500"
    )]
    pub router: Vec<String>,
    /// The key to show; best given in the environment, where other users can't see it
    #[arg(long, global = true, value_name = "KEY", env = "SHEAF_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
}

impl Target {
    fn coordinator(&self) -> Result<Client, Failure> {
        Client::new("coordinator", &self.coordinator, self.api_key.as_deref())
    }

    fn router(&self) -> Result<Client, Failure> {
        Client::new("router", &self.router, self.api_key.as_deref())
    }
}

/// How a change is made.
#[derive(Clone, Debug, Args)]
pub struct ChangeArgs {
    /// Refuse unless the map still has this version
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<u64>,
    /// A text of your choice: the same change with the same key is made once, however often it is asked
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
}

impl ChangeArgs {
    fn change(&self) -> Change {
        let key = self.idempotency_key.clone().unwrap_or_else(entropy::name);
        Change::once(key, self.expect_version)
    }
}

/// A transition that is asked for.
#[derive(Clone, Debug, Args)]
pub struct TransitionArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    change: ChangeArgs,
    /// Copy no faster: as of `sheaf throttle`; repeat it for several
    #[arg(long, value_name = "RATE")]
    throttle: Vec<String>,
    /// Milliseconds that its fence may last, instead of the coordinator's default
    #[arg(long, value_name = "MS")]
    fence_budget_ms: Option<u64>,
    /// Follow it until it has ended
    #[arg(long)]
    wait: bool,
}

impl TransitionArgs {
    /// Asks for a transition, and says its id or follows it.
    async fn ask(&self, method: Method, path: &str, mut body: Value) -> Result<(), Failure> {
        if !self.throttle.is_empty() {
            body["limits"] = throttle::limits(&self.throttle)?;
        }
        if let Some(budget) = self.fence_budget_ms {
            body["fence_budget_ms"] = json!(budget);
        }
        let client = self.target.coordinator()?;
        let answer: Value = client.change(method, path, Some(&body), &self.change.change()).await?;
        let transition = answer.get("transition").and_then(Value::as_u64);
        match (transition, self.wait) {
            (Some(transition), true) => {
                follow::to_the_end(&client, transition, self.target.json).await
            }
            _ => output::answer(self.target.json, &answer, accepted),
        }
    }
}

fn accepted(answer: &Value) -> String {
    let shards: Vec<String> = answer
        .get("shards")
        .and_then(Value::as_array)
        .map(|ids| ids.iter().map(Value::to_string).collect())
        .unwrap_or_default();
    let shards = match shards.as_slice() {
        [] => String::new(),
        [one] => format!(" for shard {one}"),
        several => format!(" for shards {}", several.join(", ")),
    };
    match answer.get("transition").and_then(Value::as_u64) {
        Some(id) => {
            format!("transition {id} is accepted{shards}; follow it with `sheaf watch {id}`")
        }
        None => format!("done{shards}"),
    }
}

impl Command {
    /// Whether failures are written as JSON.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Coordinator(_)
            | Self::Shard(_)
            | Self::Replica(_)
            | Self::Router(_)
            | Self::Demo(_) => false,
            Self::Status(target) | Self::Map(target) | Self::Health(target) => target.json,
            Self::Verify(args) => args.target.json,
            Self::Adopt(args) => args.target.json,
            Self::Plan(args) => args.target.json,
            Self::Grow(args) => args.asked.target.json,
            Self::Join(args) => args.asked.target.json,
            Self::Promote(args) => args.target.json,
            Self::Drain(args) => args.asked.target.json,
            Self::Replace(args) => args.asked.target.json,
            Self::Remove(args) => args.target.json,
            Self::Reweight(args) => args.asked.target.json,
            Self::Watch(args) => args.target.json,
            Self::Pause(args) | Self::Resume(args) | Self::Cancel(args) => args.target.json,
            Self::Throttle(args) => args.target.json,
            Self::History(args) => args.target.json,
            Self::Report(args) => args.target.json,
            Self::Import(args) => args.target.json,
            Self::Collections(args) => args.target.json,
            Self::Store(args) => store::wants_json(args),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// It was refused, failed, or its outcome is unknown.
    pub async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Coordinator(flags) => serve::coordinator(flags).await,
            Self::Shard(flags) => serve::shard(flags).await,
            Self::Replica(flags) => serve::replica(flags).await,
            Self::Router(flags) => serve::router(flags).await,
            Self::Demo(args) => crate::demo::run(args).await,
            Self::Status(target) => status::run(target).await,
            Self::Map(target) => map::run(target).await,
            Self::Health(target) => health::run(target).await,
            Self::Plan(args) => plan::run(args).await,
            Self::Grow(args) => grow::grow(args).await,
            Self::Join(args) => grow::join(args).await,
            Self::Promote(args) => grow::promote(args).await,
            Self::Drain(args) => leave::drain(args).await,
            Self::Replace(args) => leave::replace(args).await,
            Self::Remove(args) => leave::remove(args).await,
            Self::Reweight(args) => reweight::run(args).await,
            Self::Watch(args) => watch::run(args).await,
            Self::Pause(args) => control::run(args, "pause").await,
            Self::Resume(args) => control::run(args, "resume").await,
            Self::Cancel(args) => control::run(args, "cancel").await,
            Self::Throttle(args) => throttle::run(args).await,
            Self::History(args) => history::run(args).await,
            Self::Report(args) => report::run(args).await,
            Self::Verify(args) => verify::run(args).await,
            Self::Adopt(args) => adopt::run(args).await,
            Self::Import(args) => import::run(args).await,
            Self::Collections(args) => collections::run(args).await,
            Self::Store(args) => store::run(args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn whom_to_ask_and_how_to_answer_may_stand_behind_every_word() {
        for words in ["plan grow http://127.0.0.1:1", "collections list", "drain 1", "history"] {
            let line = format!("sheaf {words} --json --coordinator http://c --api-key k");
            let cli = Cli::try_parse_from(line.split(' '));
            assert!(cli.is_ok_and(|cli| cli.command.wants_json()), "{line}");
        }
    }

    #[test]
    fn an_accepted_change_says_its_transition_and_how_to_follow_it() {
        let text = accepted(&serde_json::json!({ "transition": 5, "shards": [4, 5] }));
        assert_eq!(
            text,
            "transition 5 is accepted for shards 4, 5; follow it with `sheaf watch 5`"
        );
    }
}
