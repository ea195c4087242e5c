//! Pictures of the results, as SVG.

use std::path::Path;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use crate::report::{Plot, PlotKind, readable};

const SIZE: (u32, u32) = (820, 420);
/// Told apart by everyone, on paper too.
const COLOURS: [RGBColor; 5] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167), RGBColor(90, 90, 90)];

/// Draws it into the folder.
pub(crate) fn draw(plot: &Plot, folder: &Path) {
    let path = folder.join(format!("{}.svg", plot.file));
    let root = SVGBackend::new(&path, SIZE).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let (least_x, most_x) = range(points().map(|(x, _)| *x));
    let (least_y, most_y) = range(points().map(|(_, y)| *y));
    let mut chart = ChartBuilder::on(&root);
    chart.caption(&plot.title, ("sans-serif", 18)).margin(14).x_label_area_size(44).y_label_area_size(64);
    // Each kind of axes is a type of its own.
    match plot.kind {
        PlotKind::LogX => {
            // The legend has the room above the lines.
            let axes = ((least_x * 0.8..most_x * 1.25).log_scale(), 0.0..most_y * 1.5);
            lines(plot, chart.build_cartesian_2d(axes.0, axes.1).unwrap());
        }
        PlotKind::LogY => {
            let axes = (0.0..most_x * 1.05, (least_y * 0.7..most_y * 4.0).log_scale());
            lines(plot, chart.build_cartesian_2d(axes.0, axes.1).unwrap());
        }
        PlotKind::Bars => {
            let axes = ((least_x..most_x * BAR).log_scale(), 0.0..most_y * 1.1);
            bars(plot, chart.build_cartesian_2d(axes.0, axes.1).unwrap());
        }
    }
    root.present().unwrap();
}

/// How much further to the right a bar ends than it begins.
pub(crate) const BAR: f64 = 2.0;

type Chart<'a, X, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>;

fn lines<X, Y>(plot: &Plot, mut chart: Chart<'_, X, Y>)
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    axes(plot, &mut chart);
    for (series, colour) in plot.series.iter().zip(COLOURS) {
        let style = colour.stroke_width(2);
        let line = LineSeries::new(series.points.iter().copied(), style).point_size(3);
        let drawn = chart.draw_series(line).unwrap().label(&series.name);
        drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    legend(&mut chart);
}

fn bars<X, Y>(plot: &Plot, mut chart: Chart<'_, X, Y>)
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    axes(plot, &mut chart);
    for (series, colour) in plot.series.iter().zip(COLOURS) {
        let style = colour.mix(0.6).filled();
        let bar = |(x, y): &(f64, f64)| Rectangle::new([(*x, 0.0), (*x * BAR, *y)], style);
        let drawn = chart.draw_series(series.points.iter().map(bar)).unwrap().label(&series.name);
        drawn.legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], style));
    }
    legend(&mut chart);
}

fn axes<X, Y>(plot: &Plot, chart: &mut Chart<'_, X, Y>)
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(&plot.x).y_desc(&plot.y).axis_desc_style(("sans-serif", 14)).label_style(("sans-serif", 12));
    let (x, y) = (|value: &f64| readable(*value), |value: &f64| readable(*value));
    mesh.x_label_formatter(&x).y_label_formatter(&y).light_line_style(WHITE).draw().unwrap();
}

fn legend<X, Y>(chart: &mut Chart<'_, X, Y>)
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut labels = chart.configure_series_labels();
    labels.background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3)).label_font(("sans-serif", 13));
    labels.position(SeriesLabelPosition::UpperLeft).draw().unwrap();
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.is_empty() { (1.0, 10.0) } else { (least.max(1e-6), most.max(least * 2.0).max(1e-5)) }
}
