//! What is loaded as a plugin and what is refused.

use super::*;
use crate::support::plugin::component;
use std::fs;
use std::path::Path;

#[test]
fn plugin_is_loaded_from_its_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("digest.wasm");
    PluginText::new(NOTHING).build_to(&path);
    let plugin = Plugin::load(runtime(), &path, &PluginOptions::new()).expect("it loads");
    assert_eq!(plugin.name(), "digest 1.2.3");
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for path in [&directory.path().join("missing.wasm"), directory.path(), Path::new("/dev/zero")] {
        let error = Plugin::load(runtime(), path, &PluginOptions::new()).expect_err("there is no plugin");
        assert!(matches!(error, PluginError::Read { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn what_is_no_component_is_refused() {
    let module = wat::parse_str("(module)").expect("it is sound");
    for (bytes, reason) in [
        (&b""[..], "empty"),
        (b"#!/bin/sh\n", "no WebAssembly"),
        (b"\0asm", "core WebAssembly module"),
        (&module, "core WebAssembly module"),
    ] {
        let error = refused(bytes);
        assert!(matches!(error, PluginError::NotAComponent { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(reason) && message.contains("wasm32-wasip2"), "{message}");
    }
}

#[test]
fn damaged_component_is_refused() {
    let whole = PluginText::new(NOTHING).build();
    let mut garbled = whole.clone();
    garbled[40..80].fill(0xaa);
    for bytes in [&whole[..whole.len() / 2], &garbled, b"\0asm\x0d\0\x01\0\xff\xff"] {
        let error = refused(bytes);
        assert!(matches!(error, PluginError::Compile { .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn component_of_another_world_is_refused() {
    let empty = b"\0asm\x0d\0\x01\0";
    let error = refused(empty);
    assert!(error.to_string().contains("it exports nothing"), "{error}");

    let other = component(
        "package test:built; world built { export run: func(); }",
        r#"(module (func (export "run")))"#,
    );
    let error = refused(&other);
    assert!(matches!(error, PluginError::NotAPlugin { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("it exports run") && message.contains("insomnia:plugin/plugin"), "{message}");
}

#[test]
fn other_versions_of_the_world_are_refused_by_name() {
    for version in ["0.9.0", "1.0.0", "0.2.0"] {
        let error = refused(&PluginText::new(NOTHING).version(version).build());
        assert!(matches!(error, PluginError::Version { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(&format!("it was built for insomnia:plugin {version}")), "{message}");
        assert!(message.contains("this host runs insomnia:plugin 0.1"), "{message}");
    }
}

#[test]
fn higher_patch_version_runs() {
    let text =
        PluginText::new("(call $log (i32.const 1) (i32.const 0) (i32.const 0)) (call $answer (i32.const 2))")
            .version("0.1.7")
            .import("insomnia:plugin/log@0.1.7", "log", "(param i32 i32 i32)");
    assert_eq!(count(&mut load(&text, &PluginOptions::new())), 2);
}

/// The right name, and nothing right behind it.
#[test]
fn export_of_another_type_is_refused() {
    let other = component(
        "package insomnia:plugin@0.1.0;
        interface consolidator { info: func() -> u32; }
        world built { export consolidator; }",
        r#"(module (func (export "insomnia:plugin/consolidator@0.1.0#info") (result i32) (i32.const 1)))"#,
    );
    let error = refused(&other);
    assert!(matches!(error, PluginError::Link { .. }), "{error:?}");
}

#[test]
fn imports_that_no_plugin_gets_are_refused_by_name() {
    let text = PluginText::new("(drop (call $read)) (unreachable)").import(
        "acme:secrets/vault@1.0.0",
        "read",
        "(result i64)",
    );
    let error = refused(&text.build());
    assert!(matches!(error, PluginError::Import { .. }), "{error:?}");
    assert!(error.to_string().contains("it imports acme:secrets/vault@1.0.0"), "{error}");
}

#[test]
fn names_of_a_plugin_are_made_fit_to_be_shown() {
    // The name is as long as a page, and begins with an escape sequence.
    let text = PluginText::new(NOTHING)
        .info("(i32.store (i32.const 2048) (i32.const 4096)) (i32.store (i32.const 2052) (i32.const 60000)) (i32.const 2048)")
        .items(r#"(data (i32.const 4096) "\1b[31mred")"#);
    let plugin = load(&text, &PluginOptions::new());
    let name = plugin.name();
    assert!(name.starts_with(r"\u{1b}[31mred"), "{name}");
    assert!(name.chars().count() <= 65 && !name.contains(char::is_control), "{name}");
}

#[test]
fn plugin_without_a_name_goes_by_its_file() {
    let text = PluginText::new(NOTHING).info("(i32.const 2048)");
    assert_eq!(load(&text, &PluginOptions::new()).name(), "digest.wasm");
}

#[test]
fn plugin_that_traps_in_info_is_refused() {
    let error = refused(&PluginText::new(NOTHING).info("(unreachable)").build());
    assert!(matches!(error, PluginError::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("trapped"), "{error}");
}

#[test]
fn grants_are_read_and_unknown_ones_refused_with_the_known_ones() {
    for grant in [Grant::Clock, Grant::Random, Grant::Env("HOME".into())] {
        assert_eq!(grant.to_string().parse(), Ok(grant));
    }
    for text in ["", "clocks", "network", "env:", "env:A=B", "Clock"] {
        let message = text.parse::<Grant>().expect_err("there is no such grant").to_string();
        assert!(message.contains("clock, random, env:NAME"), "{message}");
    }
}

#[test]
fn file_that_changes_is_loaded_as_it_is_then() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("digest.wasm");
    for updates in [1, 2] {
        PluginText::new(&format!("(call $answer (i32.const {updates}))")).build_to(&path);
        let mut plugin = Plugin::load(runtime(), &path, &PluginOptions::new()).expect("it loads");
        assert_eq!(count(&mut plugin), updates);
    }
    fs::write(&path, "").expect("it is emptied");
    Plugin::load(runtime(), &path, &PluginOptions::new()).expect_err("nothing is left");
}
