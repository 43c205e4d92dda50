//! `sheaf reweight`: how much a shard takes, compared with the others.

use clap::Args;
use reqwest::Method;
use serde_json::json;
use sheaf_map::Weight;

use super::TransitionArgs;
use crate::client::Failure;

#[derive(Clone, Debug, Args)]
pub struct ReweightArgs {
    /// The shard
    #[arg(value_name = "ID")]
    shard: u64,
    /// 2 takes twice as much as a shard of weight 1
    #[arg(value_name = "WEIGHT")]
    weight: Weight,
    #[command(flatten)]
    pub asked: TransitionArgs,
}

pub async fn run(args: &ReweightArgs) -> Result<(), Failure> {
    let path = format!("/cluster/shards/{}/weight", args.shard);
    let body = json!({ "weight": args.weight });
    args.asked.ask(Method::PUT, &path, body).await
}
