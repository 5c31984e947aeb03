//! Evidence from `/proc`. Invariant: it is used only if it is the `/proc` of our own process-id
//! namespace; the numbers of another one would name other processes.

use super::{Evidence, Identity, ProcessState, machine, unix};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time namespace of every process that was not put into another one
/// (`PROC_TIME_INIT_INO` of the kernel).
const INITIAL_TIME_NAMESPACE: &str = "time:[4026531834]";

pub(super) fn identity(pid: u32) -> Identity {
    let start = match own_stat(pid) {
        Some(stat) => stat.start.to_string(),
        None => String::new(),
    };
    Identity {
        pid,
        start,
        machine: machine(&machine_id(), &unix::host_name()),
        boot: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        pid_namespace: namespace(&link("/proc/self/ns/pid"), &link("/proc/self/ns/time")),
    }
}

/// A process that `kill` found. With `hidepid` or a foreign `/proc` there is nothing to see, and it
/// stays "running".
pub(super) fn look(pid: u32) -> Evidence {
    let stat = own_stat(std::process::id())
        .and_then(|_| parse_stat(&read(&format!("/proc/{pid}/stat"))))
        .filter(|stat| stat.pid == pid);
    match stat {
        None => Evidence::bare(ProcessState::Running),
        Some(stat) => Evidence {
            state: if stat.has_ended() { ProcessState::Zombie } else { ProcessState::Running },
            start: stat.start.to_string(),
            started_at_ms: started_at_ms(stat.start),
        },
    }
}

/// Of a group that `kill` found: may any process of it still run? `kill` finds zombies too, and where
/// nobody collects orphans, as in many containers, they stay for good.
pub(super) fn group_may_run(pgid: u32) -> bool {
    if own_stat(std::process::id()).is_none() || hides_processes(&read("/proc/self/mounts")) {
        return true;
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    let mut ended = false;
    for process in processes {
        let Ok(process) = process else {
            return true;
        };
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        // One that is gone by now has nothing to say.
        let Some(stat) = parse_stat(&read(&format!("/proc/{pid}/stat"))) else {
            continue;
        };
        if stat.group == pgid {
            if !stat.has_ended() {
                return true;
            }
            ended = true;
        }
    }
    // Nothing seen of a group that is there: then it is hidden from us in some way.
    !ended
}

/// Is `/proc` mounted so that it does not show the processes of others?
fn hides_processes(mounts: &str) -> bool {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            (fields.next()? == "/proc").then(|| fields.nth(1))?
        })
        .any(|options| {
            options
                .split(',')
                .filter_map(|option| option.strip_prefix("hidepid="))
                .any(|value| !matches!(value, "0" | "off"))
        })
}

/// Our own stat line, if this `/proc` is the one of our namespace.
fn own_stat(pid: u32) -> Option<Stat> {
    let stat = parse_stat(&read("/proc/self/stat")).filter(|stat| stat.pid == pid)?;
    is_own_namespace(&read("/proc/self/status"), pid).then_some(stat)
}

/// `NSpid` lists our id in each namespace from that of the mounted `/proc` inwards, so for our own
/// `/proc` it is one id. Kernels before 4.1 don't have the line.
fn is_own_namespace(status: &str, pid: u32) -> bool {
    match status.lines().find_map(|line| line.strip_prefix("NSpid:")) {
        None => true,
        Some(ids) => ids.trim() == pid.to_string(),
    }
}

/// What we use of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    state: char,
    group: u32,
    threads: u32,
    /// In clock ticks since boot.
    start: u64,
}

impl Stat {
    /// Has the whole process ended? Its first thread can end, and then shows as a zombie, while
    /// others run on.
    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x') && self.threads <= 1
    }
}

/// Field 2 is the command in parentheses and may hold spaces and parentheses of its own: what
/// follows is counted from the last `)`.
fn parse_stat(line: &str) -> Option<Stat> {
    let (head, tail) = line.rsplit_once(')')?;
    let (pid, _) = head.split_once(' ')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    // `fields[0]` is field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        pid: pid.parse().ok()?,
        state: field(3)?.chars().next()?,
        group: field(5)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        start: field(22)?.parse().ok()?,
    })
}

/// A start as a wall-clock time. The distance to now is the same on both clocks, unless the wall
/// clock was set meanwhile.
fn started_at_ms(ticks: u64) -> Option<u64> {
    let per_second = rustix::param::clock_ticks_per_second();
    let start = since_boot(ticks, per_second)?;
    let boot_time = clock_gettime(ClockId::Boottime);
    let now = Duration::new(boot_time.tv_sec.try_into().ok()?, boot_time.tv_nsec.try_into().ok()?);
    let started = SystemTime::now().checked_sub(now.saturating_sub(start))?;
    let since_epoch = started.duration_since(UNIX_EPOCH).ok()?;
    since_epoch.as_millis().try_into().ok()
}

fn since_boot(ticks: u64, per_second: u64) -> Option<Duration> {
    let seconds = ticks.checked_div(per_second)?;
    let nanos = (ticks % per_second) * (1_000_000_000 / per_second);
    Some(Duration::from_secs(seconds) + Duration::from_nanos(nanos))
}

/// Where a process id, and the start beside it, has a meaning: processes in another time namespace
/// see other starts in the same `/proc`.
fn namespace(pid: &str, time: &str) -> String {
    if pid.is_empty() || time.is_empty() || time == INITIAL_TIME_NAMESPACE {
        pid.to_owned()
    } else {
        format!("{pid} {time}")
    }
}

/// Empty in images that are to get one at their first boot (some say `uninitialized`).
fn machine_id() -> String {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .into_iter()
        .map(|path| read(path).trim().to_owned())
        .find(|id| !id.is_empty() && id != "uninitialized")
        .unwrap_or_default()
}

/// The text of a file; empty if it can't be read. A process may give itself a name that is not
/// UTF-8, and that must not hide it.
fn read(path: &str) -> String {
    // The kernel makes these files when they are read and says a size of 0, for which `fs::read` begins with
    // 32 bytes and feels its way.
    let mut bytes = Vec::with_capacity(4096);
    let read = File::open(path).and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn link(path: &str) -> String {
    fs::read_link(path).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_processes_are_seen_in_the_mount_options() {
        let mounts = |options| format!("/dev/sda1 / ext4 rw 0 0\nproc /proc proc {options} 0 0\n");
        assert!(!hides_processes(&mounts("rw,nosuid,relatime")));
        assert!(!hides_processes(&mounts("rw,hidepid=0")));
        assert!(!hides_processes(&mounts("rw,hidepid=off")));
        assert!(hides_processes(&mounts("rw,hidepid=2,gid=7")));
        assert!(hides_processes(&mounts("rw,hidepid=invisible")));
    }

    const LINE: &str = "4242 (consolidate) S 1 4242 4242 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 3 0 987654 \
                        1000 200 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0";

    #[test]
    fn stat_line_is_parsed() {
        let stat = Stat { pid: 4242, state: 'S', group: 4242, threads: 3, start: 987_654 };
        assert_eq!(parse_stat(LINE), Some(stat));
    }

    #[test]
    fn command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = LINE.replace("(consolidate)", "(a) Z 9 (b c)) d)");
        let stat = parse_stat(&line).expect("a stat line");
        assert_eq!((stat.state, stat.start), ('S', 987_654));
    }

    #[test]
    fn cut_and_strange_stat_lines_are_nothing() {
        for line in ["", "4242", "4242 (x", "4242 (x) S 1 2", "x (y) S 1"] {
            assert_eq!(parse_stat(line), None, "{line}");
        }
    }

    #[test]
    fn zombie_with_running_threads_has_not_ended() {
        let stat = |state, threads| Stat { pid: 1, state, group: 1, threads, start: 0 };
        assert!(stat('Z', 1).has_ended());
        assert!(stat('X', 0).has_ended());
        assert!(!stat('Z', 2).has_ended());
        assert!(!stat('D', 1).has_ended());
    }

    #[test]
    fn foreign_proc_is_recognised() {
        assert!(is_own_namespace("Name:\tx\nNSpid:\t4242\nVmPeak:\t1\n", 4242));
        assert!(!is_own_namespace("NSpid:\t4242\t7\n", 4242));
        assert!(!is_own_namespace("NSpid:\t4242\t7\n", 7));
        assert!(is_own_namespace("Name:\told kernel\n", 4242));
    }

    #[test]
    fn other_time_namespace_is_another_scope() {
        assert_eq!(namespace("pid:[1]", INITIAL_TIME_NAMESPACE), "pid:[1]");
        assert_eq!(namespace("pid:[1]", ""), "pid:[1]");
        assert_eq!(namespace("pid:[1]", "time:[2]"), "pid:[1] time:[2]");
        assert_eq!(namespace("", "time:[2]"), "");
    }

    #[test]
    fn ticks_become_time_since_boot() {
        assert_eq!(since_boot(250, 100), Some(Duration::from_millis(2500)));
        assert_eq!(since_boot(250, 0), None);
    }

    #[test]
    fn own_start_lies_in_the_past() {
        let seen = look(std::process::id());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        if let Some(started) = seen.started_at_ms {
            assert!(u128::from(started) <= now.as_millis() + 1000);
        }
    }
}
