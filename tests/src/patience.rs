//! Waiting for something to become true, with an end. Never the reason why a test passes.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

/// Milliseconds between two looks.
const LOOK_MS: u64 = 20;

/// Lets time pass.
pub async fn pause_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Asks again and again until there is an answer, and returns it.
///
/// # Panics
/// There is none within these seconds: the message has what was waited for and why it was not so the last time.
pub async fn eventually<T, W, F>(what: &str, seconds: u64, mut look: impl FnMut() -> F) -> T
where
    W: Display,
    F: Future<Output = Result<T, W>>,
{
    let mut last = String::from("never looked to the end");
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(why) => last = why.to_string(),
            }
            pause_ms(LOOK_MS).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(seconds), looking).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {seconds} s; at last: {last}"))
}
