//! The figures as Markdown, for the terminal and for the documentation. Invariant: what stands between the
//! marks of a table, `<!-- figures: NAME -->` and `<!-- end of figures -->`, is made here and nowhere else.

use super::summary::{Figure, Summary, Value};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// One table.
pub(crate) struct Table {
    name: &'static str,
    pub(crate) markdown: String,
}

/// All tables of which there are figures.
pub(crate) fn all(summary: &Summary) -> Vec<Table> {
    type Make = fn(&Summary) -> String;
    let tables: [(&'static str, Make); 8] = [
        ("machine", machine),
        ("short", short),
        ("operations", |summary| compared(summary, "operations")),
        ("start", |summary| compared(summary, "start")),
        ("growth", growth),
        ("memory", |summary| alone(summary, &["memory"])),
        ("many", |summary| alone(summary, &["many", "contention"])),
        ("calls", calls),
    ];
    let made = tables.map(|(name, make)| Table { name, markdown: make(summary) });
    made.into_iter().filter(|table| !table.markdown.is_empty()).collect()
}

/// Puts the tables, and the plot, where they belong.
pub(crate) fn write_into_docs(summary: &Summary) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in ["README.md", "docs/performance.md"] {
        let path = project.join(file);
        let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        for Table { name, markdown } in all(summary) {
            let (begin, end) = (format!("<!-- figures: {name} -->\n"), "<!-- end of figures -->");
            let Some(from) = text.find(&begin).map(|position| position + begin.len()) else { continue };
            let to = text[from..].find(end).unwrap_or_else(|| panic!("{file}: the table {name} has no end"));
            text.replace_range(from..from + to, &format!("\n{markdown}\n\n"));
        }
        fs::write(&path, text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

fn machine(summary: &Summary) -> String {
    if summary.sections.is_empty() {
        return String::new();
    }
    format!("{}; commit {}.", summary.machine.describe(), summary.machine.commit)
}

/// What the README shows.
fn short(summary: &Summary) -> String {
    let operations = summary.section("operations").iter().filter(|figure| {
        let (operation, place) = (part(figure, 0), part(figure, 1));
        // Without a disk what is synchronised makes no difference, and with one that is all there is.
        (place == "tmpfs") != operation.ends_with("-durable") || operation == "acquire-release"
    });
    let start = summary.section("start").iter().filter(|figure| part(figure, 0) == "cold-start");
    rows_compared(operations.chain(start))
}

/// Implementations beside each other.
fn compared(summary: &Summary, section: &str) -> String {
    rows_compared(summary.section(section).iter())
}

fn rows_compared<'a>(figures: impl Iterator<Item = &'a Figure>) -> String {
    let mut table = String::new();
    for figure in figures {
        let value = |name| figure.value(name).map_or(String::new(), |value| told(value, &figure.unit));
        let ratio = |to| {
            figure.ratio("component", to).map_or(String::new(), |ratio| {
                targeted(format!("{:.2}", ratio.spread.median), ratio.spread.median, ratio.target)
            })
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} |",
            figure.what,
            part(figure, 1),
            value("component"),
            value("native"),
            value("original"),
            ratio("native"),
            ratio("original"),
        );
    }
    let head = "| | | component | native | original | to native | to original |\n\
                |---|---|---:|---:|---:|---:|---:|\n";
    headed(head, &table)
}

/// What nothing is compared with.
fn alone(summary: &Summary, sections: &[&str]) -> String {
    let mut table = String::new();
    for figure in sections.iter().flat_map(|section| summary.section(section)) {
        let size = thousands(part(figure, 1).parse().unwrap_or(0.0));
        let value = figure.value("component").map_or(String::new(), |value| told(value, &figure.unit));
        let _ = writeln!(table, "| {} | {size} | {value} |", figure.what);
    }
    headed("| | | |\n|---|---:|---:|\n", &table)
}

/// A line for each operation and implementation, a column for each size.
fn growth(summary: &Summary) -> String {
    let figures = summary.section("growth");
    let mut sizes: Vec<u64> = figures.iter().filter_map(|figure| part(figure, 2).parse().ok()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut table = String::new();
    for flat in figures.iter().filter(|figure| part(figure, 0) == "flat") {
        let (operation, place) = (part(flat, 1), part(flat, 2));
        for name in ["component", "native"] {
            let cells = sizes.iter().map(|size| {
                let id = format!("{operation}/{place}/{size}");
                let figure = figures.iter().find(|figure| figure.id == id);
                let value = figure.and_then(|figure| figure.value(name));
                format!(" {} |", value.map_or(String::new(), |value| told(value, "us")))
            });
            let cells: String = cells.collect();
            let flat = flat.value(name).map_or(String::new(), |value| told(value, "x"));
            let _ = writeln!(table, "| {operation} | {place} | {name} |{cells} {flat} |");
        }
    }
    let columns: String = sizes.iter().map(|size| format!(" {} |", thousands(*size as f64))).collect();
    let rule = "---:|".repeat(sizes.len() + 1);
    headed(&format!("| an entry of | | |{columns} the most to the first |\n|---|---|---|{rule}\n"), &table)
}

/// The system calls, with what they are made of.
fn calls(summary: &Summary) -> String {
    let figures = summary.section("calls");
    let mut table = String::new();
    for total in figures.iter().filter(|figure| figure.id.split('/').count() == 2) {
        let prefix = format!("{}/", total.id);
        let made_of = |name: &str| {
            let of_operation = figures.iter().filter(|figure| figure.id.starts_with(&prefix));
            of_operation
                .filter_map(|call| Some((call.median(name)?, call.what.as_str())))
                .collect::<Vec<(f64, &str)>>()
        };
        let list = |parts: &[(f64, &str)]| {
            let parts: Vec<String> =
                parts.iter().map(|(count, what)| format!("{} {what}", short_number(*count))).collect();
            parts.join(", ")
        };
        let mut own = made_of("component");
        own.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
        // Each of these is a phrase of its own.
        let least: Vec<String> = made_of("least")
            .iter()
            .map(|(count, what)| format!("{what} ({})", short_number(*count)))
            .collect();
        let count = |name| total.median(name).map_or(String::new(), short_number);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} |",
            total.what,
            count("component"),
            count("native"),
            count("original"),
            count("least"),
            list(&own),
            least.join("; "),
        );
    }
    let head = "| | component | native | original | least | the component's | the least |\n\
                |---|---:|---:|---:|---:|---|---|\n";
    headed(head, &table)
}

/// The table; nothing if it has no lines.
fn headed(head: &str, lines: &str) -> String {
    if lines.is_empty() { String::new() } else { format!("{head}{}", lines.trim_end()) }
}

/// A part of a figure's name: its operation, its place or size.
fn part(figure: &Figure, number: usize) -> &str {
    figure.id.split('/').nth(number).unwrap_or_default()
}

/// A value in a unit and with a precision that people can take in.
fn told(value: &Value, unit: &str) -> String {
    let number = value.spread.median;
    let text = match unit {
        "us" if number < 100.0 => format!("{number:.1} us"),
        "us" if number < 10_000.0 => format!("{number:.0} us"),
        "us" => format!("{:.1} ms", number / 1e3),
        "x" => format!("{number:.2}"),
        "" => short_number(number),
        unit if number < 100.0 => format!("{} {unit}", short_number(number)),
        unit => format!("{} {unit}", thousands(number)),
    };
    targeted(text, number, value.target)
}

/// With its target, in bold if that is missed.
fn targeted(text: String, number: f64, target: Option<f64>) -> String {
    match target {
        Some(target) if number > target => format!("**{text}** (≤ {target})"),
        Some(target) => format!("{text} (≤ {target})"),
        None => text,
    }
}

/// With two decimals at the most.
fn short_number(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// `10,000`.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
