//! Writes a command's answer: text for a person, or JSON for a program. Never decides what it says.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use crate::client::Failure;

/// Writes a line to standard output. Who reads it may have gone (`| head`), which is no failure of the command.
pub fn say(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).ok();
}

/// Writes `value` as JSON, or what `human` makes of it.
///
/// # Errors
/// The value can't be written as JSON.
pub fn answer<T: Serialize>(
    json: bool,
    value: &T,
    human: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(value);
        say(text.map_err(|error| Failure::Failed(error.to_string()))?);
    } else {
        say(human(value).trim_end());
    }
    Ok(())
}

/// Writes why a command did not succeed, to standard error.
pub fn complain(json: bool, failure: &Failure) {
    let mut stderr = std::io::stderr().lock();
    let text = if json {
        let status = match failure {
            Failure::Refused { status, .. } => Some(*status),
            Failure::Usage(_)
            | Failure::Unreachable(_)
            | Failure::Unknown(_)
            | Failure::Failed(_) => None,
        };
        serde_json::json!({
            "error": failure.to_string(), "status": status, "exit_code": failure.exit_code(),
        })
        .to_string()
    } else {
        format!("error: {failure}")
    };
    writeln!(stderr, "{text}").ok();
}
