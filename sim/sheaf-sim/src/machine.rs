//! A process: whether it runs, which life it is in, and how wrong its clock is.

use sheaf_types::Time;

/// A process of the simulated cluster, or someone outside who talks to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proc {
    Coordinator(u32),
    Gate(u32),
    Router(u32),
    Client(u32),
    Operator,
}

impl Proc {
    /// For the trace: a number that no other process has.
    pub fn code(self) -> u64 {
        let (kind, number) = match self {
            Self::Coordinator(n) => (1, n),
            Self::Gate(n) => (2, n),
            Self::Router(n) => (3, n),
            Self::Client(n) => (4, n),
            Self::Operator => (5, 0),
        };
        kind << 32 | u64::from(number)
    }
}

/// A clock that started at another time and runs a little too fast or too slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub offset_ms: u64,
    /// Local microseconds in a million true ones.
    pub pace: u64,
}

impl Clock {
    pub fn read(&self, true_us: u64) -> Time {
        let local_us = scaled(true_us, self.pace, 1_000_000, |product| product / 1_000_000);
        Time(self.offset_ms + local_us / 1_000)
    }

    /// The first true microsecond at which this clock shows `time`.
    pub fn when(&self, time: Time) -> u64 {
        let local_us = time.0.saturating_sub(self.offset_ms).saturating_mul(1_000);
        scaled(local_us, 1_000_000, self.pace, |product| product.div_ceil(self.pace))
    }
}

/// `number * by / per`, without the wide division that a clock which is read all the time can't afford; `divide` rounds what is
/// left over.
fn scaled(number: u64, by: u64, per: u64, divide: impl Fn(u64) -> u64) -> u64 {
    (number / per).saturating_mul(by).saturating_add(divide(number % per * by))
}

/// What every process has, whatever its role.
#[derive(Clone, Debug)]
pub struct Machine {
    pub up: bool,
    /// Raised at each crash: what was planned for an earlier life doesn't happen.
    pub life: u32,
    /// Frozen until then.
    pub paused_until_us: u64,
    /// Everything takes this many times longer.
    pub slowness: u64,
    pub clock: Clock,
    /// When the core wants to be called, in true time.
    pub wake_us: Option<u64>,
}

impl Machine {
    pub fn new(clock: Clock) -> Self {
        Self { up: false, life: 0, paused_until_us: 0, slowness: 1, clock, wake_us: None }
    }
}

/// The machines of all servers. A client and the operator have none.
#[derive(Debug, Default)]
pub struct Machines {
    coordinators: Vec<Machine>,
    gates: Vec<Machine>,
    routers: Vec<Machine>,
}

impl Machines {
    /// Adds a process; those of a kind come in the order of their numbers.
    pub fn add(&mut self, proc: Proc, machine: Machine) {
        match proc {
            Proc::Coordinator(_) => self.coordinators.push(machine),
            Proc::Gate(_) => self.gates.push(machine),
            Proc::Router(_) => self.routers.push(machine),
            Proc::Client(_) | Proc::Operator => {}
        }
        debug_assert!(self.procs().any(|known| known == proc), "{proc:?} has another number");
    }

    pub fn get(&self, proc: &Proc) -> Option<&Machine> {
        match proc {
            Proc::Coordinator(n) => self.coordinators.get(*n as usize),
            Proc::Gate(n) => self.gates.get(*n as usize),
            Proc::Router(n) => self.routers.get(*n as usize),
            Proc::Client(_) | Proc::Operator => None,
        }
    }

    pub fn get_mut(&mut self, proc: &Proc) -> Option<&mut Machine> {
        match proc {
            Proc::Coordinator(n) => self.coordinators.get_mut(*n as usize),
            Proc::Gate(n) => self.gates.get_mut(*n as usize),
            Proc::Router(n) => self.routers.get_mut(*n as usize),
            Proc::Client(_) | Proc::Operator => None,
        }
    }

    /// In the order of kinds and numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Proc, &Machine)> {
        let coordinators = (0..).map(Proc::Coordinator).zip(&self.coordinators);
        let gates = (0..).map(Proc::Gate).zip(&self.gates);
        coordinators.chain(gates).chain((0..).map(Proc::Router).zip(&self.routers))
    }

    pub fn procs(&self) -> impl Iterator<Item = Proc> {
        self.iter().map(|(proc, _)| proc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_when_it_says_so_and_not_earlier() {
        for pace in [950_000, 999_999, 1_000_000, 1_000_001, 1_049_999] {
            let clock = Clock { offset_ms: 12_345, pace };
            for ms in 0..2_000 {
                let time = Time(12_345 + ms);
                let at = clock.when(time);
                assert!(clock.read(at) >= time, "pace {pace}, {ms} ms");
                assert!(at == 0 || clock.read(at - 1) < time, "pace {pace}, {ms} ms");
            }
        }
    }
}
