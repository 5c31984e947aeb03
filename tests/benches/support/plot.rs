//! The cost of an entry over the size of the workspace, as a drawing.

use super::summary::{Figure, Summary, directory};
use super::tables::thousands;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fs;
use std::path::Path;

/// What is drawn, with its title.
const PANELS: [(&str, &str); 4] =
    [("stage", "stage"), ("snapshot", "snapshot"), ("run", "run"), ("cleanup", "release with cleanup")];

const SIZE: (u32, u32) = (960, 680);

/// Where a line's points come from: the file system, the implementation, and its colour.
type Line<'a> = (&'a str, &'a str, RGBColor);

/// Puts the drawing beside the summary, and into the documentation if that is wanted.
pub(crate) fn write(summary: &Summary, into_docs: bool) {
    let Some(svg) = growth(summary) else { return };
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for directory in std::iter::once(directory()).chain(into_docs.then_some(docs)) {
        fs::write(directory.join("growth.svg"), &svg).expect("written");
    }
}

/// The drawing as SVG; none if there are no figures.
fn growth(summary: &Summary) -> Option<String> {
    let figures = summary.section("growth");
    if figures.is_empty() {
        return None;
    }
    let mut places: Vec<&str> =
        figures.iter().filter(|figure| figure.unit == "us").filter_map(|figure| part(figure, 1)).collect();
    places.dedup();
    let colours =
        [[RGBColor(31, 119, 180), RGBColor(150, 190, 220)], [RGBColor(214, 39, 40), RGBColor(240, 160, 160)]];
    let lines: Vec<Line<'_>> = places
        .iter()
        .zip(colours)
        .flat_map(|(place, [strong, pale])| [(*place, "component", strong), (*place, "native", pale)])
        .collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).ok()?;
        let panels = area.split_evenly((2, 2));
        for (panel, (id, title)) in panels.iter().zip(PANELS) {
            let figures: Vec<&Figure> = figures.iter().filter(|figure| part(figure, 0) == Some(id)).collect();
            draw(panel, title, &figures, &lines)?;
        }
        area.present().ok()?;
    }
    Some(svg)
}

/// A part of a figure's name: its operation, its file system, its size.
fn part(figure: &Figure, number: usize) -> Option<&str> {
    figure.id.split('/').nth(number)
}

fn draw(
    panel: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    figures: &[&Figure],
    lines: &[Line<'_>],
) -> Option<()> {
    let points = |(place, implementation, _): &Line<'_>| -> Vec<(f64, f64)> {
        let point = |figure: &&Figure| {
            let size = part(figure, 2)?.parse().ok()?;
            Some((size, figure.median(implementation)?))
        };
        figures.iter().filter(|figure| part(figure, 1) == Some(place)).filter_map(point).collect()
    };
    let all: Vec<(f64, f64)> = lines.iter().flat_map(points).collect();
    let most = |pick: fn(&(f64, f64)) -> f64| all.iter().map(pick).fold(0.0, f64::max);
    let least = all.iter().map(|point| point.0).fold(f64::MAX, f64::min);
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("{title}, µs per entry"), ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(46)
        .build_cartesian_2d(
            (least..most(|point| point.0) * 1.05).log_scale(),
            0.0..most(|point| point.1) * 1.3,
        )
        .ok()?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_labels(5)
        .y_labels(6)
        .x_desc("entries staged")
        .x_label_formatter(&|size| thousands(*size))
        .y_label_formatter(&|time| format!("{time:.0}"))
        .draw()
        .ok()?;
    for line in lines {
        let (place, implementation, colour) = *line;
        let points = points(line);
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .ok()?
            .label(format!("{implementation}, {place}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled()))).ok()?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 12))
        .draw()
        .ok()
}
