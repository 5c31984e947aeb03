//! Laying JSON text out anew without interpreting it.

use consolidation_guest::json::{Layout, Malformed, append};
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

fn compact(json: &str) -> Result<String, Malformed> {
    let mut out = String::new();
    append(&mut out, json, Layout::Compact).map(|()| out)
}

fn pretty(json: &str) -> Result<String, Malformed> {
    let mut out = String::new();
    append(&mut out, json, Layout::Pretty { level: 0 }).map(|()| out)
}

#[test]
fn white_space_outside_strings_goes_and_inside_stays() {
    let text = " {\r\n\t\"a b\" : [ 1 , \" x\\t y \" ,{ } , [\n] ] }\n ";
    assert_eq!(compact(text).as_deref(), Ok("{\"a b\":[1,\" x\\t y \",{},[]]}"));
}

#[test]
fn structural_characters_in_strings_are_text() {
    let text = r#"{"{[,:]}":"a\"}]\\","b":"\\\\\"","c":"\/\b\f\n\r\t"}"#;
    assert_eq!(compact(text).as_deref(), Ok(text));
    let value: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(serde_json::from_str::<Value>(&pretty(text).expect("JSON")).expect("JSON"), value);
}

#[test]
fn pretty_layout_starts_at_the_level_it_is_given() {
    let mut out = String::from("  \"a\": ");
    append(&mut out, r#"[{"b":[]},1]"#, Layout::Pretty { level: 1 }).expect("JSON");
    assert_eq!(out, "  \"a\": [\n    {\n      \"b\": []\n    },\n    1\n  ]");
}

#[test]
fn numbers_and_literals_come_out_as_they_went_in() {
    let long = "7".repeat(400);
    for text in [
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "1e400",
        "1E-400",
        "-0",
        "0.0",
        "-0.0",
        "1.0",
        "1.10",
        "0.1e+01",
        &long,
        "true",
        "false",
        "null",
    ] {
        assert_eq!(compact(text).as_deref(), Ok(text));
        assert_eq!(
            pretty(&format!("[ {text} ,{text}]")).as_deref(),
            Ok(&*format!("[\n  {text},\n  {text}\n]"))
        );
        assert_eq!(compact(&format!("{{\"n\" :{text}\n}}")).as_deref(), Ok(&*format!("{{\"n\":{text}}}")));
    }
}

#[test]
fn lone_surrogates_are_refused_wherever_they_stand() {
    for text in [
        r#""\ud800""#,
        r#""\uDFFF""#,
        r#""\udc00\ud83d""#,
        r#""\ud83d x""#,
        r#""\ud83dx\ude00""#,
        r#""\ud83d\n\ude00""#,
        r#""\ud83d\u0041""#,
        r#""\ud83d\ud83d\ude00""#,
        r#""\ud83d\ude00\ude00""#,
        r#"{"a":[{"b":"x\\\ud800"}]}"#,
        r#"{"\ud800":1}"#,
    ] {
        assert_eq!(compact(text), Err(Malformed::LoneSurrogate), "{text}");
        assert_eq!(pretty(text), Err(Malformed::LoneSurrogate), "{text}");
    }
}

#[test]
fn pairs_and_what_only_looks_like_half_a_pair_pass() {
    for text in [
        r#""\ud83d\ude00""#,
        r#""\uD83D\uDE00\uD83D\uDE00""#,
        r#""\\ud800""#,
        r#""\\\\ud800""#,
        r#""\u0000\u001f\ud7ff\ue000\uffff""#,
        "\"\u{1f600}\u{2028}\u{feff}\"",
    ] {
        assert!(serde_json::from_str::<String>(text).is_ok(), "{text}");
        assert_eq!(compact(text).as_deref(), Ok(text));
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    const DEPTH: usize = 200_000;
    let text = format!("{}1{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    // Refused or not.
    if let Ok(out) = compact(&text) {
        assert_eq!(out, text);
    }
}

#[test]
fn text_that_is_cut_off_anywhere_does_not_panic() {
    let text = "{\"a\\u00e9\\\\\":[-1.5e3,\"\\ud83d\\ude00\u{e9}\",{}],\"b\":null}";
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let _ = compact(&text[..end]);
        let _ = pretty(&text[..end]);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["\\PC{0,12}", "[\"\\\\/{}\\[\\]:, \\n\\t\\x00-\\x1f\u{1f600}\u{2028}]{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        text.clone().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layouts_are_those_of_serde_json(value in any_json()) {
        let (short, long) = (value.to_string(), serde_json::to_string_pretty(&value).expect("JSON"));
        prop_assert_eq!(pretty(&short), Ok(long.clone()));
        prop_assert_eq!(pretty(&long), Ok(long.clone()));
        prop_assert_eq!(compact(&long), Ok(short.clone()));
        prop_assert_eq!(compact(&short), Ok(short.clone()));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}|[\\[\\]{}\",:\\\\u0-9d8]{0,40}") {
        let _ = compact(&text);
        let _ = pretty(&text);
    }
}
