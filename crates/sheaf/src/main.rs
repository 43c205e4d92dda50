//! Sheaf's one binary: three daemons, the operator's commands, the demo. Composes; decides nothing about data.

mod cli;
mod client;
mod config;
mod demo;
#[cfg(test)]
mod documented;
mod follow;
mod import;
mod logging;
mod output;
mod progress;
mod serve;
mod table;
mod transition;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the system gives no threads or sockets: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(cli.command.run());
    // What is still blocked then (a read of a file, of standard input) must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(cli.command.wants_json(), &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
