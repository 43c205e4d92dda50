//! `sheaf pause`, `resume` and `cancel`: steer the running transition, or the one that is named.

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::{ChangeArgs, Target};
use crate::client::{Client, Failure};
use crate::{follow, output};

#[derive(Clone, Debug, Args)]
pub struct ControlArgs {
    /// The transition; the running one when left out
    #[arg(value_name = "ID")]
    transition: Option<u64>,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(args: &ControlArgs, verb: &str) -> Result<(), Failure> {
    let client = args.target.coordinator()?;
    let transition = named_or_running(&client, args.transition).await?;
    let path = format!("/cluster/transitions/{transition}/{verb}");
    let answer: Value = client.change(Method::POST, &path, None, &args.change.change()).await?;
    output::answer(args.target.json, &answer, |_| match verb {
        "pause" => format!("transition {transition} is paused"),
        "resume" => format!("transition {transition} goes on"),
        _ => format!("transition {transition} is being given up"),
    })
}

/// The transition that a command is about.
pub async fn named_or_running(client: &Client, named: Option<u64>) -> Result<u64, Failure> {
    let transition = match named {
        Some(transition) => Some(transition),
        None => follow::running(client).await?,
    };
    transition
        .ok_or_else(|| Failure::Failed("no transition is running; nothing was changed".to_owned()))
}
