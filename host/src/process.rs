//! The `process` import: evidence about operating-system processes. Invariant: it tells facts and
//! never a verdict; what can't be known is left empty, which proves nothing.

use crate::bindings::process::{Evidence, Host, Identity, Scope, State as ProcessState};
use crate::bindings::types;
use crate::sandbox::State;
use crate::sys;

impl Host for State {
    fn pid_alive(&mut self, pid: u32) -> bool {
        sys::pid_alive(pid)
    }

    fn current(&mut self) -> Identity {
        let sys::Identity { pid, start, machine, boot, pid_namespace } = sys::identity();
        Identity { pid, start, scope: Scope { machine, boot, pid_namespace } }
    }

    fn current_pid(&mut self) -> u32 {
        std::process::id()
    }

    fn inspect(&mut self, pid: u32) -> Evidence {
        let seen = sys::inspect(pid);
        Evidence {
            state: match seen.state {
                sys::ProcessState::Absent => ProcessState::Absent,
                sys::ProcessState::Running => ProcessState::Running,
                sys::ProcessState::Zombie => ProcessState::Zombie,
            },
            start: seen.start,
            started_at_ms: seen.started_at_ms,
        }
    }

    fn group_alive(&mut self, pgid: u32) -> bool {
        sys::group_alive(pgid)
    }
}

/// An interface of types only: there is nothing to provide.
impl types::Host for State {}
