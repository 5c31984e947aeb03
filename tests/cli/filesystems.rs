//! File systems that are no ordinary disk: FAT and exFAT by FUSE, without hard links; one that has run
//! out of names; one that nobody may write. They are mounted for the test, which takes root's rights,
//! `/dev/fuse` and the packages `fusefat`, `dosfstools`, `exfat-fuse` and `exfatprogs`; where something is
//! missing the test says what, and passes.

#![cfg(target_os = "linux")]

use super::process::{CONSOLIDATE, Program, Ran, Running, ids_in, payloads, wait_until};
use super::race::GUARDED;
use crate::support::{names, original_record};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file system that is mounted until this is dropped.
struct Mounted {
    place: TempDir,
    device: Option<String>,
}

/// How a kind of file system is made in the file `image` and mounted at `root`.
struct Kind {
    name: &'static str,
    make: &'static str,
    /// Prints the loop device, if it needs one.
    mount: &'static str,
    /// Does a reader see at once what was written and closed? The FAT driver is late now and then, and
    /// then a holder takes its own lock for lost, or can't read it: nothing is harmed, and the run is
    /// to be repeated.
    coherent: bool,
}

const WITHOUT_LINKS: [Kind; 2] = [
    Kind {
        name: "FAT",
        make: "truncate -s 64M image && mkfs.fat -F 32 image",
        mount: "fusefat -o rw+ image root",
        coherent: false,
    },
    Kind {
        name: "exFAT",
        make: "truncate -s 64M image && mkfs.exfat image",
        mount: "device=$(losetup -f --show image) && echo \"$device\" >&3 && mount.exfat-fuse \"$device\" root",
        coherent: true,
    },
];

impl Mounted {
    fn new(kind: &Kind) -> Option<Self> {
        let place = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(place.path().join("root")).expect("a directory");
        fs::create_dir(place.path().join("log")).expect("a directory");
        let script = format!("{{ {} && {}; }} 3> device", kind.make, kind.mount);
        // The file system's own process stays: nobody waits until its output ends.
        let ran =
            Program::shell(&format!("( {script} ) > said 2>&1")).current_dir(place.path()).silent().run();
        let text = |file: &str| fs::read_to_string(place.path().join(file)).unwrap_or_default();
        let device = Some(text("device").trim().to_owned()).filter(|device| !device.is_empty());
        let mounted = Mounted { device, place };
        if !ran.status.success() {
            let said = fs::read_to_string(mounted.place.path().join("said")).unwrap_or_default();
            eprintln!("skipped: {} can't be mounted here: {}", kind.name, said.trim());
            return None;
        }
        Some(mounted)
    }

    fn root(&self) -> PathBuf {
        self.place.path().join("root")
    }

    fn staging(&self) -> PathBuf {
        self.root().join("_staging")
    }

    /// Where commands note what they do: not on the file system that is tried.
    fn log(&self) -> PathBuf {
        self.place.path().join("log")
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.log().join(name)).unwrap_or_default()
    }

    fn consolidate(&self, arguments: &[&str]) -> Program {
        let root = self.root();
        let root = root.to_str().expect("a plain name");
        Program::consolidate(["--root", root])
            .args(arguments)
            .env("CONSOLIDATE", CONSOLIDATE)
            .current_dir(&self.log())
    }

    fn run(&self, options: &[&str], script: &str) -> Program {
        let arguments = [&["run", "--pod", "test-pod"], options, &["--", "sh", "-c", script]].concat();
        self.consolidate(&arguments)
    }

    #[track_caller]
    fn stage(&self, count: usize) -> Vec<String> {
        self.consolidate(&["stage"]).input(payloads(0..count)).run().exits(0).lines()
    }

    fn entries(&self) -> usize {
        names(&self.staging()).iter().filter(|name| name.ends_with(".json")).count()
    }

    #[track_caller]
    fn assert_nothing_left(&self, kind: &Kind) {
        let left: Vec<String> = names(&self.staging()).into_iter().filter(|name| name != ".owners").collect();
        assert_eq!(left, [] as [String; 0], "{}", kind.name);
        assert_eq!(names(&self.staging().join(".owners")), [] as [String; 0], "{}", kind.name);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a process that the test killed may not be quite gone.
        let script = "umount -l root; [ -z \"$DEVICE\" ] || losetup -d \"$DEVICE\"";
        let device = self.device.clone().unwrap_or_default();
        drop(Program::shell(script).env("DEVICE", device).current_dir(self.place.path()).silent().run());
    }
}

/// A run that nothing stands in the way of.
#[track_caller]
fn succeed(mounted: &Mounted, kind: &Kind, options: &[&str], script: &str) -> Ran {
    for _ in 0..5 {
        let ran = mounted.run(options, script).run();
        if kind.coherent || !matches!(ran.status.code(), Some(74 | 75)) {
            return ran.exits(0);
        }
    }
    panic!("{}: five runs in a row did not see what they had written", kind.name);
}

fn finish(running: Vec<Running>) -> Vec<Ran> {
    running.into_iter().map(Running::finish).collect()
}

fn put_lock(mounted: &Mounted, content: &str) {
    fs::create_dir_all(mounted.staging()).expect("a directory");
    fs::write(mounted.staging().join(".consolidation.lock"), content).expect("a file");
}

/// Does it for each kind of file system without hard links that can be had here.
fn without_links(try_it: impl Fn(&Mounted, &Kind)) {
    for kind in &WITHOUT_LINKS {
        let Some(mounted) = Mounted::new(kind) else { continue };
        let (one, other) = (mounted.root().join("one"), mounted.root().join("other"));
        fs::write(&one, "").expect("a file");
        assert!(fs::hard_link(&one, &other).is_err(), "{} has hard links: this shows nothing", kind.name);
        fs::remove_file(&one).expect("removed");
        try_it(&mounted, kind);
    }
}

#[test]
fn entries_are_staged_and_consumed_without_hard_links() {
    without_links(|mounted, kind| {
        let ids = mounted.stage(30);
        let listed = mounted.consolidate(&["list", "--json"]).run().exits(0).json();
        assert_eq!(listed["entries"].as_array().map(Vec::len), Some(30), "{}", kind.name);
        let failed = mounted.run(&[], "exit 3").run();
        assert!(failed.status.code() == Some(70) || !kind.coherent, "{failed:?}");
        mounted.assert_entries(30);
        let script = "cp \"$CONSOLIDATION_WORKSPACE\"/_staging/.consolidation.lock record; cat > lines";
        let ran = succeed(mounted, kind, &["--max-entries", "20"], script);
        assert_eq!(ran.out, "consolidated 20 entries; 10 more wait for the next run\n");
        assert_eq!(ids_in(&mounted.text("lines")), ids[..20]);
        let record: serde_json::Value = serde_json::from_str(&mounted.text("record")).expect("JSON");
        assert_eq!(record["consumed_ids"].as_array().map(Vec::len), Some(20));
        succeed(mounted, kind, &[], "cat > lines");
        assert_eq!(ids_in(&mounted.text("lines")), ids[20..]);
        mounted.assert_nothing_left(kind);
    });
}

#[test]
fn stale_lock_goes_to_one_of_many_without_hard_links() {
    without_links(|mounted, kind| {
        let staged = mounted.stage(16);
        put_lock(mounted, &original_record(u32::MAX, "pod-dead", &[&staged[0]]));
        let start = |_| mounted.run(&["--wait", "25", "--max-entries", "1"], GUARDED).start();
        let ran = finish((0..12).map(start).collect());
        let takeovers = ran.iter().filter(|ran| ran.err.contains("pod-dead")).count();
        let mut done = 0;
        for ran in ran {
            if kind.coherent || ran.status.success() {
                assert!(ran.exits(0).out.starts_with("consolidated 1 entry"), "{}", kind.name);
                done += 1;
            } else {
                assert!(matches!(ran.status.code(), Some(74 | 75)), "{}: {ran:?}", kind.name);
            }
        }
        assert_eq!(takeovers, 1, "{}", kind.name);
        assert_eq!(mounted.text("overlaps"), "", "{}: two commands ran at the same time", kind.name);
        let consumed: Vec<String> = mounted.text("consumed").lines().map(str::to_owned).collect();
        if kind.coherent {
            assert_eq!(consumed, staged[..12], "{}", kind.name);
        }
        assert_eq!(mounted.entries(), 16 - done, "{}", kind.name);
        assert!(staged[..done].iter().all(|id| consumed.contains(id)), "{}: an entry was lost", kind.name);

        // And of those that don't wait.
        put_lock(mounted, &original_record(u32::MAX, "pod-dead", &[]));
        let start = |_| mounted.run(&["--max-entries", "1"], GUARDED).start();
        let won = finish((0..8).map(start).collect());
        let expected = |ran: &Ran| match ran.status.code() {
            Some(0 | 75) => true,
            code => !kind.coherent && code == Some(74),
        };
        assert!(won.iter().all(expected), "{}: {won:?}", kind.name);
        assert!(!kind.coherent || won.iter().any(|ran| ran.status.success()), "{}", kind.name);
        assert_eq!(mounted.text("overlaps"), "", "{}: two commands ran at the same time", kind.name);
        succeed(mounted, kind, &[], "cat > lines");
        mounted.assert_nothing_left(kind);
    });
}

#[test]
fn live_owners_are_respected_without_hard_links() {
    without_links(|mounted, kind| {
        mounted.stage(1);
        let record = original_record(std::process::id(), "pod-b", &[]);
        put_lock(mounted, &record);
        let ran = mounted.run(&[], "touch started").run().exits(75);
        assert!(ran.err.contains("held by live pid"), "{}: {}", kind.name, ran.err);
        let lock = mounted.staging().join(".consolidation.lock");
        assert_eq!(fs::read_to_string(&lock).ok(), Some(record), "{}", kind.name);
        fs::remove_file(&lock).expect("removed");

        let holder = mounted.run(&[], "touch ready; while [ ! -e go ]; do sleep 0.02; done").start();
        wait_until("the command runs", || mounted.log().join("ready").exists());
        mounted.run(&[], "touch started").run().exits(75);
        assert!(!mounted.log().join("started").exists(), "{}", kind.name);
        fs::write(mounted.log().join("go"), "").expect("a file");
        let ran = holder.finish();
        assert!(ran.status.success() || !kind.coherent, "{}: {ran:?}", kind.name);
        succeed(mounted, kind, &[], "cat > lines");
        mounted.assert_nothing_left(kind);
    });
}

#[test]
fn processes_that_are_killed_lose_nothing_without_hard_links() {
    without_links(|mounted, kind| {
        let mut moments = super::crash::Moments::new();
        let mut staged = Vec::new();
        let script = "mkdir guard 2> /dev/null || echo \"$$\" >> overlaps; cat > got.$$; mv got.$$ done.$$; rmdir guard";
        for _ in 0..12 {
            staged.extend(mounted.stage(2));
            let mut pod = mounted.consolidate(&["stage"]).input(payloads(0..5)).start();
            let mut run = mounted.run(&["--wait", "25"], script).start();
            std::thread::sleep(moments.next(std::time::Duration::from_millis(60)));
            pod.kill();
            run.kill();
            staged.extend(pod.finish().lines());
            run.finish();
        }
        // A group that outlives its run still holds the lock for a moment.
        succeed(mounted, kind, &["--wait", "25"], script);
        assert_eq!(mounted.text("overlaps"), "", "{}: two commands ran at the same time", kind.name);
        let done = names(&mounted.log()).into_iter().filter(|name| name.starts_with("done."));
        let dealt: BTreeSet<String> = done.flat_map(|name| ids_in(&mounted.text(&name))).collect();
        let lost: Vec<&String> = staged.iter().filter(|id| !dealt.contains(*id)).collect();
        assert!(lost.is_empty(), "{}: {lost:?}", kind.name);
        assert_eq!(mounted.entries(), 0, "{}", kind.name);
        assert!(!mounted.staging().join(".consolidation.lock").exists(), "{}", kind.name);
        assert_eq!(names(&mounted.staging().join(".owners")), [] as [String; 0], "{}", kind.name);
    });
}

impl Mounted {
    #[track_caller]
    fn assert_entries(&self, count: usize) {
        assert_eq!(self.entries(), count);
    }
}

/// A disk may have space left and no inode.
#[test]
fn disk_without_a_free_inode_is_an_error_that_harms_nothing_and_passes() {
    let ext4 = Kind {
        name: "ext4 of few inodes",
        make: "truncate -s 8M image && mkfs.ext4 -q -N 64 image",
        mount: "device=$(losetup -f --show image) && echo \"$device\" >&3 && mount \"$device\" root",
        coherent: true,
    };
    let Some(mounted) = Mounted::new(&ext4) else { return };
    let ids = mounted.stage(3);
    mounted.run(&[], "exit 3").run().exits(70);
    let fill = |root: &Path| {
        let mut made = Vec::new();
        for number in 0..1_000 {
            let path = root.join(format!("filler-{number}"));
            if fs::write(&path, "").is_err() {
                break;
            }
            made.push(path);
        }
        made
    };
    let mut fillers = fill(&mounted.root());
    // None is left, and then one more for each step of a run.
    for free in 0..12 {
        let staged = mounted.consolidate(&["--json", "stage"]).input(payloads(0..20)).run().exits(74);
        assert_eq!(staged.json_error()["code"], "no_space", "{free} free");
        let ran = mounted.run(&["--json", "--max-entries", "1"], "exit 3").run();
        assert!(matches!(ran.status.code(), Some(70 | 74)), "{free} free: {ran:?}");
        if ran.status.code() == Some(74) {
            assert_eq!(ran.json_error()["code"], "no_space", "{free} free");
        }
        let left: Vec<String> =
            names(&mounted.staging()).into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, [".owners"], "{free} free");
        assert_eq!(names(&mounted.staging().join(".owners")), [] as [String; 0], "{free} free");
        mounted.assert_entries(3);
        mounted.consolidate(&["status"]).run().exits(0);
        if let Some(filler) = fillers.pop() {
            fs::remove_file(filler).expect("removed");
        }
    }
    fillers.iter().for_each(|filler| fs::remove_file(filler).expect("removed"));
    mounted.run(&[], "cat > lines").run().exits(0);
    assert_eq!(ids_in(&mounted.text("lines")), ids);
    mounted.assert_nothing_left(&ext4);
}

/// Read-only by the mount, though the disk below it is not: `mount --bind -o ro`.
#[test]
fn directory_that_is_bound_read_only_is_looked_at_and_not_written() {
    let bound = Kind {
        name: "a read-only view",
        make: "mkdir disk && \"$CONSOLIDATE\" --root disk stage < payloads && \"$CONSOLIDATE\" --root disk run -- false; [ $? = 70 ]",
        mount: "mount --bind disk root && mount -o remount,bind,ro root",
        coherent: true,
    };
    let make = format!("cat > payloads <<'END'\n{}END\n{}", payloads(0..3), bound.make);
    let make: &'static str = Box::leak(make.into_boxed_str());
    let Some(mounted) = Mounted::new(&Kind { make, ..bound }) else { return };
    for look in [&["list", "--json"][..], &["status", "--json"], &["unlock", "--json"]] {
        mounted.consolidate(look).run().exits(0).json();
    }
    for change in [&["--json", "stage"][..], &["--json", "run", "--", "touch", "started"]] {
        let ran = mounted.consolidate(change).input(payloads(0..1)).run().exits(74);
        assert_eq!(ran.json_error()["code"], "read_only", "{change:?}");
        let people = mounted.consolidate(&change[1..]).input(payloads(0..1)).run().exits(74);
        assert_eq!(people.err.lines().count(), 1, "{}", people.err);
        assert!(people.err.contains("read-only"), "{}", people.err);
    }
    assert!(!mounted.log().join("started").exists());
    mounted.assert_entries(3);
}
