//! `cargo xtask picture-check`: draws a healthy run and a broken one, and has a headless Chromium look at them.
//!
//! Not a part of `ci`: it needs Node and Chromium, and says so when they are missing.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::{sim, zoo};

/// The run that must be shown as healthy.
const HEALTHY: [&str; 4] = ["story", "grow.calm.prepare", "--seed", "1"];
/// The mutant whose run must be shown as broken.
const BROKEN: &str = "07-served-on-the-routers-word";

/// Draws the pages into `target/picture` and checks them; screenshots lie beside them.
///
/// # Errors
/// When a page can't be drawn, or Node is missing.
pub fn check(root: &Path) -> anyhow::Result<ExitCode> {
    let folder = root.join("target/picture");
    std::fs::create_dir_all(&folder)?;
    let healthy = folder.join("healthy.html");
    let healthy = healthy.to_str().context("the path of the workspace isn't text")?;
    let args: Vec<String> =
        HEALTHY.iter().chain(&["--html", healthy]).map(|&arg| arg.to_owned()).collect();
    ensure!(sim::run(root, &args)? == ExitCode::SUCCESS, "the healthy run isn't healthy");
    let killed = zoo::run(root, &zoo::Options::picture_of(BROKEN, &folder))?;
    ensure!(killed == ExitCode::SUCCESS, "the mutant {BROKEN} wasn't found");
    std::fs::rename(folder.join(format!("{BROKEN}.html")), folder.join("broken.html"))?;
    let program = root.join("sim/picture-check");
    let install = "Node and its npm are needed: apt-get install -y nodejs npm chromium";
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&program);
    ensure!(npm.status().context(install)?.success(), "npm can't install what the check needs");
    let mut node = Command::new("node");
    node.arg("check.js").arg(&folder).current_dir(&program);
    crate::pass_on(node)
}
