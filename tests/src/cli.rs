//! The command line of `sheaf`, run as a user runs it.

use tokio::process::Command;

use crate::{Cluster, binary};

/// What a command said, and how it ended.
pub struct Said {
    /// Standard output, then standard error.
    pub text: String,
    pub code: i32,
}

impl Said {
    /// The text of a command that succeeded.
    ///
    /// # Panics
    /// It didn't.
    pub fn expect_ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.text);
        self.text
    }

    /// The text of a command that was refused or failed.
    ///
    /// # Panics
    /// It wasn't, or its text doesn't have these words.
    pub fn expect_refused(self, words: &str) -> String {
        assert!(self.code == 1 && self.text.contains(words), "{}: {}", self.code, self.text);
        self.text
    }
}

/// Runs `sheaf` with these words, for this cluster.
///
/// # Panics
/// It can't be run.
pub async fn sheaf(cluster: &Cluster, words: &[&str]) -> Said {
    let mut command = Command::new(binary::sheaf());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SHEAF_") {
            command.env_remove(name);
        }
    }
    command.env("SHEAF_COORDINATOR", cluster.coordinator_urls());
    if let Some(router) = cluster.routers.first() {
        command.env("SHEAF_ROUTER", &router.url);
    }
    let done = command.args(words).kill_on_drop(true).output().await;
    let done = done.unwrap_or_else(|why| panic!("sheaf {}: {why}", words.join(" ")));
    let text = [done.stdout, done.stderr].concat();
    let code = done.status.code().unwrap_or(-1);
    Said { text: String::from_utf8_lossy(&text).into_owned(), code }
}
