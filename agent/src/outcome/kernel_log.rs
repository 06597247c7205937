//! Whom the kernel killed for memory, by its own log: the engine's flag does not tell the job from a child of it, nor the
//! container's limit from the whole VM's memory.
//! Source: Linux `mm/oom_kill.c` (`dump_oom_summary`, since 4.19) and `Documentation/ABI/testing/dev-kmsg`.

use std::{fs::File, io::Read, os::unix::fs::OpenOptionsExt};

use rustix::fs::OFlags;

/// A process that the kernel killed for memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKill {
    /// `None` where the engine numbers processes in another namespace than the kernel's log.
    pub pid: Option<i64>,
    pub task: String,
    /// The whole VM was out of memory, not only the container.
    pub whole_vm: bool,
    /// What it held in memory: samples taken before may have missed most of it.
    pub rss_bytes: Option<u64>,
}

/// The inode of the machine's first PID namespace (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
/// The kernel hands out its log a record a read, of at most this size.
const MAX_RECORD_BYTES: usize = 8192;

/// The kills in the container with this id since `since_boot_s`, oldest first; empty where the log cannot be read.
pub fn oom_kills(container: &str, since_boot_s: f64) -> Vec<OomKill> {
    let open = || File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open("/dev/kmsg");
    let Ok(mut log) = open() else { return Vec::new() };
    let mut kills: Vec<OomKill> = Vec::new();
    let mut record = [0; MAX_RECORD_BYTES];
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let record = String::from_utf8_lossy(&record[..length]);
                match (read(&record, container, since_boot_s), kills.last_mut()) {
                    (Some(kill), _) => kills.push(kill),
                    (None, Some(kill)) => kill.rss_bytes = kill.rss_bytes.or_else(|| rss_bytes(&record, kill.pid?)),
                    (None, None) => {}
                }
            }
            // Records were overwritten while they were read: the next read goes on with what is left.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            Err(_) => break,
        }
    }
    if !pids_are_the_kernels() {
        for kill in &mut kills {
            kill.pid = None;
        }
    }
    kills
}

/// Whether a process of ours has the number that the kernel's log gives it.
fn pids_are_the_kernels() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == FIRST_PID_NAMESPACE)
}

/// The kernel's own message in a record such as `3,1174,5140900,-;…`, and what stands before it. What a process writes to the log has another
/// facility than the kernel's, which is 0: the kernel sees to that (`devkmsg_write` in `kernel/printk/printk.c`).
fn kernel_s_own(record: &str) -> Option<(&str, &str)> {
    let (prefix, message) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    (priority >> 3 == 0).then_some((prefix, message))
}

/// Reads a record such as `3,1174,5140900,-;oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/docker/ID,task=x,pid=7,uid=0`.
fn read(record: &str, container: &str, since_boot_s: f64) -> Option<OomKill> {
    let (prefix, message) = kernel_s_own(record)?;
    let at_us: f64 = prefix.split(',').nth(2)?.parse().ok()?;
    let facts = message.strip_prefix("oom-kill:")?.lines().next()?;
    // The task's name is whatever the job calls itself, commas and all: what comes after it is read from the end.
    let (facts, ids) = facts.rsplit_once(",pid=")?;
    let (facts, task) = facts.split_once(",task=")?;
    let fact = |name: &str| facts.split(',').find_map(|fact| fact.strip_prefix(name)?.strip_prefix('='));
    if at_us / 1e6 < since_boot_s || !fact("task_memcg")?.contains(container) {
        return None;
    }
    Some(OomKill {
        pid: Some(ids.split(',').next()?.parse().ok()?),
        task: task.to_owned(),
        whole_vm: fact("constraint")? != "CONSTRAINT_MEMCG",
        rss_bytes: None,
    })
}

/// Reads the record that follows, such as `3,1175,5140901,-;Memory cgroup out of memory: Killed process 7 (x) total-vm:9kB,
/// anon-rss:8kB, file-rss:4kB, shmem-rss:0kB, UID:0 …`.
fn rss_bytes(record: &str, pid: i64) -> Option<u64> {
    let (_, killed) = kernel_s_own(record)?.1.split_once(&format!("Killed process {pid} ("))?;
    let (_, facts) = killed.rsplit_once(") total-vm:")?;
    let kib = |fact: &str| fact.split_once("-rss:")?.1.split_once("kB")?.0.parse::<u64>().ok();
    Some(facts.split(", ").filter_map(kib).sum::<u64>() * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "6,1174,5140900000,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c0ffee,mems_allowed=0,\
                          oom_memcg=/docker/c0ffee,task_memcg=/docker/c0ffee,task=tail,pid=4711,uid=0\n SUBSYSTEM=x\n";

    #[test]
    fn a_kill_is_ours_if_it_was_in_our_container_and_our_time() {
        let kill = OomKill { pid: Some(4711), task: "tail".into(), whole_vm: false, rss_bytes: None };
        assert_eq!(read(RECORD, "c0ffee", 5000.0), Some(kill.clone()));
        assert_eq!(read(RECORD, "c0ffee", 5141.0), None, "it was before our time");
        assert_eq!(read(RECORD, "beef", 0.0), None, "it was another container's");
        let global = RECORD.replace("CONSTRAINT_MEMCG", "CONSTRAINT_NONE");
        assert_eq!(read(&global, "c0ffee", 0.0), Some(OomKill { whole_vm: true, ..kill }));
        assert_eq!(read("6,1,2,-;eth0: link up", "c0ffee", 0.0), None);
        assert_eq!(read("", "c0ffee", 0.0), None);
    }

    #[test]
    fn what_a_process_wrote_into_the_kernel_s_log_is_not_the_kernel_s_word() {
        // As `echo oom-kill:… >/dev/kmsg` comes out, with and without a facility of its own.
        for priority in [12, 8, 14, 30, 190] {
            assert_eq!(read(&RECORD.replacen('6', &priority.to_string(), 1), "c0ffee", 0.0), None);
        }
        let killed = "12,1175,1,-;Memory cgroup out of memory: Killed process 7 (x) total-vm:9kB, anon-rss:8kB, UID:0";
        assert_eq!((rss_bytes(killed, 7), rss_bytes(&killed.replacen("12", "3", 1), 7)), (None, Some(8192)));
        // Nor is the name that it has given itself.
        for name in ["x,pid=1", "a,task=b", ",pid=7,uid=0"] {
            let kill = read(&RECORD.replace("task=tail", &format!("task={name}")), "c0ffee", 0.0).unwrap();
            assert_eq!((kill.pid, kill.task.as_str()), (Some(4711), name));
        }
    }

    #[test]
    fn what_the_killed_process_held_is_read() {
        let record = "3,1175,5140900100,-;Out of memory: Killed process 4711 (tail) x) total-vm:9000kB, anon-rss:700kB, \
                      file-rss:300kB, shmem-rss:24kB, UID:0 pgtables:100kB oom_score_adj:0\n";
        assert_eq!(rss_bytes(record, 4711), Some(1024 * 1024));
        assert_eq!(rss_bytes(record, 471), None);
        assert_eq!(rss_bytes(RECORD, 4711), None);
    }
}
