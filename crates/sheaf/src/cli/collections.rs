//! `sheaf collections`: list, create and drop, through a router.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::Target;
use super::map::text;
use crate::client::{Change, Failure, segment};
use crate::output;
use crate::table::Table;

#[derive(Clone, Debug, Args)]
pub struct CollectionsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    pub target: Target,
}

/// What to do; nothing said: list.
#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// List them
    List,
    /// Create one
    Create {
        #[arg(value_name = "NAME")]
        name: String,
        /// Numbers in a vector
        #[arg(long)]
        dim: u32,
        /// l2, cosine or dot
        #[arg(long, default_value = "l2")]
        metric: String,
    },
    /// Drop one with all its points
    Drop {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub async fn run(args: &CollectionsArgs) -> Result<(), Failure> {
    let client = args.target.router()?;
    let json = args.target.json;
    // The router's data API knows no idempotency keys; a repeated create or drop says what it found.
    let change = Change::once(sheaf_runtime::entropy::name(), None);
    match &args.action {
        None | Some(Action::List) => {
            let collections: Vec<Value> = client.get("/v1/collections").await?;
            output::answer(json, &collections, |collections| {
                let mut table =
                    Table::new(&["NAME", ">DIM", "METRIC", ">POINTS", "INDEX", "READY"]);
                for collection in collections {
                    let cells = ["name", "dim", "metric", "count", "index", "index_ready"];
                    table.row(cells.map(|name| text(collection, name)));
                }
                if table.is_empty() {
                    "there are no collections".to_owned()
                } else {
                    table.to_string()
                }
            })
        }
        Some(Action::Create { name, dim, metric }) => {
            let body = json!({ "name": name, "dim": dim, "metric": metric });
            let created: Value =
                client.change(Method::POST, "/v1/collections", Some(&body), &change).await?;
            output::answer(json, &created, |_| format!("the collection {name} exists"))
        }
        Some(Action::Drop { name }) => {
            let path = format!("/v1/collections/{}", segment(name));
            let dropped: Value = client.change(Method::DELETE, &path, None, &change).await?;
            output::answer(json, &dropped, |dropped| {
                match dropped.get("existed").and_then(Value::as_bool) {
                    Some(false) => format!("there was no collection {name}"),
                    Some(true) | None => format!("the collection {name} is dropped"),
                }
            })
        }
    }
}
