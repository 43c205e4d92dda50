//! From "not served" to a problem: the status code and the machine-readable refusal.

use http::StatusCode;
use sheaf_engines::EngineError;
use sheaf_protocol::Refusal;
use sheaf_runtime::gate::NotServed;

use crate::metrics::{self, Role};
use crate::problem::Problem;

/// The problem that says why a request was not served. With a `refusal` in it, asking again is safe.
pub(crate) fn problem(not_served: NotServed) -> Problem {
    match not_served {
        NotServed::Refused(refusal) => refused(&refusal),
        NotServed::Engine(error) => engine(error),
        NotServed::TooLate => unavailable("the deadline passed".to_owned()),
        NotServed::OutcomeUnknown(reason) => Problem::outcome_unknown(format!(
            "the write may or may not have been applied: {reason}. Read the point to find out, or write it again"
        )),
    }
}

fn engine(error: EngineError) -> Problem {
    match error {
        EngineError::Invalid(what) => Problem::bad_request(format!("{what}; nothing was applied")),
        EngineError::Unsupported(what) => Problem::not_implemented(what),
        // The collection was dropped after the request was let through.
        EngineError::NoCollection(id) => {
            Problem::not_found(format!("the collection was dropped ({id}); nothing was applied"))
        }
        EngineError::Unavailable(reason) => unavailable(reason),
        EngineError::Unknown(reason) | EngineError::Damaged(reason) => Problem::internal(reason),
    }
}

fn unavailable(reason: String) -> Problem {
    refused(&Refusal::EngineUnavailable { reason })
}

fn refused(refusal: &Refusal) -> Problem {
    metrics::refusal(Role::Gate, refusal);
    let status = match refusal {
        Refusal::Moved { .. } | Refusal::OtherVersion { .. } | Refusal::OtherShard { .. } => {
            StatusCode::MISDIRECTED_REQUEST
        }
        Refusal::NoCollection { .. } => StatusCode::NOT_FOUND,
        Refusal::Fenced { .. }
        | Refusal::Behind { .. }
        | Refusal::NotServing
        | Refusal::TooManyHeld { .. }
        | Refusal::EngineUnavailable { .. }
        | Refusal::Unproven => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::NothingToRepair { .. } => StatusCode::CONFLICT,
    };
    let refusal_json = serde_json::to_value(refusal).unwrap_or_default();
    Problem::new(status, refusal.to_string()).with("refusal", refusal_json)
}

/// Whether the problem is a refusal of this gate that another one, or a newer map, may not share.
pub(super) fn names_another(problem: &Problem) -> bool {
    let refusal = problem.extensions.get("refusal").cloned();
    let refusal = refusal.and_then(|refusal| serde_json::from_value::<Refusal>(refusal).ok());
    match refusal {
        Some(Refusal::Moved { .. } | Refusal::NotServing | Refusal::NoCollection { .. }) => true,
        Some(
            Refusal::OtherVersion { .. }
            | Refusal::OtherShard { .. }
            | Refusal::Fenced { .. }
            | Refusal::Behind { .. }
            | Refusal::TooManyHeld { .. }
            | Refusal::EngineUnavailable { .. }
            | Refusal::Unproven
            | Refusal::NothingToRepair { .. },
        )
        | None => false,
    }
}
