//! `sheaf drain`, `replace` and `remove`: shards leave the map.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ChangeArgs, Target, TransitionArgs};
use crate::client::Failure;
use crate::output;

#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// The shard that leaves
    #[arg(value_name = "ID")]
    shard: u64,
    #[command(flatten)]
    pub asked: TransitionArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ReplaceArgs {
    /// The shard that leaves
    #[arg(value_name = "ID")]
    shard: u64,
    /// The node that takes its place
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    pub asked: TransitionArgs,
}

#[derive(Clone, Debug, Args)]
pub struct RemoveArgs {
    /// The shard to take out
    #[arg(value_name = "ID")]
    shard: u64,
    /// Take it out though it owns points that no other shard has: they are lost
    #[arg(long)]
    accept_data_loss: bool,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let path = format!("/cluster/shards/{}/drain", args.shard);
    args.asked.ask(Method::POST, &path, json!({})).await
}

pub async fn replace(args: &ReplaceArgs) -> Result<(), Failure> {
    let path = format!("/cluster/shards/{}/replace", args.shard);
    let body = json!({ "primary_url": super::grow::url(&args.url)? });
    args.asked.ask(Method::POST, &path, body).await
}

pub async fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let query = if args.accept_data_loss { "?accept_data_loss=true" } else { "" };
    let path = format!("/cluster/shards/{}{query}", args.shard);
    let client = args.target.coordinator()?;
    let answer: Value = client.change(Method::DELETE, &path, None, &args.change.change()).await?;
    output::answer(args.target.json, &answer, |_| format!("shard {} is out of the map", args.shard))
}
