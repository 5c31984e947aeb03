//! Owners that are gone, that can't be looked at from here, and that only look like ours: told apart by
//! the command itself, with processes, flags and records as they stand on a real disk.

use super::process::{Program, Ran, Running, wait_until};
use crate::support::{TestWorkspace, original_record, set_age};
use consolidation_guest::layout::{FlagName, Token};
use consolidation_guest::record::LockRecord;
use consolidation_guest::system::{Identity, Scope};
use consolidation_guest::time::to_rfc3339;
use consolidation_host::Workspace;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;

const LEASE: u32 = 60;

/// The scope of the processes that a test starts.
fn here() -> Scope {
    let place = TestWorkspace::new();
    let lock = Workspace::open(place.root()).expect("it opens").acquire("probe").expect("it is free");
    let scope = place.lock_record().scope.expect("we write one");
    lock.release_only(None).expect("it is released");
    scope
}

/// The start of a process as we record it, for as long as it runs.
fn start_of(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, tail) = stat.rsplit_once(')').expect("a stat line");
    tail.split_ascii_whitespace().nth(19).expect("field 22").to_owned()
}

/// An owner as its files show it.
struct Owner {
    identity: Identity,
    lease: Option<u32>,
    token: Token,
}

impl Owner {
    fn new(pid: u32, start: &str, scope: Scope) -> Self {
        let identity = Identity { pid, start: start.into(), scope };
        Owner { identity, lease: Some(LEASE), token: Token::new([7; 16]) }
    }

    fn with_lease(mut self, lease: Option<u32>) -> Self {
        self.lease = lease;
        self
    }

    fn record(&self) -> Vec<u8> {
        let now = crate::support::system::wall_clock();
        LockRecord::new(&self.identity, "pod-b", now, self.token, self.lease).to_file()
    }

    fn flag(&self) -> String {
        FlagName::new(&self.identity, self.token).as_str().to_owned()
    }

    /// Writes what such an owner leaves on the disk, so many seconds ago.
    fn put(&self, left: Left, workspace: &TestWorkspace, age: i64) {
        if left != Left::Flag {
            workspace.put(".consolidation.lock", self.record());
            set_age(&workspace.lock(), age);
        }
        if left != Left::Lock {
            workspace.put_owner(&self.flag(), self.record());
            set_age(&workspace.owner(&self.flag()), age);
        }
    }
}

/// A holder leaves both; one that died while it took or released the lock may leave either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Lock,
    Flag,
    Both,
}

const LEFT: [Left; 3] = [Left::Lock, Left::Flag, Left::Both];

fn state(workspace: &TestWorkspace) -> String {
    let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
    status["lock"]["state"].as_str().expect("a state").to_owned()
}

fn reason(workspace: &TestWorkspace) -> String {
    let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
    status["lock"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// The process whose id is in a file of the root.
fn process_in(file: &str, workspace: &TestWorkspace) -> Pid {
    Pid::from_raw(workspace.text(file).trim().parse().expect("a process id")).expect("it is not 0")
}

/// Kills a holder and its command, of which the last process may take a moment to be gone.
fn kill(holder: Running, workspace: &TestWorkspace) {
    holder.kill_all();
    wait_until("the lock is stale", || state(workspace) == "stale");
}

/// It is in the way of everything but force, and stays as it is.
#[track_caller]
fn assert_respected(workspace: &TestWorkspace, what: &str) -> Ran {
    let content = || workspace.lock_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let before = (content(), workspace.ids());
    let ran = workspace.run_shell(&[], "touch overlap").run().exits(75);
    // A flag alone may become a lock in a moment, so that is waited for.
    if workspace.lock().exists() {
        workspace.run_shell(&["--wait", "0.2"], "touch overlap").run().exits(75);
        workspace.consolidate(["unlock"]).run().exits(75);
    }
    assert!(!workspace.has("overlap"), "{what}");
    assert_eq!((content(), workspace.ids()), before, "{what}");
    ran
}

/// It is in nobody's way.
#[track_caller]
fn assert_succeeded(workspace: &TestWorkspace, what: &str) -> Ran {
    let ran = workspace.run_shell(&[], "cat > lines; exit 3").run();
    assert_eq!(ran.status.code(), Some(70), "{what}: {}", ran.err);
    workspace.assert_nothing_left();
    ran
}

#[test]
fn process_that_got_the_number_of_a_dead_owner_is_not_taken_for_it() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let mut stranger = Program::new("sleep").args(["60"]).start();
    let start = start_of(stranger.pid());
    let earlier = (start.parse::<u64>().expect("ticks") - 1).to_string();
    for left in LEFT {
        let owner = Owner::new(stranger.pid(), &earlier, here());
        // Not at any age: it can be probed, and so its lease is no matter.
        for age in [0, 3_600] {
            owner.put(left, &workspace, age);
            if left != Left::Flag {
                assert_eq!(state(&workspace), "stale", "{left:?}");
            }
            let ran = assert_succeeded(&workspace, &format!("{left:?}"));
            let told = ran.err.contains("belongs to another process now") && ran.err.contains("pod-b");
            assert_eq!(told, left != Left::Flag, "{left:?}: {}", ran.err);
        }
    }
    // The very same but for the start.
    let owner = Owner::new(stranger.pid(), &start, here());
    for left in LEFT {
        for age in [0, 3_600] {
            owner.put(left, &workspace, age);
            let ran = assert_respected(&workspace, &format!("{left:?}"));
            assert!(ran.err.contains(&format!("live pid {}", stranger.pid())), "{}", ran.err);
        }
        workspace.consolidate(["unlock", "--force"]).run().exits(0);
        let _ = fs::remove_file(workspace.owner(&owner.flag()));
    }
    assert!(!stranger.has_ended(), "nobody stopped it");
}

/// A copy of a machine's image has the same machine id and host name and another boot: it can't be told
/// from the machine after a restart.
#[test]
fn owner_of_an_earlier_boot_is_succeeded_once_its_lease_is_over_and_not_before() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let stranger = Program::new("sleep").args(["60"]).start();
    let boot = "00000000-1111-4222-8333-444444444444";
    let scope = Scope { boot: boot.into(), ..here() };
    // Whatever the number means here by now.
    for (pid, start) in
        [(stranger.pid(), start_of(stranger.pid())), (stranger.pid(), "1".into()), (1 << 22, "7".into())]
    {
        for left in LEFT {
            let what = format!("{pid}, {left:?}");
            let owner = Owner::new(pid, &start, scope.clone());
            owner.put(left, &workspace, 0);
            assert_respected(&workspace, &what);
            owner.put(left, &workspace, i64::from(LEASE) + 10);
            assert_succeeded(&workspace, &what);
        }
    }
}

/// There is nothing to wait for.
#[test]
fn owner_of_an_earlier_boot_without_a_lease_is_succeeded_at_once() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let scope = Scope { boot: "00000000-1111-4222-8333-444444444444".into(), ..here() };
    for left in LEFT {
        Owner::new(4242, "7", scope.clone()).with_lease(None).put(left, &workspace, 0);
        assert_succeeded(&workspace, &format!("{left:?}"));
    }
}

/// All that can be said of an owner elsewhere, in each kind of elsewhere.
#[test]
fn owner_who_cannot_be_looked_at_goes_by_force_or_at_the_end_of_its_lease_only() {
    let us = here();
    let far = |machine: &str, boot: &str, pid_namespace: &str| Scope {
        machine: machine.into(),
        boot: boot.into(),
        pid_namespace: pid_namespace.into(),
    };
    let other_boot = "00000000-1111-4222-8333-444444444444";
    let scopes = [
        ("another namespace", far(&us.machine, &us.boot, "pid:[1]")),
        ("no namespace known", far(&us.machine, &us.boot, "")),
        ("another machine", far("far/away", other_boot, &us.pid_namespace)),
        ("another machine of no known boot", far("far/away", "", &us.pid_namespace)),
        ("no machine known", far("", other_boot, &us.pid_namespace)),
        ("nothing known", far("", "", "")),
    ];
    let stranger = Program::new("sleep").args(["60"]).start();
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for (what, scope) in scopes {
        // Both a number that is in use here and one that is not: it makes no difference.
        for (pid, start) in [(stranger.pid(), start_of(stranger.pid())), (1 << 22, "7".into())] {
            for left in LEFT {
                // Nothing but the lease counts for a flag alone, and to be refused by one takes seconds.
                if left == Left::Flag && (pid == stranger.pid() || what.contains("known")) {
                    continue;
                }
                let what = format!("{what}, {pid}, {left:?}");
                let owner = Owner::new(pid, &start, scope.clone());
                owner.put(left, &workspace, i64::from(LEASE) - 30);
                let ran = assert_respected(&workspace, &what);
                assert!(ran.err.contains("nobody can tell from here"), "{what}: {}", ran.err);
                if left != Left::Flag {
                    assert_eq!(state(&workspace), "unknown", "{what}");
                    let ran = workspace.consolidate(["unlock", "--force", "--json"]).run().exits(0).json();
                    assert_eq!(ran["removed"]["kind"], "forced", "{what}");
                    assert_succeeded(&workspace, &what);
                }
                owner.put(left, &workspace, i64::from(LEASE) + 10);
                assert_succeeded(&workspace, &what);
                // Without a lease time tells nothing, however much of it.
                let owner = owner.with_lease(None);
                owner.put(left, &workspace, 10 * 365 * 86_400);
                assert_respected(&workspace, &what);
                workspace.consolidate(["unlock", "--force"]).run().exits(0);
                assert_succeeded(&workspace, &what);
            }
        }
    }
}

/// One of the two files shows that it lives: a writer that could renew only one of them.
#[test]
fn owner_elsewhere_is_respected_while_either_of_its_files_is_fresh() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let owner = Owner::new(4242, "7", Scope { pid_namespace: "pid:[1]".into(), ..here() });
    for path in [workspace.lock(), workspace.owner(&owner.flag())] {
        owner.put(Left::Both, &workspace, 0);
        set_age(&path, 1_000);
        let before = workspace.lock_bytes();
        for _ in 0..2 {
            workspace.run_shell(&[], "touch overlap").run().exits(75);
        }
        assert_eq!(workspace.lock_bytes(), before);
        assert!(!workspace.has("overlap"));
    }
    owner.put(Left::Both, &workspace, 1_000);
    assert_succeeded(&workspace, "both are old");
}

/// Clocks that are set wrong, theirs or ours, say nothing about a process that can be probed.
#[test]
fn time_in_a_record_never_breaks_the_lock_of_a_live_owner() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let holder = Program::new("sleep").args(["60"]).start();
    let mut owner = Owner::new(holder.pid(), &start_of(holder.pid()), here());
    for lease in [Some(1), Some(LEASE), None] {
        owner = owner.with_lease(lease);
        for offset in [-7_200, -10 * 365 * 86_400, 7_200] {
            let then = crate::support::system::wall_clock().nanos() + i128::from(offset) * 1_000_000_000;
            let record = String::from_utf8(owner.record()).expect("text");
            let written = record.find("\"started_at\": \"").expect("a time") + "\"started_at\": \"".len();
            let end = written + record[written..].find('"').expect("its end");
            let then = to_rfc3339(consolidation_guest::fs::Time::from_nanos(then));
            let record = format!("{}{then}{}", &record[..written], &record[end..]);
            workspace.put(".consolidation.lock", &record);
            set_age(&workspace.lock(), 7_200);
            let ran = assert_respected(&workspace, &then);
            assert!(ran.err.contains(&then), "{}", ran.err);
        }
    }
    // Of the original format, by a process that was there before: so is this test.
    workspace.put(".consolidation.lock", original_record(std::process::id(), "pod-b", &[]));
    for age in [7_200, 10 * 365 * 86_400, -7_200] {
        set_age(&workspace.lock(), age);
        assert_respected(&workspace, "original format");
    }
    // In another pod with a clock two hours slow or fast: only how old the file is by the clock of the
    // file system counts.
    let far = Owner::new(4242, "7", Scope { pid_namespace: "pid:[1]".into(), ..here() });
    for offset in [-7_200, 7_200] {
        let mut record = LockRecord::parse(&far.record()).expect("a record");
        let then = crate::support::system::wall_clock().nanos() + i128::from(offset) * 1_000_000_000;
        record.started_at = to_rfc3339(consolidation_guest::fs::Time::from_nanos(then));
        workspace.put(".consolidation.lock", record.to_file());
        assert_respected(&workspace, "another pod");
        set_age(&workspace.lock(), i64::from(LEASE) + 10);
        assert_succeeded(&workspace, "another pod whose lease is over");
    }
}

/// `lock LIVE`: somebody's process that has the number of an owner of the original format by chance,
/// and one that has it rightly.
#[test]
fn owner_of_the_original_format_is_told_from_a_later_process_with_its_number() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let mut live = Program::new("sleep").args(["60"]).start();
    let record = |started_at: &str| {
        format!(
            r#"{{"pid":{},"pod_name":"pod-b","started_at":"{started_at}","consumed_ids":[]}}"#,
            live.pid()
        )
    };
    workspace.put(".consolidation.lock", record("2026-01-01T00:00:00Z").replace("2026", "2020"));
    wait_until("the lock is stale", || state(&workspace) == "stale");
    let ran = assert_succeeded(&workspace, "started long after");
    assert!(ran.err.contains("started after the lock was taken"), "{}", ran.err);
    // It is older than this record.
    let now = to_rfc3339(crate::support::system::wall_clock());
    workspace.put(".consolidation.lock", record(&now));
    let ran = assert_respected(&workspace, "started before");
    for word in [&*format!("live pid {}", live.pid()), "pod-b", &now] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    let error = workspace.run_shell(&["--json"], "true").run().exits(75).json_error();
    assert!(error["path"].as_str().is_some_and(|path| path.ends_with(".consolidation.lock")), "{error}");
    assert!(!live.has_ended(), "nobody stopped it");
}

/// The record of the original format says nothing of a place: what its number means here decides, whoever
/// the pod is.
#[test]
fn pod_name_of_an_original_record_changes_no_verdict() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let live = Program::new("sleep").args(["60"]).start();
    let mut dead = Program::new("true").start();
    wait_until("it has ended", || dead.has_ended());
    let consumed = workspace.ids();
    for pod in ["other-pod-7", "test-pod", ""] {
        workspace.put(".consolidation.lock", original_record(dead.pid(), pod, &[&consumed[0]]));
        assert_succeeded(&workspace, pod);
        assert_eq!(workspace.ids(), consumed, "what it lists as consumed is not deleted");
        workspace.put(".consolidation.lock", original_record(live.pid(), pod, &[]));
        assert_respected(&workspace, pod);
    }
}

/// A script for a machine that is called so. None, and says why, if that can't be arranged.
fn called(name: &str, script: &str, workspace: &TestWorkspace) -> Option<Program> {
    let isolated = Program::shell("unshare --uts sh -c 'echo x > /proc/sys/kernel/hostname'").run();
    if !isolated.status.success() {
        eprintln!("skipped: the host name can't be changed here: {}", isolated.err.trim());
        return None;
    }
    fs::write(workspace.root().join("host-name"), format!("{name}\n")).expect("a file");
    let set = "cat host-name > /proc/sys/kernel/hostname; exec sh -c \"$SCRIPT\"";
    let program = Program::shell("exec unshare --uts sh -c \"$SET\"").env("SET", set).env("SCRIPT", script);
    Some(program.env("HOSTNAME", name).current_dir(workspace.root()))
}

/// A machine, or a container in the pod's namespace, may be called anything after a crash.
#[test]
fn owner_is_found_dead_whatever_the_machine_is_called_since() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let long = "n".repeat(300);
    let successor = "exec \"$CONSOLIDATE\" run -- sh -c 'cp _staging/.consolidation.lock record; exit 3'";
    for name in ["another", "", "quo\"te' \\", &long] {
        let holder = workspace.hold();
        let Some(refused) = called(name, successor, &workspace) else { return };
        let refused = refused.run().exits(75);
        assert!(refused.err.contains(&format!("live pid {}", holder.pid())), "{name}: {}", refused.err);
        kill(holder, &workspace);
        fs::remove_file(workspace.root().join("ready.holder")).expect("the holder's command ran");
        let Some(ran) = called(name, successor, &workspace) else { return };
        let ran = ran.run().exits(70);
        assert!(ran.err.contains("removed the lock of a dead owner"), "{name}: {}", ran.err);
        let record: serde_json::Value = serde_json::from_str(&workspace.text("record")).expect("JSON");
        // The kernel keeps 64 bytes of a name.
        let kept = &name[..name.len().min(64)];
        assert_eq!(record["pod_name"], if kept.is_empty() { "consolidate" } else { kept });
        workspace.assert_nothing_left();

        // The other way round: it was called so when it died.
        let script = "exec \"$CONSOLIDATE\" run -- sh -c 'touch ready.other; exec sleep 60'";
        let Some(holder) = called(name, script, &workspace) else { return };
        let holder = holder.start();
        wait_until("the holder's command runs", || workspace.has("ready.other"));
        assert_respected(&workspace, name);
        kill(holder, &workspace);
        let ran = assert_succeeded(&workspace, name);
        assert!(ran.err.contains("removed the lock of a dead owner"), "{name}: {}", ran.err);
        fs::remove_file(workspace.root().join("ready.other")).expect("the holder's command ran");
    }
}

/// `HOSTNAME` is a variable like any other.
#[test]
fn variable_of_the_host_name_changes_nothing() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let long = "n".repeat(300);
    for name in [None, Some(""), Some("other"), Some(&*long), Some("quo\"te\nline")] {
        let with_name = |program: Program| match name {
            Some(name) => program.env("HOSTNAME", name),
            None => Program::shell("unset HOSTNAME; exec \"$CONSOLIDATE\" run -- sh -c 'exit 3'")
                .current_dir(workspace.root()),
        };
        let holder = workspace.hold();
        let ran = with_name(workspace.run_shell(&[], "exit 3")).run().exits(75);
        assert!(ran.err.contains(&format!("live pid {}", holder.pid())), "{name:?}: {}", ran.err);
        kill(holder, &workspace);
        fs::remove_file(workspace.root().join("ready.holder")).expect("the holder's command ran");
        let ran = with_name(workspace.run_shell(&[], "exit 3")).run().exits(70);
        assert!(ran.err.contains("removed the lock of a dead owner"), "{name:?}: {}", ran.err);
        workspace.assert_nothing_left();
    }
}

/// Two machines that have no name have nothing in common.
#[test]
fn machine_without_a_name_is_not_another_machine_without_one() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script = "\"$CONSOLIDATE\" run -- sh -c 'cp _staging/.consolidation.lock record; exit 3'";
    let Some(ran) = called("", script, &workspace) else { return };
    ran.run().exits(70);
    let mut record = LockRecord::parse(workspace.text("record").as_bytes()).expect("a record");
    let scope = record.scope.as_mut().expect("we write one");
    assert_eq!(scope.machine, "", "half a name is none");
    scope.boot = "00000000-1111-4222-8333-444444444444".into();
    workspace.put(".consolidation.lock", record.to_file());
    let before = workspace.lock_bytes();
    let Some(ran) = called("", script, &workspace) else { return };
    let ran = ran.run().exits(75);
    assert!(ran.err.contains("no telling on which machine"), "{}", ran.err);
    assert_eq!(workspace.lock_bytes(), before);
    set_age(&workspace.lock(), i64::from(LEASE) + 10);
    let Some(ran) = called("", script, &workspace) else { return };
    ran.run().exits(70);
    workspace.assert_nothing_left();
}

/// The group's first process, whose number the group has, is gone; a process that it started is not.
#[test]
fn orphan_of_the_command_keeps_the_lock_of_a_killed_run() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script = "(while :; do sleep 0.05; done) & echo $! > orphan; echo $$ > command; touch ready; wait";
    let mut holder = workspace.run_shell(&[], script).silent().start();
    wait_until("the command runs", || workspace.has("ready"));
    let command = process_in("command", &workspace);
    holder.kill();
    kill_process(command, Signal::KILL).expect("the first process of the group is killed");
    let gone = format!("/proc/{}", command.as_raw_nonzero());
    wait_until("it is gone", || {
        fs::read_to_string(format!("{gone}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    for _ in 0..3 {
        let ran = assert_respected(&workspace, "the orphan runs");
        assert!(ran.err.contains("its command still runs"), "{}", ran.err);
    }
    kill_process_group(command, Signal::KILL).expect("the orphan is killed");
    wait_until("the lock is stale", || state(&workspace) == "stale");
    assert_succeeded(&workspace, "the whole group is gone");
}

/// Nobody renews anything then, and nobody is dead.
#[test]
fn holder_and_command_that_are_stopped_keep_the_lock() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    // The system wakes a group whose last parent goes, by SIGHUP and SIGCONT.
    let script = "trap '' HUP; echo $$ > command; touch ready; while :; do sleep 0.02; done";
    let mut holder = workspace.run_shell(&["--lease", "1"], script).silent().start();
    wait_until("the command runs", || workspace.has("ready"));
    let command = process_in("command", &workspace);
    let stop = || kill_process_group(command, Signal::STOP).expect("the command is stopped");
    holder.signal(Signal::STOP);
    stop();
    for age in [0, 100, 10_000] {
        set_age(&workspace.lock(), age);
        assert_respected(&workspace, "both are stopped");
    }
    holder.kill();
    wait_until("the holder is dead", || reason(&workspace).contains("its command still runs"));
    stop();
    set_age(&workspace.lock(), 10_000);
    let ran = assert_respected(&workspace, "the command is stopped");
    assert!(ran.err.contains("its command still runs"), "{}", ran.err);
    kill_process_group(command, Signal::KILL).expect("the command is killed");
    wait_until("the lock is stale", || state(&workspace) == "stale");
    assert_succeeded(&workspace, "all are gone");
}
