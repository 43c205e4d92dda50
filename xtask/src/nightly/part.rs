//! One command of the night: how it is run, and what it told.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::clock::now;

/// Lines of a failed command's log that are shown when it told no findings.
const TAIL_LINES: usize = 20;

/// A command and what became of it.
#[derive(Serialize)]
pub struct Part {
    pub name: String,
    /// Pastes as it is.
    pub command: String,
    #[serde(skip)]
    args: Vec<String>,
    #[serde(skip)]
    has_figures: bool,
    /// What it has to report, or the night would report nothing.
    #[serde(skip)]
    must_find: Option<&'static str>,
    pub passed: bool,
    pub seconds: f64,
    pub figures: BTreeMap<String, serde_json::Value>,
    pub findings: Vec<String>,
}

/// What a harness writes with `--json FILE`.
#[derive(Deserialize)]
struct Told {
    figures: BTreeMap<String, serde_json::Value>,
    findings: Vec<String>,
}

impl Part {
    /// `cargo xtask` with these arguments.
    pub fn of(name: &str, args: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            command: format!("cargo xtask {}", args.join(" ")),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            has_figures: false,
            must_find: None,
            passed: false,
            seconds: 0.0,
            figures: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    /// One that takes `--json FILE`.
    pub fn with_figures(self) -> Self {
        Self { has_figures: true, ..self }
    }

    /// One that has to fail, with a line that begins so.
    pub fn that_must_find(self, what: &'static str) -> Self {
        Self { must_find: Some(what), ..self }
    }

    /// Runs it; its output goes to `NAME.log`, its figures are read from `NAME.json`.
    ///
    /// # Errors
    /// It can't be started, or the folder can't be written.
    pub fn run(&mut self, root: &Path, out: &Path) -> anyhow::Result<()> {
        let log = out.join(format!("{}.log", self.name));
        let json = out.join(format!("{}.json", self.name));
        if json.exists() {
            std::fs::remove_file(&json)?; // Of the night before.
        }
        let began = now();
        let file = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
        let mut command = crate::cargo(root);
        command.arg("xtask").args(&self.args);
        if self.has_figures {
            command.arg("--json").arg(&json);
        }
        let status = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("can't start {}", self.command))?;
        self.seconds = (now() - began).as_secs_f64();
        self.passed = status.success();
        if self.has_figures && self.passed | json.exists() {
            let told = std::fs::read_to_string(&json)
                .with_context(|| format!("{} wrote no figures", self.command))?;
            let told: Told = serde_json::from_str(&told)
                .with_context(|| format!("{} is not what a harness writes", json.display()))?;
            (self.figures, self.findings) = (told.figures, told.findings);
        }
        let text = std::fs::read_to_string(&log)?;
        if let Some(what) = self.must_find {
            self.passed = !status.success() && text.lines().any(|line| line.starts_with(what));
        }
        if !self.passed && self.findings.is_empty() {
            let lines: Vec<&str> = text.lines().collect();
            self.findings.push(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"));
        }
        Ok(())
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let verdict = if self.passed { "ok    " } else { "FAILED" };
        format!("{verdict} {:<12} {:>8.0} s   {}", self.name, self.seconds, self.command)
    }
}
