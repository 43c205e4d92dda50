//! `sheaf grow`, `join` and `promote`: nodes become shards.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use sheaf_map::Weight;

use super::{ChangeArgs, Target, TransitionArgs};
use crate::client::{Failure, base_url};
use crate::output;

#[derive(Clone, Debug, Args)]
pub struct GrowArgs {
    /// The nodes that join, all in one transition
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// How much each takes, compared with a shard of weight 1
    #[arg(long, value_name = "WEIGHT")]
    weight: Option<Weight>,
    #[command(flatten)]
    pub asked: TransitionArgs,
}

#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// The node that joins
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    pub asked: TransitionArgs,
}

#[derive(Clone, Debug, Args)]
pub struct PromoteArgs {
    /// The joining shard
    #[arg(value_name = "ID")]
    shard: u64,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn grow(args: &GrowArgs) -> Result<(), Failure> {
    let body = json!({ "shards": shards(&args.urls, args.weight)? });
    args.asked.ask(Method::POST, "/cluster/shards/grow", body).await
}

pub async fn join(args: &JoinArgs) -> Result<(), Failure> {
    let body = json!({ "primary_url": url(&args.url)? });
    args.asked.ask(Method::POST, "/cluster/shards/joining", body).await
}

pub async fn promote(args: &PromoteArgs) -> Result<(), Failure> {
    let path = format!("/cluster/shards/{}/promote", args.shard);
    let client = args.target.coordinator()?;
    let answer: Value = client.change(Method::POST, &path, None, &args.change.change()).await?;
    output::answer(args.target.json, &answer, |_| {
        let shard = args.shard;
        format!(
            "shard {shard} serves as soon as its copy has converged; follow it with `sheaf watch`"
        )
    })
}

/// A node's URL as typed.
pub fn url(text: &str) -> Result<String, Failure> {
    base_url(text).map_err(Failure::Usage)
}

/// New shards as the coordinator takes them.
pub fn shards(urls: &[String], weight: Option<Weight>) -> Result<Vec<Value>, Failure> {
    let shard = |text: &String| {
        let mut shard = json!({ "primary_url": url(text)? });
        if let Some(weight) = weight {
            shard["weight"] = json!(weight);
        }
        Ok(shard)
    };
    urls.iter().map(shard).collect()
}
