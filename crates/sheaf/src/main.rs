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

/// As tokio calls it.
const WORKER_THREADS: &str = "TOKIO_WORKER_THREADS";
const WORKER_THREADS_MAX: usize = 1_024;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let said = std::env::var_os(WORKER_THREADS).map(|said| said.to_string_lossy().into_owned());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match worker_threads(said.as_deref(), processors) {
        Ok(threads) => threads,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.worker_threads(threads).enable_all().build() {
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

/// Threads that carry out requests. Half of the processors: the database, or a neighbour, needs the others, and a request that is
/// handed from thread to thread costs more than it gains while there are others to carry out.
fn worker_threads(said: Option<&str>, processors: usize) -> Result<usize, String> {
    let Some(said) = said else { return Ok((processors / 2).clamp(1, WORKER_THREADS_MAX)) };
    let threads = said.parse().ok().filter(|threads| (1..=WORKER_THREADS_MAX).contains(threads));
    threads.ok_or_else(|| {
        format!("{WORKER_THREADS} is {said:?}; it must be a number from 1 to {WORKER_THREADS_MAX}. Nothing was started")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_processors_carry_out_requests_unless_somebody_says_otherwise() {
        let halves = [1, 2, 3, 16].map(|processors| worker_threads(None, processors));
        assert_eq!(halves, [Ok(1), Ok(1), Ok(1), Ok(8)]);
        assert_eq!(worker_threads(Some("3"), 16), Ok(3));
        for wrong in ["", "0", "-1", "1025", "many"] {
            assert!(worker_threads(Some(wrong), 16).unwrap_err().contains("from 1 to 1024"));
        }
    }
}
