//! A lock that an embedder in another process-id namespace keeps: the test program starts itself again in
//! there, and plays the embedder as the (otherwise ignored) test [`embedder`].

#![cfg(target_os = "linux")]

use super::{LONG, POD, open, payload, payloads, read_all, refused, wait_until};
use crate::support::{TestWorkspace, names};
use consolidation_host::{AcquireOptions, ErrorCode, Limits, LockStatus, Takeover, Workspace};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tells the embedder its workspace; whoever has it in the environment is the embedder.
const ROOT: &str = "CONSOLIDATION_TEST_EMBEDDER";

const LEASE: Duration = Duration::from_secs(1);

fn leased(pod: &str) -> AcquireOptions {
    let mut options = AcquireOptions::new(pod);
    options.lease = Some(LEASE);
    options
}

/// Takes the lock and what is staged, keeps it until it is told to go on, and then releases it.
#[test]
#[ignore = "a part of the tests here, which start it"]
fn embedder() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = Path::new(&root);
    let lock =
        Workspace::open(root).expect("it opens").acquire_with(&leased("embedder")).expect("it is free");
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    read_all(&snapshot);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    fs::write(root.join("ready"), "").expect("a file");
    // No call of the library for as long as it takes.
    while !root.join("go").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let released = match lock.release_with_cleanup() {
        Ok(report) => format!("removed {}", report.removed),
        Err(error) => format!("{:?}: {error}", error.code()),
    };
    fs::write(root.join("released"), released).expect("a file");
}

/// The embedder in its namespace. It is killed when this is dropped.
struct Embedder {
    unshare: Child,
    place: TestWorkspace,
}

impl Embedder {
    /// None, and says why, where there can be no such namespace.
    fn start(place: TestWorkspace) -> Option<Self> {
        let isolated = |program: &mut Command| {
            program.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).stdin(Stdio::null());
        };
        let mut probe = Command::new("unshare");
        isolated(&mut probe);
        match probe.arg("true").output() {
            Ok(output) if output.status.success() => {}
            other => {
                eprintln!("skipped: no process-id namespace can be made here: {other:?}");
                return None;
            }
        }
        let name = concat!(module_path!(), "::embedder");
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        let mut command = Command::new("unshare");
        isolated(&mut command);
        command.arg(std::env::current_exe().expect("the test program has a path"));
        command.args(["--exact", name, "--ignored", "--nocapture"]).env(ROOT, place.root());
        let unshare = command.stdout(Stdio::null()).spawn().expect("it is started");
        let embedder = Embedder { unshare, place };
        wait_until("the embedder has the lock", || embedder.place.root().join("ready").exists());
        Some(embedder)
    }

    /// Its number in our namespace.
    fn pid(&self) -> Pid {
        let variable = format!("{ROOT}={}", self.place.root().display());
        let found = names(Path::new("/proc")).into_iter().find_map(|name| {
            let pid = Pid::from_raw(name.parse().ok()?)?;
            let environment = fs::read(format!("/proc/{name}/environ")).ok()?;
            let is_it = environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes())
                && name != self.unshare.id().to_string();
            is_it.then_some(pid)
        });
        found.expect("the embedder runs")
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the signal is sent");
    }

    /// Lets it release the lock, and returns what it says about that.
    fn released(&self) -> String {
        fs::write(self.place.root().join("go"), "").expect("a file");
        let said = || fs::read_to_string(self.place.root().join("released")).unwrap_or_default();
        wait_until("the embedder has released the lock", || !said().is_empty());
        said()
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        // `--kill-child` takes the embedder along.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

#[test]
fn lock_that_is_only_kept_is_respected_far_beyond_its_lease() {
    let place = TestWorkspace::new();
    open(&place).stage_many(&payloads(2), None).expect("staged");
    let Some(mut embedder) = Embedder::start(place) else { return };
    let workspace = open(&embedder.place);
    let begun = Instant::now();
    while begun.elapsed() < 4 * LEASE {
        let error = refused(workspace.acquire(POD), ErrorCode::InUse);
        assert!(error.to_string().contains("another process-id namespace"), "{error}");
        assert!(matches!(workspace.lock_status(), Ok(LockStatus::Unknown(_))));
        refused(workspace.unlock(POD, false, None), ErrorCode::InUse);
        std::thread::sleep(Duration::from_millis(20));
    }
    // It may be killed as it is: then it ends with the lease.
    embedder.unshare.kill().expect("it is killed");
    refused(workspace.acquire(POD), ErrorCode::InUse);
    let lock = workspace.acquire_within(&AcquireOptions::new(POD), LONG, |_, next| {
        std::thread::sleep(next);
        true
    });
    let lock = lock.expect("the lease is over");
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(stale)) if stale.owner.pod_name == "embedder"));
    lock.release_only(None).expect("it is released");
    assert_eq!(workspace.list().expect("listed").len(), 2);
    embedder.place.assert_nothing_left();
}

#[test]
fn lock_that_is_only_kept_is_released_as_any_other() {
    let place = TestWorkspace::new();
    open(&place).stage_many(&payloads(2), None).expect("staged");
    let Some(embedder) = Embedder::start(place) else { return };
    std::thread::sleep(2 * LEASE);
    assert_eq!(embedder.released(), "removed 2");
    embedder.place.assert_nothing_left();
}

#[test]
fn embedder_that_wakes_up_after_a_successor_finished_deletes_nothing_and_is_told_that_it_lost_the_lock() {
    let place = TestWorkspace::new();
    let ids = open(&place).stage_many(&payloads(2), None).expect("staged");
    let Some(embedder) = Embedder::start(place) else { return };
    embedder.signal(Signal::STOP);
    let workspace = open(&embedder.place);
    let take = || {
        let taken = workspace.acquire_within(&AcquireOptions::new(POD), LONG, |_, next| {
            std::thread::sleep(next);
            true
        });
        taken.expect("it is free in the end")
    };
    let lock = take();
    assert!(matches!(lock.took_over(), Some(Takeover::Stale(stale)) if stale.owner.pod_name == "embedder"));
    let snapshot = lock.snapshot(Limits::default()).expect("taken");
    assert_eq!(snapshot.ids().expect("listed"), ids);
    read_all(&snapshot);
    lock.record_snapshot(&snapshot).expect("recorded");
    drop(snapshot);
    assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 2);
    let late = workspace.stage(&payload(7)).expect("staged");
    let third = take();
    let before = embedder.place.lock_bytes();

    embedder.signal(Signal::CONT);
    let said = embedder.released();
    assert!(said.starts_with("LockLost"), "{said}");
    assert_eq!(workspace.list().expect("listed"), [late]);
    assert_eq!(embedder.place.lock_bytes(), before, "the third's lock is not its to remove");
    third.release_only(None).expect("it is released");
    embedder.place.assert_nothing_left();
}

/// A library does not touch what belongs to the whole process.
#[test]
fn umask_of_the_process_is_respected_and_stays() {
    use rustix::fs::Mode;
    use std::os::unix::fs::PermissionsExt as _;
    super::own_process::alone(
        concat!(module_path!(), "::umask_of_the_process_is_respected_and_stays"),
        || {
            rustix::process::umask(Mode::from_raw_mode(0o027));
            let place = TestWorkspace::new();
            let workspace = open(&place);
            let id = workspace.stage(&payload(1)).expect("staged");
            let lock = workspace.acquire(POD).expect("the lock is free");
            lock.record_consumed(&[&id]).expect("recorded");
            let flag = place.owner(&place.owners()[0]);
            let host = place.root().join("of the host");
            fs::write(&host, "").expect("a file");
            let paths = [place.staging(), place.staged(".owners"), lock.path(), flag, host];
            for path in paths.iter().chain([&place.staged(&format!("{id}.json"))]) {
                let mode = fs::metadata(path).expect("it is there").permissions().mode();
                assert_eq!(mode & 0o027, 0, "{}: {mode:o}", path.display());
                assert_eq!(mode & 0o640, 0o640, "{}: {mode:o}", path.display());
            }
            lock.release_with_cleanup().expect("it is released");
            assert_eq!(rustix::process::umask(Mode::from_raw_mode(0o027)), Mode::from_raw_mode(0o027));
        },
    );
}
