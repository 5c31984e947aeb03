//! What the sandbox costs: each operation through the component beside the native build of the same
//! rules, on the same directory, with the same durability.
//!
//! `cargo bench --bench sandbox` measures; the directory is `CONSOLIDATION_BENCH_DIR`, or the system's
//! temporary directory. The figures of a run are in `target/criterion/*/*/new/estimates.json`.

use consolidation_guest::durable::Durability;
use consolidation_guest::fs::Time;
use consolidation_guest::lock::{AcquireOptions, Held};
use consolidation_guest::native::NativeDir;
use consolidation_guest::staging::Limits;
use consolidation_guest::system::{Evidence, Identity, ProcessState, Scope, System};
use consolidation_guest::workspace::Workspace as Rules;
use consolidation_host::Workspace;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// How many entries a snapshot and a cleanup have.
const ENTRIES: u64 = 500;

/// The world outside for the native build.
#[derive(Clone)]
struct Native(Identity);

impl Native {
    fn new() -> Self {
        let scope = Scope { machine: "bench".into(), boot: "bench".into(), pid_namespace: "bench".into() };
        Native(Identity { pid: std::process::id(), start: "1".into(), scope })
    }
}

impl System for Native {
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

    fn current(&self) -> Identity {
        self.0.clone()
    }

    fn inspect(&self, _pid: u32) -> Evidence {
        Evidence { state: ProcessState::Running, start: self.0.start.clone(), started_at_ms: None }
    }

    fn group_alive(&self, _pgid: u32) -> bool {
        true
    }
}

/// A fresh workspace, in both builds.
struct Bench {
    _dir: TempDir,
    component: Workspace,
    native: Rules<NativeDir, Native>,
}

impl Bench {
    fn new() -> Self {
        let base = std::env::var_os("CONSOLIDATION_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = TempDir::new_in(base).expect("a directory for the workspace");
        let component = Workspace::open(dir.path()).expect("the workspace opens");
        let native = Rules::new(open(dir.path()), Native::new());
        Bench { _dir: dir, component, native }
    }

    fn acquire(&self) -> Held<NativeDir, Native> {
        let options =
            AcquireOptions { pod_name: "bench".into(), lease_seconds: Some(60), ..AcquireOptions::default() };
        self.native.acquire(&options).expect("the lock is free").0
    }

    /// Stages entries and has a native lock list them as consumed.
    fn fill(&self) -> Vec<String> {
        let payloads: Vec<String> = (0..ENTRIES).map(payload).collect();
        self.component
            .with_durability(consolidation_host::Durability::None)
            .stage_many(&payloads, None)
            .expect("the payloads are usable")
    }
}

fn open(path: &Path) -> NativeDir {
    NativeDir::open_path(path).expect("the directory opens")
}

/// A payload that makes a file of about 800 bytes.
fn payload(number: u64) -> String {
    let text = "what was learned in this session, in a sentence of some length. ".repeat(6);
    format!(
        r#"{{"source": {{"segment_id": "segment-{number}", "range": [0, 17]}}, "discussions": [{{"topic": "bench", "points": ["{text}", "short"]}}], "attempts": [{{"action": "measure", "result": "done", "succeeded": true}}]}}"#
    )
}

fn acquire_and_release(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("acquire_release");
    group.bench_function("component", |bencher| {
        bencher.iter(|| {
            bench.component.acquire("bench").and_then(|lock| lock.release_only(None)).expect("released")
        });
    });
    group.bench_function("native", |bencher| {
        bencher.iter(|| bench.acquire().release_only(None).expect("released"));
    });
    group.finish();
}

fn stage(criterion: &mut Criterion) {
    for (name, native, component) in [
        ("stage_durable", Durability::Full, consolidation_host::Durability::Full),
        ("stage_not_durable", Durability::None, consolidation_host::Durability::None),
    ] {
        // A fresh directory for each: its size counts.
        let payload = payload(1);
        let mut group = criterion.benchmark_group(name);
        group.bench_function("component", |bencher| {
            let bench = Bench::new();
            let workspace = bench.component.with_durability(component);
            bencher.iter(|| workspace.stage(&payload).expect("staged"));
        });
        group.bench_function("native", |bencher| {
            let bench = Bench::new();
            bencher.iter(|| bench.native.stage(&[&payload], None, native).expect("staged"));
        });
        group.finish();
    }
}

fn snapshot(criterion: &mut Criterion) {
    let bench = Bench::new();
    bench.fill();
    let mut group = criterion.benchmark_group("snapshot");
    group.throughput(Throughput::Elements(ENTRIES));
    group.bench_function("component", |bencher| {
        bencher.iter(|| {
            let snapshot = bench.component.snapshot(consolidation_host::Limits::default()).expect("taken");
            let batch = snapshot.next_batch(1_000, 1 << 20).expect("read");
            assert_eq!(batch.entries.len() as u64, ENTRIES);
        });
    });
    group.bench_function("native", |bencher| {
        bencher.iter(|| {
            let mut snapshot = bench.native.take_snapshot(Limits::default()).expect("taken");
            assert_eq!(snapshot.next_batch(1_000, 1 << 20).entries.len() as u64, ENTRIES);
        });
    });
    group.finish();
}

fn cleanup(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("cleanup");
    group.throughput(Throughput::Elements(ENTRIES));
    group.sample_size(20);
    group.bench_function("component", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let ids = bench.fill();
                let lock = bench.component.acquire("bench").expect("the lock is free");
                lock.record_consumed(&ids).expect("recorded");
                let begun = Instant::now();
                let report = lock.release_with_cleanup().expect("released");
                spent += begun.elapsed();
                assert_eq!(report.removed, ENTRIES);
            }
            spent
        });
    });
    group.bench_function("native", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                bench.fill();
                let ids = bench.native.entry_ids().expect("listed");
                let mut held = bench.acquire();
                bench.native.record_consumed(&mut held, ids).expect("recorded");
                let begun = Instant::now();
                let report = held.release_with_cleanup().expect("released");
                spent += begun.elapsed();
                assert_eq!(report.removed, ENTRIES);
            }
            spent
        });
    });
    group.finish();
}

/// A workspace's first call makes an instance; there is nothing native beside it.
fn first_call(criterion: &mut Criterion) {
    let bench = Bench::new();
    let root = bench.component.root().to_owned();
    criterion.bench_function("first_call", |bencher| {
        bencher.iter_batched(
            || Workspace::open(&root).expect("the workspace opens"),
            |workspace| workspace.list().expect("listed"),
            BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).without_plots();
    targets = acquire_and_release, stage, snapshot, cleanup, first_call
}
criterion_main!(benches);
