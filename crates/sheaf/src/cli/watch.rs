//! `sheaf watch`: follows a transition until it has ended.

use clap::Args;
use serde_json::Value;

use super::Target;
use crate::client::Failure;
use crate::{follow, output};

#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// The transition; the running one when left out
    #[arg(value_name = "ID")]
    transition: Option<u64>,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(args: &WatchArgs) -> Result<(), Failure> {
    let client = args.target.coordinator()?;
    let transition = match args.transition {
        Some(transition) => Some(transition),
        None => follow::running(&client).await?,
    };
    match transition {
        Some(transition) => follow::to_the_end(&client, transition, args.target.json).await,
        None => output::answer(args.target.json, &Value::Null, |_| {
            "no transition is running".to_owned()
        }),
    }
}
