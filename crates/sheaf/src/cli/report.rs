//! `sheaf report`: the proof that a transition left.

use clap::Args;
use serde_json::Value;

use super::Target;
use super::map::text;
use crate::client::Failure;
use crate::table::Table;
use crate::transition::Transition;
use crate::{follow, output};

#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// The transition
    #[arg(value_name = "ID")]
    transition: u64,
    #[command(flatten)]
    pub target: Target,
}

pub async fn run(args: &ReportArgs) -> Result<(), Failure> {
    let path = format!("/cluster/transitions/{}/report", args.transition);
    let report: Value = args.target.coordinator()?.get(&path).await?;
    output::answer(args.target.json, &report, human)
}

fn human(report: &Value) -> String {
    let list = |name: &str| report.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut moves =
        Table::new(&["FROM", "TO", ">SENT", ">PASSES", ">ATTEMPT", "EQUAL", "DIGEST (both sides)"]);
    for moved in list("moves") {
        let (donor, recipient) = (moved.get("donor_digest"), moved.get("recipient_digest"));
        let digest =
            donor.map(|digest| format!("{}:{}", text(digest, "points"), text(digest, "sum")));
        moves.row([
            text(&moved, "donor"),
            text(&moved, "recipient"),
            text(&moved, "sent_points"),
            text(&moved, "passes"),
            text(&moved, "attempt"),
            if donor == recipient { "yes" } else { "NO" }.to_owned(),
            digest.unwrap_or_default(),
        ]);
    }
    let mut fences = Table::new(&[">ATTEMPT", ">HELD (ms)", "OUTCOME"]);
    for fence in list("fences") {
        let moment = |name: &str| fence.get(name).and_then(Value::as_u64);
        let held =
            moment("ended").zip(moment("began")).map(|(ended, began)| ended.saturating_sub(began));
        let held = held.map_or("-".to_owned(), |ms| ms.to_string());
        fences.row([text(&fence, "attempt"), held, text(&fence, "outcome")]);
    }
    let confirmed: Vec<String> = list("confirmed").iter().map(|c| text(c, "shard")).collect();
    let confirmed = if confirmed.is_empty() { "none".to_owned() } else { confirmed.join(", ") };
    format!(
        "{}\nmap {} → {}; confirmed by the shards: {confirmed}\n\n{moves}\n{fences}",
        follow::sentence(&Transition::of(report)),
        text(report, "from_version"),
        text(report, "to_version"),
    )
}
