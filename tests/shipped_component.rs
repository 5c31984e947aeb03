//! The component and the plugins in the tree are the ones their sources give, they ask for nothing that a
//! sandbox should not give, and what is locked has the sandbox's fixes.
//!
//! Nothing here needs the wasm target: the digest of the sources is taken by the script that recorded
//! it, `guest/digest.sh`.

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the checkout.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Vec<u8> {
    fs::read(checkout().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}; guest/build.sh writes the shipped component"))
}

/// The record beside the shipped component.
fn record() -> serde_json::Value {
    serde_json::from_slice(&read("host/component/consolidation.json"))
        .expect("host/component/consolidation.json is JSON; guest/build.sh writes it anew")
}

/// The plugins that ship.
const PLUGINS: [&str; 2] = ["digest", "template"];

/// The record beside them.
fn plugins_record() -> serde_json::Value {
    serde_json::from_slice(&read("plugins/plugins.json"))
        .expect("plugins/plugins.json is JSON; guest/build.sh writes it anew")
}

/// The names of the custom sections in a component and in everything nested in it.
fn custom_sections(component: &[u8]) -> Vec<String> {
    let payloads = wasmparser::Parser::new(0).parse_all(component);
    let custom = payloads.filter_map(|payload| match payload.expect("a component is well formed") {
        wasmparser::Payload::CustomSection(section) => Some(section.name().to_owned()),
        _ => None,
    });
    custom.collect()
}

/// What a component imports.
fn imports(component: &[u8]) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload.expect("a component is well formed") {
            // A component holds others, with imports of their own.
            wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => {
                depth += 1
            }
            wasmparser::Payload::End(_) => depth -= 1,
            wasmparser::Payload::ComponentImportSection(imports) if depth == 0 => {
                names.extend(
                    imports
                        .into_iter()
                        .map(|import| import.expect("an import is well formed").name.name.to_owned()),
                );
            }
            _ => {}
        }
    }
    names
}

/// What `guest/digest.sh` prints.
#[cfg(unix)]
fn digest(arguments: &[&str]) -> String {
    let output = std::process::Command::new("sh")
        .arg("guest/digest.sh")
        .args(arguments)
        .current_dir(checkout())
        .output()
        .expect("sh can be started");
    assert!(output.status.success(), "guest/digest.sh failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the digest is text").trim().to_owned()
}

/// The versions of a crate that Cargo.lock holds, as (major, minor, patch).
fn locked(name: &str) -> Vec<(u64, u64, u64)> {
    let lock = String::from_utf8(read("Cargo.lock")).expect("Cargo.lock is text");
    lock.split("[[package]]")
        .filter(|package| package.contains(&format!("\nname = \"{name}\"\n")))
        .map(|package| {
            let version = package
                .lines()
                .find_map(|line| line.strip_prefix("version = \""))
                .expect("every package has a version");
            let mut parts =
                version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
            let mut next = || parts.next().unwrap_or(0);
            (next(), next(), next())
        })
        .collect()
}

#[cfg(unix)]
#[test]
fn shipped_component_matches_its_sources() {
    assert_eq!(
        record()["sources"],
        digest(&[]),
        "guest/, wit/ or the locked versions of what the guest depends on have changed since the \
         shipped component was built; rebuild it: guest/build.sh"
    );
}

#[cfg(unix)]
#[test]
fn shipped_component_is_the_recorded_one() {
    assert_eq!(
        record()["component"],
        digest(&["--file", "host/component/consolidation.wasm"]),
        "host/component/consolidation.wasm is not the one its record tells of; rebuild both: guest/build.sh"
    );
}

#[cfg(unix)]
#[test]
fn shipped_plugins_match_their_sources() {
    assert_eq!(
        plugins_record()["sources"],
        digest(&["--plugins"]),
        "guest/plugins, wit/plugin or the locked versions of what the plugins depend on have changed since \
         the shipped ones were built; rebuild them: guest/build.sh"
    );
}

#[cfg(unix)]
#[test]
fn shipped_plugins_are_the_recorded_ones() {
    let record = plugins_record();
    let recorded: Vec<&String> =
        record["plugins"].as_object().expect("`plugins` is an object").keys().collect();
    assert_eq!(recorded, PLUGINS);
    for plugin in PLUGINS {
        let path = format!("plugins/{plugin}.wasm");
        let recorded = &record["plugins"][plugin];
        assert_eq!(
            (&recorded["sha256"], &recorded["bytes"]),
            (&digest(&["--file", &path]).into(), &read(&path).len().into()),
            "{path} is not the one its record tells of; rebuild both: guest/build.sh"
        );
    }
}

/// They are the examples that authors go by: no clock, no randomness, no file and no network.
#[test]
fn shipped_plugins_import_nothing_that_has_to_be_granted() {
    for plugin in PLUGINS {
        let imports = imports(&read(&format!("plugins/{plugin}.wasm")));
        assert!(imports.iter().any(|name| name == "insomnia:plugin/memory@0.1.0"), "{plugin}: {imports:?}");
        for name in imports {
            assert!(
                ["insomnia:plugin/", "wasi:cli/", "wasi:io/"].iter().any(|package| name.starts_with(package)),
                "{plugin} imports {name}"
            );
        }
    }
}

/// Who changes a plugin need not rebuild the component, and the other way round.
#[cfg(unix)]
#[test]
fn component_and_plugins_have_digests_of_their_own() {
    let of = |arguments: &[&str]| digest(arguments).lines().map(str::to_owned).collect::<Vec<_>>();
    let files =
        |lines: &[String]| lines.iter().filter(|line| line.starts_with("file ")).cloned().collect::<Vec<_>>();
    let (component, plugins) = (files(&of(&["--list"])), files(&of(&["--plugins", "--list"])));
    assert!(component.iter().any(|line| line.starts_with("file wit/world.wit ")));
    assert!(plugins.iter().any(|line| line.starts_with("file wit/plugin/world.wit ")));
    // Both are stripped by the same program.
    let both = |line: &String| line.starts_with("file guest/strip.rs ");
    assert!(plugins.iter().all(|line| both(line) || !component.contains(line)));
    assert!(component.iter().all(|line| !line.contains("plugin")), "{component:?}");
}

/// guest/strip.rs takes them out.
#[test]
fn shipped_files_have_no_custom_sections() {
    for path in ["host/component/consolidation.wasm", "plugins/digest.wasm", "plugins/template.wasm"] {
        assert_eq!(custom_sections(&read(path)), [] as [String; 0], "{path}");
    }
}

#[test]
fn shipped_component_has_the_recorded_size() {
    let wasm = read("host/component/consolidation.wasm");
    assert_eq!(
        record()["bytes"],
        wasm.len(),
        "host/component/consolidation.wasm is not the one its record tells of; rebuild both: guest/build.sh"
    );
    // The preamble of a component: magic, version 13, layer 1. A core module has 01 00 00 00.
    assert_eq!(wasm[..8], *b"\0asm\x0d\0\x01\0");
}

/// Earlier versions let a guest out of its directory through symbolic links with trailing slashes.
#[test]
fn sandbox_has_the_fixes_for_known_escapes() {
    for (name, first_good) in
        [("wasmtime", (48, 0, 0)), ("wasmtime-wasi", (48, 0, 0)), ("cap-primitives", (3, 4, 6))]
    {
        let versions = locked(name);
        assert!(!versions.is_empty(), "Cargo.lock has no {name}");
        for version in versions {
            assert!(
                version >= first_good,
                "Cargo.lock has {name} {version:?}; {first_good:?} or newer is needed"
            );
        }
    }
}
