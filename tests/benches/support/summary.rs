//! The figures, and the one file that they all go to: `target/bench/summary.json`. Invariant: a run of some
//! sections replaces these and leaves the others as they were.

use super::machine::Machine;
use super::targets;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// All that is known.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) machine: Machine,
    /// By the name of the section.
    pub(crate) sections: BTreeMap<String, Section>,
}

/// The figures of one section.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Section {
    /// Of what tree.
    pub(crate) commit: String,
    pub(crate) figures: Vec<Figure>,
}

/// What was measured of one thing, of one implementation or several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Its name, with the file system and the size where there are several.
    pub(crate) id: String,
    /// In words.
    pub(crate) what: String,
    pub(crate) unit: String,
    pub(crate) values: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ratios: Vec<Ratio>,
}

/// One implementation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Value {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) spread: Spread,
    /// What the median is to be at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<f64>,
}

/// One implementation to another, round by round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) of: String,
    pub(crate) to: String,
    #[serde(flatten)]
    pub(crate) spread: Spread,
    /// What the median is to be at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<f64>,
}

/// Samples in three numbers: the median and the quartiles.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) q1: f64,
    pub(crate) q3: f64,
    pub(crate) samples: usize,
}

impl Spread {
    pub(crate) fn of(samples: &[f64]) -> Spread {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let position = share * sorted.len().saturating_sub(1) as f64;
            let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
            below + (above - below) * position.fract()
        };
        assert!(!sorted.is_empty(), "there is no sample");
        Spread { median: at(0.5), q1: at(0.25), q3: at(0.75), samples: sorted.len() }
    }

    /// What was counted and not sampled.
    pub(crate) fn exactly(value: f64) -> Spread {
        Spread { median: value, q1: value, q3: value, samples: 1 }
    }
}

impl Figure {
    pub(crate) fn new(id: &str, what: &str, unit: &str) -> Figure {
        let (values, ratios) = (Vec::new(), Vec::new());
        Figure { id: id.into(), what: what.into(), unit: unit.into(), values, ratios }
    }

    pub(crate) fn with(mut self, name: &str, spread: Spread) -> Figure {
        let target = targets::of_value(&self.id, name);
        self.values.push(Value { name: name.into(), spread, target });
        self
    }

    pub(crate) fn with_ratio(mut self, of: &str, to: &str, spread: Spread) -> Figure {
        let target = targets::of_ratio(&self.id, of, to);
        self.ratios.push(Ratio { of: of.into(), to: to.into(), spread, target });
        self
    }

    /// That of an implementation, if it was measured.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.name == name)
    }

    pub(crate) fn median(&self, name: &str) -> Option<f64> {
        self.value(name).map(|value| value.spread.median)
    }

    /// That of one implementation to another, if both were measured.
    pub(crate) fn ratio(&self, of: &str, to: &str) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.of == of && ratio.to == to)
    }

    /// For whoever waits.
    pub(crate) fn tell(&self) {
        let told = |name: &str, Spread { median, q1, q3, .. }: &Spread, target: Option<f64>| {
            let spread = if q1 == q3 { String::new() } else { format!(" ({q1:.2}..{q3:.2})") };
            let target = match target {
                Some(target) if *median > target => format!(" > {target} MISSED"),
                Some(target) => format!(" <= {target}"),
                None => String::new(),
            };
            format!("{name} {median:.2}{spread}{target}")
        };
        let values = self.values.iter().map(|value| told(&value.name, &value.spread, value.target));
        let ratios =
            self.ratios.iter().map(|ratio| told(&format!("/{}", ratio.to), &ratio.spread, ratio.target));
        let all: Vec<String> = values.chain(ratios).collect();
        println!("{:30} {:4} {}", self.id, self.unit, all.join("  "));
    }
}

impl Summary {
    /// Where it is kept.
    pub(crate) fn path() -> PathBuf {
        directory().join("summary.json")
    }

    /// What is known so far. A file that can't be read, of an earlier form, is begun anew.
    pub(crate) fn load() -> Summary {
        fs::read(Summary::path()).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    pub(crate) fn save(&self) {
        fs::create_dir_all(directory()).expect("a folder for the summary");
        let text = serde_json::to_string_pretty(self).expect("it is JSON");
        fs::write(Summary::path(), text + "\n").expect("written");
    }

    pub(crate) fn section(&self, name: &str) -> &[Figure] {
        self.sections.get(name).map_or(&[], |section| &section.figures)
    }
}

/// Of this package's build: the folder that holds `release/deps/<this program>`.
pub(crate) fn directory() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let target = program.ancestors().nth(3).map_or_else(|| Path::new("target").to_owned(), Path::to_owned);
    target.join("bench")
}
