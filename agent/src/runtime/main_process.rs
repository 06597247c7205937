//! The job's main process as the kernel knows it. It tells of the job's end, and ends the job, where the engine does neither.
//! Source: `proc_pid_stat(5)`, `cgroups(7)`, `pidfd_open(2)`.

use std::{fs, io, path::Path, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, test_kill_process},
};

use tokio::task::spawn_blocking;

use super::freezer;
use crate::{
    clock,
    service::{can_start_units, own_program, run_in_unit},
};

/// Until the service manager has sent a signal.
const UNIT_DEADLINE: Duration = Duration::from_secs(10);

/// A process by its number and its start, so that another of the same number is never taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MainProcess {
    pid: Pid,
    started: Duration,
}

/// How long before `since` a noted start may lie: it went through a decimal fraction.
const ROUNDING: Duration = Duration::from_millis(5);

impl MainProcess {
    /// Process `pid`, if it is in a control group of container `id`: an engine in another PID namespace numbers others.
    pub fn of_container(pid: i64, id: &str) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        (!id.is_empty() && groups.contains(id)).then(|| Self::noted(pid, clock::process_start(pid)?))?
    }

    /// Process `pid`, which a shim has started on this machine.
    pub fn of_shim(pid: i64) -> Option<Self> {
        Self::noted(pid, clock::process_start(pid)?)
    }

    /// What the record says of it.
    pub fn noted(pid: i64, started: Duration) -> Option<Self> {
        // Never the machine's first, or a whole group of processes.
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)?;
        Some(Self { pid, started })
    }

    /// When the kernel started it, as time since boot.
    pub fn started(self) -> Duration {
        self.started
    }

    /// Whether it runs no more. False where that cannot be told.
    pub fn has_ended(self) -> bool {
        match fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero())) {
            Ok(stat) => Stat::of(&stat).is_some_and(|stat| stat.is_dead || !self.is_start(stat.started)),
            // No such process; or it was reaped between the opening and the reading. Where /proc hides processes, it is asked too.
            Err(_) => test_kill_process(self.pid) == Err(Errno::SRCH),
        }
    }

    /// Whether a signal has stopped it.
    pub fn is_stopped(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| Stat::of(&stat).is_some_and(|stat| stat.is_stopped && self.is_start(stat.started)))
    }

    fn is_start(self, started: Duration) -> bool {
        started.abs_diff(self.started) < ROUNDING
    }

    /// Sends it a signal; an error if it has ended, or may not be signalled. A KILL takes effect though a pause has frozen it.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        self.send(signal)?;
        if signal != Signal::KILL {
            return Ok(());
        }
        // The unit's sandbox shows control groups read-only.
        freezer::thaw(self.pid.as_raw_nonzero().get()).map_err(|error| match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Errno::PERM.into(),
            _ => error,
        })
    }

    fn send(self, signal: Signal) -> io::Result<()> {
        // Held open, its number cannot become another's between the look and the signal.
        let held = pidfd_open(self.pid, PidfdFlags::empty());
        if self.has_ended() {
            return Err(Errno::SRCH.into());
        }
        match held {
            Ok(process) => Ok(pidfd_send_signal(process, signal)?),
            // A kernel before 5.3, or a sandbox.
            Err(Errno::NOSYS | Errno::PERM) => Ok(kill_process(self.pid, signal)?),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the service manager send it a signal: by this program in a unit of its own, which may where the agent's may not.
    ///
    /// # Errors
    /// As [`Self::signal`]; or there is no service manager, or it does not do it in time.
    pub async fn signal_by_unit(self, signal: Signal) -> io::Result<()> {
        if !can_start_units() {
            return Err(Errno::PERM.into());
        }
        let order = format!("{}:{}:{}", self.pid, self.started.as_secs_f64(), signal.as_raw());
        let agent = own_program()?;
        let run =
            move || run_in_unit(&[agent.as_os_str(), "signal".as_ref(), order.as_ref()], Path::new("/"), UNIT_DEADLINE);
        spawn_blocking(run).await.map_err(io::Error::other)?
    }

    /// What that unit does: `PID:START:SIGNAL`, the start in seconds since boot.
    pub fn obey(order: &str) -> io::Result<()> {
        let read = || {
            let (pid, rest) = order.split_once(':')?;
            let (started, signal) = rest.split_once(':')?;
            let started = Duration::try_from_secs_f64(started.parse().ok()?).ok()?;
            Some((Self::noted(pid.parse().ok()?, started)?, Signal::from_named_raw(signal.parse().ok()?)?))
        };
        let (process, signal) = read().ok_or_else(|| io::Error::other(format!("{order:?} is no PID:START:SIGNAL")))?;
        process.signal(signal)
    }
}

struct Stat {
    is_dead: bool,
    is_stopped: bool,
    started: Duration,
}

impl Stat {
    fn of(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, with anything in it; this begins with the third, the state.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let threads: u64 = fields.get(17)?.parse().ok()?;
        let ticks: u64 = fields.get(19)?.parse().ok()?;
        // A first thread that ended before the others is a zombie too.
        let is_dead = matches!(fields[0], "Z" | "X" | "x") && threads <= 1;
        Some(Self { is_dead, is_stopped: fields[0] == "T", started: Duration::from_millis(ticks.saturating_mul(10)) })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt,
        process::{Child, Command},
    };

    use super::*;
    use crate::clock::TICK;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_process_has_ended_once_it_is_a_zombie_and_another_of_its_number_is_not_it() {
        let mut child = sleeper();
        let main = MainProcess::of_shim(child.id().into()).unwrap();
        assert!(!main.has_ended());
        let another = MainProcess { started: main.started + TICK, ..main };
        assert!(another.has_ended() && another.signal(Signal::KILL).is_err(), "of the same number, started later");
        assert_eq!(child.try_wait().unwrap(), None, "it was not killed for another");

        main.signal(Signal::KILL).unwrap();
        while !main.has_ended() {
            std::thread::sleep(TICK);
        }
        assert!(main.signal(Signal::KILL).is_err());
        child.wait().unwrap();
        assert!(main.has_ended(), "reaped");
    }

    #[test]
    fn an_order_names_the_process_its_start_and_the_signal() {
        let mut child = sleeper();
        let main = MainProcess::of_shim(child.id().into()).unwrap();
        let (pid, start) = (child.id(), main.started().as_secs_f64());
        let wrong = [
            format!("{pid}:{}:9", start + 1.0),
            format!("{pid}:{start}:0"),
            format!("{pid}:{start}:65"),
            format!("{pid}:{start}"),
            format!("-{pid}:{start}:9"),
            format!("{pid}:NaN:9"),
            "1:0:9".into(),
            String::new(),
        ];
        for order in wrong {
            assert!(MainProcess::obey(&order).is_err(), "{order:?}");
        }
        assert_eq!(child.try_wait().unwrap(), None);
        MainProcess::obey(&format!("{pid}:{start}:9")).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_process_in_no_group_of_the_container_is_not_its_own() {
        let mut child = sleeper();
        assert_eq!(MainProcess::of_container(child.id().into(), "0123456789abcdef"), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_whose_first_thread_ended_before_the_others_runs() {
        let stat = |state, threads| format!("7 (a) b) {state} 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 500 0 0");
        for (state, threads, is_dead) in
            [("S", 1, false), ("Z", 1, true), ("Z", 2, false), ("X", 1, true), ("T", 1, false)]
        {
            let stat = Stat::of(&stat(state, threads)).unwrap();
            assert_eq!((stat.is_dead, stat.started), (is_dead, Duration::from_secs(5)), "{state} {threads}");
        }
    }
}
