//! Which status code a refusal of the coordinator's core has.

use http::StatusCode;
use sheaf_coordinator::AskRefusal;
use sheaf_runtime::coordinator::NotDone;

use crate::problem::Problem;

/// Why nothing was done, or isn't known to be, as a problem.
pub(super) fn not_done(reason: NotDone) -> Problem {
    match reason {
        NotDone::Refused(refusal) => refused(&refusal),
        NotDone::Unknown => Problem::outcome_unknown(reason.to_string()),
        NotDone::Stopping | NotDone::NotLeading => Problem::unavailable(reason.to_string()),
    }
}

/// A refusal, with its own form in the member `refusal`.
pub(super) fn refused(refusal: &AskRefusal) -> Problem {
    let form = serde_json::to_value(refusal).unwrap_or_default();
    Problem::new(status(refusal), refusal.to_string()).with("refusal", form)
}

fn status(refusal: &AskRefusal) -> StatusCode {
    match refusal {
        AskRefusal::Deposed | AskRefusal::RecordOutdated { .. } | AskRefusal::TimedOut => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        AskRefusal::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        AskRefusal::TooManyAsks { .. } | AskRefusal::QueueFull { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
        AskRefusal::OtherVersion { .. } => StatusCode::PRECONDITION_FAILED,
        AskRefusal::KeyTooLong { .. }
        | AskRefusal::BadUrl { .. }
        | AskRefusal::NoShards
        | AskRefusal::TooManyMoves { .. }
        | AskRefusal::BadFenceBudget { .. }
        | AskRefusal::BadCollection { .. }
        | AskRefusal::BadMap { .. } => StatusCode::BAD_REQUEST,
        AskRefusal::UnknownShard { .. } | AskRefusal::UnknownTransition { .. } => {
            StatusCode::NOT_FOUND
        }
        AskRefusal::KeyReused { .. }
        | AskRefusal::UrlTaken { .. }
        | AskRefusal::NodeUnreachable { .. }
        | AskRefusal::NodeTaken { .. }
        | AskRefusal::OtherCluster { .. }
        | AskRefusal::NodeNotEmpty { .. }
        | AskRefusal::NodeRetiring { .. }
        | AskRefusal::ClusterNotEmpty { .. }
        | AskRefusal::LastShard { .. }
        | AskRefusal::Unproven
        | AskRefusal::NotNew
        | AskRefusal::StillOwns { .. }
        | AskRefusal::InTransition { .. }
        | AskRefusal::Busy { .. }
        | AskRefusal::Committed { .. }
        | AskRefusal::Aborting { .. }
        | AskRefusal::NotJoining { .. }
        | AskRefusal::CollectionExists { .. } => StatusCode::CONFLICT,
    }
}
