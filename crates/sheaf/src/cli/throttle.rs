//! `sheaf throttle`: how fast the running transition may copy.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::control::named_or_running;
use super::{ChangeArgs, Target};
use crate::client::Failure;
use crate::output;
use crate::units::Rate;

#[derive(Clone, Debug, Args)]
pub struct ThrottleArgs {
    /// Points a second for each donor (5000/s), bytes (20MB/s), a latency that its requests keep (p99=20ms), or off
    #[arg(value_name = "RATE", required = true)]
    rates: Vec<String>,
    /// The transition; the running one when left out
    #[arg(long, value_name = "ID")]
    transition: Option<u64>,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(args: &ThrottleArgs) -> Result<(), Failure> {
    let body = limits(&args.rates)?;
    let client = args.target.coordinator()?;
    let transition = named_or_running(&client, args.transition).await?;
    let path = format!("/cluster/transitions/{transition}/throttle");
    let answer: Value =
        client.change(Method::POST, &path, Some(&body), &args.change.change()).await?;
    output::answer(args.target.json, &answer, |_| {
        let rates = args.rates.join(", ");
        let rates =
            if rates == "off" { "without a limit".to_owned() } else { format!("at {rates}") };
        format!("transition {transition} copies {rates}")
    })
}

/// The limits as the coordinator takes them: all of them at once, what isn't named is without limit.
pub fn limits(rates: &[String]) -> Result<Value, Failure> {
    let mut body = json!({});
    for text in rates {
        let (name, limit) = match text.parse()? {
            Rate::Off if rates.len() == 1 => continue,
            Rate::Off => return Err(Failure::Usage("off goes with no other rate".to_owned())),
            Rate::PointsPerSecond(limit) => ("points_per_s_max", limit),
            Rate::BytesPerSecond(limit) => ("bytes_per_s_max", limit),
            Rate::RequestP99Ms(limit) => ("request_p99_ms_max", limit),
        };
        body[name] = json!(limit);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_add_up_and_off_means_none() {
        let limits =
            |rates: &[&str]| limits(&rates.iter().map(|&rate| rate.to_owned()).collect::<Vec<_>>());
        assert_eq!(limits(&["off"]), Ok(json!({})));
        let both = json!({ "points_per_s_max": 5_000, "request_p99_ms_max": 20 });
        assert_eq!(limits(&["5000/s", "p99=20ms"]), Ok(both));
        assert!(limits(&["off", "5000/s"]).is_err());
    }
}
