//! Where log lines go: standard error, for a person or as JSON. Standard output is for answers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins logging; a second call changes nothing. `level` was checked before.
pub fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would report a log that can't be written (a full disk) to standard error, and panic when that fails too: a
        // daemon must outlive its log.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // Fails only when something else in this process logs already.
    match format {
        LogFormat::Human => builder.try_init().ok(),
        LogFormat::Json => builder.json().try_init().ok(),
    };
}
