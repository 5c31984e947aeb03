//! Compiles the component ahead of time, so that a process that embeds the host starts in a
//! millisecond. Invariant: each image is made by the wasmtime version and the `Config` that the
//! library loads it with; what does not match is refused at load time, and compiled anew or an error.

#![allow(
    missing_docs,
    reason = "the included module documents itself, and a build script has no readers elsewhere"
)]

#[path = "src/engine/config.rs"]
mod config;

use config::AddressSpace;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// The component that ships with the host, from the package's directory.
const SHIPPED: &str = "component/consolidation.wasm";
/// `wasmtime` takes `wasmtime-wasi` for the component on every platform; see `src/wasi/mod.rs`.
const WASI: &str = "CONSOLIDATION_WASI";
/// Names another component to build in.
const OVERRIDE: &str = "CONSOLIDATION_COMPONENT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/engine/config.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-env-changed={WASI}");
    choose_wasi();
    let component = match env::var_os(OVERRIDE) {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => Path::new(&variable("CARGO_MANIFEST_DIR")).join(SHIPPED),
    };
    println!("cargo::rerun-if-changed={}", component.display());
    let bytes = fs::read(&component).unwrap_or_else(|error| {
        fail(&format!(
            "cannot read the component {}: {error}. `guest/build.sh` builds it; {OVERRIDE} names another one",
            component.display()
        ))
    });
    let out = PathBuf::from(variable("OUT_DIR"));
    write(&out.join("consolidation.wasm"), &bytes);
    for (space, name) in [(AddressSpace::Ample, "ample.cwasm"), (AddressSpace::Limited, "limited.cwasm")] {
        let image = compile(&bytes, space).unwrap_or_else(|error| {
            fail(&format!(
                "cannot compile the component {}: {error:#}. `guest/build.sh` builds it anew",
                component.display()
            ))
        });
        write(&out.join(name), &image);
    }
}

/// Sets `lean_wasi` if the component gets this crate's own part of WASI, and `wasmtime_wasi` if anything
/// uses that of wasmtime.
fn choose_wasi() {
    println!("cargo::rustc-check-cfg=cfg(lean_wasi, wasmtime_wasi)");
    let is_set = |name| env::var_os(name).is_some();
    let lean = is_set("CARGO_CFG_UNIX") && env::var_os(WASI).is_none_or(|wasi| wasi != "wasmtime");
    let plugins = is_set("CARGO_FEATURE_PLUGINS");
    if !lean && !plugins && is_set("CARGO_CFG_UNIX") {
        fail(&format!("{WASI}=wasmtime needs the dependencies of the feature `plugins`; build with it"));
    }
    if lean {
        println!("cargo::rustc-cfg=lean_wasi");
    }
    if plugins || !lean {
        println!("cargo::rustc-cfg=wasmtime_wasi");
    }
}

/// The machine code for the package's target, or nothing if this build of wasmtime can't generate
/// it: the library then compiles at run time, if it can.
fn compile(bytes: &[u8], space: AddressSpace) -> wasmtime::Result<Vec<u8>> {
    let target = variable("TARGET");
    let mut config = config::config(space);
    // Named, the target stands for its baseline CPU: the image also runs on machines that are older
    // than the one that builds it.
    if let Err(error) = config.target(&target) {
        if target == variable("HOST") {
            return Err(error);
        }
        return Ok(Vec::new());
    }
    // Nobody debugs the image: a backtrace names the functions and not the places in them. Without the
    // tables for that, and those for unwinding by native debuggers, it is a sixth smaller, and loading
    // need not register them with the system's unwinder. Windows does not run code without the latter.
    config.generate_address_map(false);
    if variable("CARGO_CFG_TARGET_OS") != "windows" {
        config.native_unwind_info(false);
    }
    wasmtime::Engine::new(&config)?.precompile_component(bytes)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| fail(&format!("{name}: {error}; build with cargo")))
}

fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = fs::write(path, bytes) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}

fn fail(message: &str) -> ! {
    println!("cargo::error={}", message.replace('\n', " "));
    process::exit(1);
}
