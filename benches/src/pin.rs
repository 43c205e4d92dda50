//! Which core a process runs on. Children inherit it from the thread that starts them.
//!
//! Where there is one core only, or pinning is refused, everything runs where the system puts it.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that this process may use, in order.
pub fn cores() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect()
}

/// Puts this thread, and what it starts from now on, on these cores.
pub fn run_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    for &core in cores {
        if set.set(core).is_err() {
            return;
        }
    }
    if let Err(why) = sched_setaffinity(Pid::from_raw(0), &set) {
        eprintln!("can't pin to the cores {cores:?}, going on without: {why}");
    }
}

/// Milliseconds of processor time that a process has used; 0 where the system doesn't say.
pub fn cpu_ms(process: i32) -> f64 {
    /// Of one tick in /proc, on every Linux that people run.
    const TICK_MS: f64 = 10.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which may contain anything: state is field 3, the times are 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks * TICK_MS
}
