//! What the figures are to be at the most. Invariant: a target is written down here and nowhere else; what is
//! printed, drawn and kept takes it from here.

/// Of an implementation to another, by the first part of a figure's name.
const RATIOS: [(&str, &str, f64); 8] = [
    ("acquire-release", "native", 1.25),
    ("stage", "native", 1.2),
    ("stage-durable", "native", 1.2),
    ("cleanup", "native", 1.2),
    ("cleanup-durable", "native", 1.2),
    ("snapshot", "native", 1.3),
    ("snapshot", "original", 1.0),
    ("cold-start", "native", 2.5),
];

/// Of the component itself, in the figure's unit.
const VALUES: [(&str, f64); 5] = [
    ("instantiate", 50.0),
    ("component-size", 200.0),
    ("memory-status", 64.0),
    ("memory-run", 64.0),
    ("flat", 1.3),
];

/// What the ratio of two implementations is to be at the most.
pub(crate) fn of_ratio(figure: &str, of: &str, to: &str) -> Option<f64> {
    let found = RATIOS.iter().find(|(name, other, _)| *name == operation(figure) && *other == to);
    found.filter(|_| of == "component").map(|(_, _, target)| *target)
}

/// What the figure of an implementation is to be at the most.
pub(crate) fn of_value(figure: &str, of: &str) -> Option<f64> {
    let found = VALUES.iter().find(|(name, _)| *name == operation(figure));
    found.filter(|_| of == "component").map(|(_, target)| *target)
}

/// The first part of a figure's name; the others are the place and the size.
fn operation(figure: &str) -> &str {
    figure.split('/').next().unwrap_or(figure)
}
