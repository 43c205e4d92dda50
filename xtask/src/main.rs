//! The project's own commands: `cargo xtask ci`, `tidy`, `sim`, `zoo`, `nightly`, `bench`.
//!
//! Reads the command line and nothing else; each command has its file.

mod bench;
mod ci;
mod clock;
mod metadata;
mod nightly;
mod sim;
mod tidy;
mod zoo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Sheaf's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that must pass before a change lands: format, lint, tidy, build, test, simulate
    Ci {
        /// Begin with this step, when the earlier ones are known to pass
        #[arg(long, value_name = "STEP", default_value = "format")]
        from: ci::Step,
    },
    /// Check the rules that neither the compiler nor clippy knows (docs/STYLE.md)
    Tidy,
    /// Run the simulator: the arguments go to the `sheaf-sim` binary, built with the `sim` profile
    #[command(disable_help_flag = true)]
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// All harnesses for a night, and one summary of what they found
    Nightly(nightly::Options),
    /// Measure real processes and print tables against goals and rivals: [TOPIC…] [--quick]
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Plant the known defects of `sim/zoo`, one after another, and have the simulator find each
    Zoo(zoo::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Ci { from } => ci::run(&root(), from, &command_names()),
        Command::Tidy => tidy::run(&root(), &command_names()),
        Command::Sim { args } => sim::run(&root(), &args),
        Command::Nightly(options) => nightly::run(&root(), &options),
        Command::Zoo(options) => zoo::run(&root(), &options),
        Command::Bench { args } => bench::run(&root(), &args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder: the parent of this package's.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// What may follow `cargo xtask`, so that documents can be held to it.
fn command_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Cargo, the one that runs us when there is one.
fn cargo(root: &Path) -> std::process::Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(program);
    command.current_dir(root);
    command
}

/// The exit code of a command that we only pass on.
fn pass_on(mut command: std::process::Command) -> anyhow::Result<ExitCode> {
    let status =
        command.status().with_context(|| format!("can't start {:?}", command.get_program()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
