//! What a payload says, item by item. Invariant: reading never fails; what isn't understood is left out
//! and said, and what stands beside it is read all the same.
//!
//! Values are looked at one by one and only as far as they are needed. A number that no `f64` holds, or
//! half a surrogate pair, is somebody's affair only where a text is looked for.

use crate::markdown::{fold, item};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A line for a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The kind of the record.
    pub kind: &'static str,
    /// What the record is about, on one line.
    pub topic: String,
    /// A list item in Markdown, on one line.
    pub line: String,
}

/// The items of a payload, in the order of the table in the crate's head and as they stand in their lists.
/// `segment_id` is where it comes from; `debug` gets a sentence for whatever is left out.
pub fn items(json: &str, segment_id: &str, mut debug: impl FnMut(String)) -> Vec<Item> {
    let mut items = Vec::new();
    let Some(payload) = Members::read(json) else {
        debug("it is no JSON object".into());
        return items;
    };
    each(&payload, "decisions", &mut debug, |decision| {
        let chosen = decision.text("chosen").ok_or("it has no text `chosen`")?;
        let mut text = chosen.clone();
        if let Some(rationale) = decision.text("rationale").filter(|text| !text.is_empty()) {
            text = format!("{text}, because: {rationale}");
        }
        let others: Vec<String> =
            decision.texts("options").into_iter().filter(|option| *option != chosen).collect();
        if !others.is_empty() {
            text = format!("{text} (other options: {})", others.join("; "));
        }
        items.push(Item::new("decision", chosen, &text));
        Ok(())
    });
    each(&payload, "discussions", &mut debug, |discussion| {
        let topic = discussion.text("topic").ok_or("it has no text `topic`")?;
        let points = discussion.texts("points");
        if points.is_empty() {
            return Err("it has no points that are text");
        }
        items.extend(points.iter().map(|point| Item::new("discussion", topic.clone(), point)));
        Ok(())
    });
    each(&payload, "attempts", &mut debug, |attempt| {
        let action = attempt.text("action").ok_or("it has no text `action`")?;
        let outcome = match attempt.raw("succeeded") {
            Some("true") => "worked",
            Some("false") => "failed",
            _ => "tried",
        };
        let text = match attempt.text("result").filter(|text| !text.is_empty()) {
            Some(result) => format!("{outcome}: {action}; result: {result}"),
            None => format!("{outcome}: {action}"),
        };
        items.push(Item::new("attempt", fold(segment_id), &text));
        Ok(())
    });
    each(&payload, "requests", &mut debug, |request| {
        let intent = request.text("intent").ok_or("it has no text `intent`")?;
        let text = match request.text("summary").filter(|text| !text.is_empty()) {
            Some(summary) => format!("{intent}: {summary}"),
            None => intent.clone(),
        };
        let topic = request.text("target").filter(|text| !text.is_empty()).unwrap_or(intent);
        items.push(Item::new("request", topic, &text));
        Ok(())
    });
    items
}

impl Item {
    fn new(kind: &'static str, topic: String, text: &str) -> Self {
        let topic = if topic.is_empty() { "untitled".into() } else { topic };
        Item { kind, topic, line: item(text) }
    }
}

/// Does something with each object of a list.
fn each(
    payload: &Members<'_>,
    name: &str,
    debug: &mut impl FnMut(String),
    mut with: impl FnMut(&Members<'_>) -> Result<(), &'static str>,
) {
    let Some(list) = payload.raw(name) else { return };
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(list) else {
        debug(format!("`{name}` is no list"));
        return;
    };
    for (index, value) in list.into_iter().enumerate() {
        let outcome = Members::read(value.get()).ok_or("it is no object").and_then(|object| with(&object));
        if let Err(reason) = outcome {
            debug(format!("`{name}[{index}]` is left out: {reason}"));
        }
    }
}

/// The members of an object, the values as they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value.get())
    }

    /// A string on one line, a number or a truth value as it is written.
    fn text(&self, name: &str) -> Option<String> {
        text(self.raw(name)?)
    }

    /// The texts of a list that aren't empty; of a single text that one.
    fn texts(&self, name: &str) -> Vec<String> {
        let Some(raw) = self.raw(name) else { return Vec::new() };
        let texts = match serde_json::from_str::<Vec<&RawValue>>(raw) {
            Ok(list) => list.into_iter().filter_map(|value| text(value.get())).collect(),
            Err(_) => Vec::from_iter(text(raw)),
        };
        texts.into_iter().filter(|text: &String| !text.is_empty()).collect()
    }
}

fn text(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(raw).ok().map(|text| fold(&text)),
        b'[' | b'{' | b'n' => None,
        _ => Some(raw.into()),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}
