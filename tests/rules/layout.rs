//! Names: recognised byte for byte or not at all, and ids that ascend.

use crate::support::system::{World, scope};
use crate::support::{MINIMAL, TestWorkspace};
use consolidation_guest::durable::Durability;
use consolidation_guest::fs::Time;
use consolidation_guest::layout::{EntryId, FlagName, NameParts, Token, UNKNOWN_PART, name_part};
use consolidation_guest::system::Identity;
use proptest::prelude::*;

const ID: &str = "0196f0e1-2b3c-7def-8123-456789abcdef";
const TOKEN: &str = "00000000000000000000000000abcdef";

fn identity() -> Identity {
    Identity { pid: 4242, start: "812345".into(), scope: scope("machine1", "boot1", "4026531836") }
}

fn token() -> Token {
    Token::parse(TOKEN).expect("a token")
}

#[test]
fn canonical_id_comes_back_as_the_same_text() {
    let id = EntryId::parse(ID).expect("a canonical id");
    assert_eq!(id.to_string(), ID);
    assert_eq!(id.file_name(), format!("{ID}.json"));
    assert_eq!(id.temporary_name(), format!(".{ID}.tmp"));
    assert_eq!(EntryId::from_file_name(&id.file_name()), Some(id));
    assert_eq!(EntryId::from_reason_name(&id.reason_name()), Some(id));
    assert_eq!(EntryId::from_file_name(&id.reason_name()), None, "a reason is no entry");
    assert_eq!(EntryId::from_reason_name(&id.file_name()), None);
    assert_eq!(id.millis(), 0x0196_f0e1_2b3c);
}

#[test]
fn every_variant_digit_of_rfc_9562_is_taken_and_no_other() {
    for digit in "0123456789abcdef".chars() {
        let text = format!("0196f0e1-2b3c-7def-{digit}123-456789abcdef");
        assert_eq!(EntryId::parse(&text).is_some(), "89ab".contains(digit), "{text}");
        let text = format!("0196f0e1-2b3c-{digit}def-8123-456789abcdef");
        assert_eq!(EntryId::parse(&text).is_some(), digit == '7', "{text}");
    }
}

#[test]
fn lenient_forms_of_an_id_are_refused() {
    let refused = [
        "",
        "-",
        &ID.to_uppercase(),
        "0196f0e1-2b3c-7def-8123-456789abcdeF",
        &format!("{{{ID}}}"),
        &format!("urn:uuid:{ID}"),
        &ID.replace('-', ""),
        // The right length without the right hyphens.
        "0196f0e12-b3c-7def-8123-456789abcdef",
        "0196f0e1-2b3c-7def-8123456789abcdef0",
        "0196f0e1_2b3c_7def_8123_456789abcdef",
        "0196f0e1-2b3c-7def-8123-456789abcde-",
        // Version 4, nil, max, a variant of another family.
        "9b2f6d1e-2b3c-4def-8123-456789abcdef",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "0196f0e1-2b3c-7def-c123-456789abcdef",
        "0196f0e1-2b3c-7def-7123-456789abcdef",
        &format!(" {ID}"),
        &format!("{ID} "),
        &format!("{ID}\n"),
        &format!("{ID}\0"),
        &format!("\0{}", &ID[1..]),
        &ID[..35],
        &format!("{ID}0"),
        "0196f0e1-2b3c-7def-8123-456789abcdeg",
        "+196f0e1-2b3c-7def-8123-456789abcdef",
        // 36 bytes with a character that lower-cases or looks like a digit.
        "0196f0e1-2b3c-7def-8123-456789abcd\u{e9}",
        "../../../../../../../../../etc/passwd",
    ];
    for text in refused {
        assert_eq!(EntryId::parse(text), None, "{text:?}");
        assert_eq!(EntryId::from_file_name(&format!("{text}.json")), None, "{text:?}");
    }
}

#[test]
fn only_the_exact_file_name_is_an_entry() {
    for name in [
        ID.to_owned(),
        format!("{ID}.JSON"),
        format!("{ID}.json.json"),
        format!("{ID}.json~"),
        format!("{ID}.json "),
        format!("{ID}.json\0"),
        format!(".{ID}.json"),
        format!("./{ID}.json"),
        format!("{ID}.jsonl"),
        format!("{ID}..json"),
        format!("{ID} (conflicted copy).json"),
        ".json".to_owned(),
    ] {
        assert_eq!(EntryId::from_file_name(&name), None, "{name:?}");
    }
}

#[test]
fn a_temporary_name_is_no_entry_name() {
    let id = EntryId::parse(ID).expect("a canonical id");
    assert_eq!(EntryId::from_file_name(&id.temporary_name()), None);
    assert!(id.temporary_name().starts_with('.'), "listings skip hidden names");
}

#[test]
fn token_is_32_lower_case_digits_and_nothing_else() {
    assert_eq!(token().to_string(), TOKEN);
    assert_eq!(Token::new([0; 16]).to_string(), "0".repeat(32));
    assert_eq!(Token::parse(&"f".repeat(32)), Some(Token::new([0xff; 16])));
    for text in [
        "",
        &TOKEN[1..],
        &format!("{TOKEN}0"),
        &TOKEN.to_uppercase(),
        &format!("+{}", &TOKEN[1..]),
        &format!(" {}", &TOKEN[1..]),
        &format!("0x{}", &TOKEN[2..]),
        &format!("{}\u{e9}", &TOKEN[2..]),
    ] {
        assert_eq!(Token::parse(text), None, "{text:?}");
    }
}

#[test]
fn flag_name_gives_back_what_it_was_made_of() {
    let flag = FlagName::new(&identity(), token());
    assert_eq!(flag.as_str(), format!("machine1.boot1.4026531836.4242.812345.{TOKEN}"));
    let parsed = FlagName::parse(flag.as_str()).expect("our own name");
    assert_eq!(parsed, flag);
    assert_eq!((parsed.pid, parsed.token, parsed.process_start()), (4242, token(), "812345"));
    assert_eq!(parsed.scope(), NameParts::of(&identity().scope));
    assert_eq!(flag.publish_name(), format!("{}.pub", flag.as_str()));
    assert_eq!(FlagName::parse(&flag.publish_name()), None, "a copy is no flag");
}

#[test]
fn unknown_parts_of_a_flag_name_are_hyphens() {
    let nobody = Identity { pid: 1, start: String::new(), scope: scope("", "", "") };
    let flag = FlagName::new(&nobody, token());
    assert_eq!(flag.as_str(), format!("-.-.-.1.-.{TOKEN}"));
    let parsed = FlagName::parse(flag.as_str()).expect("our own name");
    assert_eq!(parsed.process_start(), UNKNOWN_PART);
    assert_eq!(parsed.scope().machine, UNKNOWN_PART);
}

#[test]
fn parts_that_would_change_the_form_of_a_name_are_digested() {
    let odd = [
        "-",
        ".",
        "..",
        "a.b",
        "../../etc/passwd",
        "a/b",
        "pod-a",
        "\0",
        "line\nbreak",
        "say \"hi\"",
        "\u{e9}t\u{e9}",
        " ",
        "123456789012345678901",
        &"x".repeat(300),
    ];
    let digests: Vec<String> = odd.iter().map(|text| name_part(text)).collect();
    for (text, digest) in odd.iter().zip(&digests) {
        assert_eq!(digest.len(), 17, "{text:?} became {digest}");
        assert!(digest.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text:?} became {digest}");
        assert_eq!(*digest, name_part(text), "the same text has the same digest");
        let owner = Identity { pid: 7, start: (*text).into(), scope: scope(text, text, text) };
        let flag = FlagName::new(&owner, token());
        assert_eq!(FlagName::parse(flag.as_str()), Some(flag.clone()), "{text:?}");
        assert_eq!(flag.scope(), NameParts::of(&owner.scope));
    }
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest), "two texts have the digest {digest}");
    }
    assert_eq!(name_part("12345678901234567890"), "12345678901234567890");
}

#[test]
fn longest_flag_name_fits_into_a_directory_entry() {
    let long = "x".repeat(500);
    let owner = Identity { pid: u32::MAX, start: long.clone(), scope: scope(&long, &long, &long) };
    let flag = FlagName::new(&owner, Token::new([0xff; 16]));
    // Encrypting file systems leave 143 bytes.
    assert!(flag.publish_name().len() <= 143, "{} bytes", flag.publish_name().len());
}

#[test]
fn foreign_names_are_no_flags() {
    for name in [
        "",
        ".",
        "..",
        "README",
        ".DS_Store",
        ".nfs0000abcd",
        &format!("machine1.boot1.4026531836.4242.812345.{TOKEN}.pub"),
        &format!("machine1.boot1.4026531836.4242.812345.{TOKEN}."),
        &format!("machine1.boot1.4026531836.4242.812345.{}", TOKEN.to_uppercase()),
        "machine1.boot1.4026531836.4242.812345",
        "machine1.boot1.4026531836.4242.812345.",
        &format!("machine1.boot1.4026531836.4242.{TOKEN}"),
        &format!("machine1.boot1.4026531836.007.812345.{TOKEN}"),
        &format!("machine1.boot1.4026531836.+1.812345.{TOKEN}"),
        &format!("machine1.boot1.4026531836.-1.812345.{TOKEN}"),
        &format!("machine1.boot1.4026531836. 1.812345.{TOKEN}"),
        &format!("machine1.boot1.4026531836.4294967296.812345.{TOKEN}"),
        &format!("machine1.boot1.4026531836.1e3.812345.{TOKEN}"),
        &format!("machine1.boot1..4242.812345.{TOKEN}"),
        &format!(".boot1.4026531836.4242.812345.{TOKEN}"),
        &format!("--.boot1.4026531836.4242.812345.{TOKEN}"),
        &format!("pod-a.boot1.4026531836.4242.812345.{TOKEN}"),
        &format!("machine\u{e9}.boot1.4026531836.4242.812345.{TOKEN}"),
        &format!("123456789012345678901.boot1.4026531836.4242.812345.{TOKEN}"),
        &format!("machine1.boot1.4026531836.4242.812345.{TOKEN} (copy)"),
    ] {
        assert_eq!(FlagName::parse(name), None, "{name:?}");
    }
}

#[test]
fn ids_ascend_within_one_millisecond() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    world.set_clock(Time::new(1_760_000_000, 0));
    let pod = workspace.open(&world.start(1));
    let ids = pod.stage(&[MINIMAL; 500], None, Durability::None).expect("all are staged");
    assert!(ids.is_sorted_by(|earlier, later| earlier < later));
    assert!(ids.iter().all(|id| id.millis() - 1_760_000_000_000 <= 1));
    assert_eq!(pod.entry_ids().expect("the listing"), ids);
}

#[test]
fn a_clock_before_1970_gives_canonical_ids() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    world.set_clock(Time::new(-5, 0));
    let pod = workspace.open(&world.start(1));
    let ids = pod.stage(&[MINIMAL; 3], None, Durability::None).expect("all are staged");
    assert!(ids.is_sorted_by(|earlier, later| earlier < later));
    assert!(ids.iter().all(|id| EntryId::parse(&id.to_string()) == Some(*id)));
}

#[test]
fn two_workspace_values_never_give_the_same_id() {
    let workspace = TestWorkspace::new();
    let world = World::new();
    world.set_clock(Time::new(1_760_000_000, 0));
    let mut ids = Vec::new();
    for pid in 1..=50 {
        let pod = workspace.open(&world.start(pid));
        ids.extend(pod.stage(&[MINIMAL; 4], None, Durability::None).expect("all are staged"));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

/// No files of failed cases in the tree.
fn few_cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few_cases(32))]

    #[test]
    fn ids_ascend_whatever_the_clock_does(
        steps in prop::collection::vec((-5_000_i64..5_000, 1_usize..4), 1..24)
    ) {
        let workspace = TestWorkspace::new();
        let world = World::new();
        let pod = workspace.open(&world.start(1));
        let mut now = 1_760_000_000_000_i64;
        let mut latest = now;
        let mut ids: Vec<EntryId> = Vec::new();
        for (step, count) in steps {
            now += step;
            latest = latest.max(now);
            world.set_clock(Time::from_nanos(i128::from(now) * 1_000_000));
            ids.extend(pod.stage(&vec![MINIMAL; count], None, Durability::None).expect("staged"));
            // Counting on may borrow a millisecond from the future, not more.
            let last = ids.last().expect("an id").millis().cast_signed();
            prop_assert!(last <= latest + 1, "an id from the future: {last} at {latest}");
        }
        prop_assert!(ids.is_sorted_by(|earlier, later| earlier < later), "{ids:?}");
        for id in ids {
            prop_assert_eq!(EntryId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn text_is_an_id_exactly_if_it_is_printed_the_same(text in "\\PC{0,40}|[0-9a-fA-F-]{36}") {
        if let Some(id) = EntryId::parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn any_owner_has_a_flag_name_that_parses_and_is_one_path_component(
        pid in any::<u32>(), start in "\\PC{0,40}", machine in ".{0,40}", boot in ".{0,40}", ns in ".{0,40}",
        random in any::<[u8; 16]>()
    ) {
        let owner = Identity { pid, start, scope: scope(&machine, &boot, &ns) };
        let flag = FlagName::new(&owner, Token::new(random));
        prop_assert!(!flag.as_str().contains(['/', '\0', '\\']));
        prop_assert!(!flag.as_str().starts_with('.'));
        let parsed = FlagName::parse(flag.as_str());
        prop_assert_eq!(parsed.as_ref(), Some(&flag));
        prop_assert_eq!(flag.scope(), NameParts::of(&owner.scope));
    }
}
