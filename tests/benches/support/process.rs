//! What the native build is told of processes: as much as a bench needs, in which all of them are this one.

use consolidation_guest::fs::Time;
use consolidation_guest::system::{Evidence, Identity, ProcessState, Scope, System};
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The world outside, as the component's host tells of it: found out once, when it is asked for.
#[derive(Clone)]
pub(crate) struct ThisProcess;

impl ThisProcess {
    fn identity() -> &'static Identity {
        static KNOWN: OnceLock<Identity> = OnceLock::new();
        KNOWN.get_or_init(ThisProcess::look)
    }

    fn look() -> Identity {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let link = |path: &str| {
            fs::read_link(path).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
        };
        // Field 22, counted from the end of the command in parentheses.
        let start = read("/proc/self/stat")
            .rsplit_once(')')
            .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19))
            .unwrap_or_default()
            .to_owned();
        let scope = Scope {
            machine: read("/etc/machine-id").trim().to_owned(),
            boot: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            pid_namespace: link("/proc/self/ns/pid"),
        };
        Identity { pid: std::process::id(), start, scope }
    }
}

impl System for ThisProcess {
    fn now(&self) -> Time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::new(i64::try_from(now.as_secs()).unwrap_or(0), now.subsec_nanos())
    }

    fn sleep_ms(&self, milliseconds: u32) {
        std::thread::sleep(Duration::from_millis(milliseconds.into()));
    }

    fn random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has randomness");
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn current(&self) -> Identity {
        Self::identity().clone()
    }

    fn inspect(&self, _pid: u32) -> Evidence {
        Evidence { state: ProcessState::Running, start: Self::identity().start.clone(), started_at_ms: None }
    }

    fn group_alive(&self, _pgid: u32) -> bool {
        true
    }
}
