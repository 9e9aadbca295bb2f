//! Plots as SVG, for a page that brings its own style ([`inline`]) or as a file of its own
//! ([`standalone`]). Everything is placed here; the templates only write it down.

use std::fmt::Write as _;

use askama::Template;

use super::axis::Scale;
use super::figure::{Figure, Plot, Point, Series, Span, Style};

/// Size of a plot, and the room that its labels take, in units of which twelve are a line of text.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 42.0;

/// Colours that the style sheet has.
const COLOURS: usize = 8;

/// Shapes of symbols.
const SHAPES: usize = 6;

/// Dash patterns, for more series than colours.
const DASHES: [&str; 3] = ["none", "6 3", "2 3"];

/// The style sheet of plots.
pub const STYLE: &str = include_str!("../../templates/plot.css");

/// A plot, placed.
#[derive(Template)]
#[template(path = "plot.svg")]
struct Drawing<'a> {
    title: &'a str,
    x_label: &'a str,
    /// Places of the ticks, and their labels.
    x_ticks: Vec<(String, String)>,
    y_ticks: Vec<(String, String)>,
    layers: Vec<Layer>,
}

/// A series, placed.
struct Layer {
    colour: usize,
    dashes: &'static str,
    band: String,
    line: String,
    bars: String,
    /// Outlines, and what the pointer is told.
    symbols: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "inline.svg")]
struct Inline<'a> {
    title: &'a str,
    body: String,
}

#[derive(Template)]
#[template(path = "standalone.svg")]
struct Standalone<'a> {
    width: f64,
    height: f64,
    caption: &'a str,
    style: &'a str,
    plots: Vec<(f64, f64, String)>,
    legend: Vec<Key<'a>>,
}

/// A line of a legend.
struct Key<'a> {
    x: f64,
    y: f64,
    swatch: String,
    label: &'a str,
}

#[derive(Template)]
#[template(path = "swatch.svg")]
struct Swatch {
    colour: usize,
    dashes: &'static str,
    symbol: String,
}

/// A plot for a page with [`STYLE`].
///
/// # Errors
/// When the template cannot be written, which takes no memory being left.
pub fn inline(plot: &Plot) -> askama::Result<String> {
    Inline { title: &plot.title, body: body(plot)? }.render()
}

/// The sample of a style in a legend, 28 × 14.
///
/// # Errors
/// As [`inline`].
pub fn swatch(style: Style) -> askama::Result<String> {
    let symbol = symbol(style, 14.0, 7.0);
    Swatch { colour: style.colour(), dashes: style.dashes(), symbol }.render()
}

/// A figure as a file: its plots in rows, the legend below.
///
/// # Errors
/// As [`inline`].
pub fn standalone(figure: &Figure) -> askama::Result<String> {
    let columns = match figure.plots.len() {
        0 | 1 => 1,
        2 | 4 => 2,
        _ => 3,
    };
    let place = |i: usize| ((i % columns) as f64 * WIDTH, (i / columns) as f64 * HEIGHT);
    let plots = figure.plots.iter().enumerate().map(|(i, plot)| {
        let (x, y) = place(i);
        Ok((x, y, body(plot)?))
    });
    let plots: Vec<_> = plots.collect::<askama::Result<_>>()?;
    let width = columns as f64 * WIDTH;
    let top = figure.plots.len().div_ceil(columns) as f64 * HEIGHT;
    let mut legend = Vec::new();
    let (mut x, mut y) = (LEFT, top + 8.0);
    for (style, label) in &figure.legend {
        // The width of a text is known to the browser alone: a generous guess.
        let needed = 34.0 + 7.0 * label.chars().count() as f64 + 18.0;
        if x > LEFT && x + needed > width {
            (x, y) = (LEFT, y + 20.0);
        }
        legend.push(Key { x, y, swatch: swatch(*style)?, label });
        x += needed;
    }
    let height = if legend.is_empty() { top } else { y + 26.0 };
    Standalone { width, height, caption: &figure.caption, style: STYLE, plots, legend }.render()
}

/// What is inside a plot's frame.
fn body(plot: &Plot) -> askama::Result<String> {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let all = |span: fn(&Point) -> Span| {
        points().flat_map(move |point| {
            let Span { at, ends } = span(point);
            let (low, high) = ends.unwrap_or((at, at));
            [at, low, high]
        })
    };
    let scales = (Scale::new(&plot.x, all(|p| p.x)), Scale::new(&plot.y, all(|p| p.y)));
    let mut drawing = Drawing {
        title: &plot.title,
        x_label: &plot.x.label,
        x_ticks: Vec::new(),
        y_ticks: Vec::new(),
        layers: Vec::new(),
    };
    if let (Some(x), Some(y)) = scales {
        let frame = Frame { x, y };
        let ticks = |scale: &Scale, count, place: &dyn Fn(f64) -> Option<f64>| {
            let placed = scale.ticks(count).into_iter();
            placed.filter_map(|(value, label)| Some((number(place(value)?), label))).collect()
        };
        drawing.x_ticks = ticks(&x, 6, &|value| frame.across(value));
        drawing.y_ticks = ticks(&y, 5, &|value| frame.down(value));
        drawing.layers = plot.series.iter().map(|series| frame.layer(series)).collect();
    }
    drawing.render()
}

/// From values to places in a plot.
struct Frame {
    x: Scale,
    y: Scale,
}

impl Frame {
    fn across(&self, value: f64) -> Option<f64> {
        self.x.unit(value).map(|unit| LEFT + unit * (WIDTH - LEFT - RIGHT))
    }

    fn down(&self, value: f64) -> Option<f64> {
        self.y.unit(value).map(|unit| HEIGHT - BOTTOM - unit * (HEIGHT - TOP - BOTTOM))
    }

    fn layer(&self, series: &Series) -> Layer {
        let style = series.style;
        let mut layer = Layer {
            colour: style.colour(),
            dashes: style.dashes(),
            band: String::new(),
            line: String::new(),
            bars: String::new(),
            symbols: Vec::new(),
        };
        if series.line {
            layer.line = self.line(&series.points);
            layer.band = self.band(&series.points);
        }
        for point in series.points.iter().filter(|_| series.symbols) {
            let (Some(x), Some(y)) = (self.across(point.x.at), self.down(point.y.at)) else {
                continue;
            };
            if !series.line {
                self.bars(point, x, y, &mut layer.bars);
            }
            layer.symbols.push((symbol(style, x, y), point.hint.clone()));
        }
        layer
    }

    /// Through all points; interrupted where one cannot be shown.
    fn line(&self, points: &[Point]) -> String {
        let mut path = String::new();
        let mut down = false;
        for point in points {
            let place = self.across(point.x.at).zip(self.down(point.y.at));
            if let Some((x, y)) = place {
                let _infallible =
                    write!(path, "{}{} {}", if down { 'L' } else { 'M' }, number(x), number(y));
            }
            down = place.is_some();
        }
        path
    }

    /// Between the ends of the upright intervals.
    fn band(&self, points: &[Point]) -> String {
        let edge = |end: fn((f64, f64)) -> f64| {
            let place = move |p: &Point| self.across(p.x.at).zip(self.down(end(p.y.ends?)));
            points.iter().filter_map(place).collect::<Vec<_>>()
        };
        let (low, high) = (edge(|ends| ends.0), edge(|ends| ends.1));
        if low.len() < 2 || low.len() != high.len() {
            return String::new();
        }
        let outline = low.iter().chain(high.iter().rev());
        let outline = outline.map(|(x, y)| format!("{} {}", number(*x), number(*y)));
        format!("M{}Z", outline.collect::<Vec<_>>().join("L"))
    }

    /// The intervals of a point, as a cross.
    fn bars(&self, point: &Point, x: f64, y: f64, path: &mut String) {
        let ends = |span: Span| span.ends;
        if let Some((low, high)) = ends(point.y).and_then(|(a, b)| self.down(a).zip(self.down(b))) {
            let _infallible = write!(path, "M{} {}V{}", number(x), number(low), number(high));
        }
        if let Some((low, high)) =
            ends(point.x).and_then(|(a, b)| self.across(a).zip(self.across(b)))
        {
            let _infallible = write!(path, "M{} {}H{}", number(low), number(y), number(high));
        }
    }
}

impl Style {
    fn colour(self) -> usize {
        self.0 % COLOURS
    }

    fn dashes(self) -> &'static str {
        DASHES[self.0 / COLOURS % DASHES.len()]
    }
}

/// The outline of a symbol around a place.
fn symbol(style: Style, x: f64, y: f64) -> String {
    let corners: &[(f64, f64)] = match (style.0 + style.0 / COLOURS) % SHAPES {
        0 => return format!("M{} {}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", number(x - 4.0), number(y)),
        1 => &[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)],
        2 => &[(0.0, -4.8), (4.6, 3.4), (-4.6, 3.4)],
        3 => &[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)],
        4 => &[(0.0, 4.8), (4.6, -3.4), (-4.6, -3.4)],
        _ => &[(-2.0, -5.0), (2.0, -5.0), (5.0, 0.0), (2.0, 5.0), (-2.0, 5.0), (-5.0, 0.0)],
    };
    let corners = corners.iter().map(|(dx, dy)| format!("{} {}", number(x + dx), number(y + dy)));
    format!("M{}Z", corners.collect::<Vec<_>>().join("L"))
}

/// A coordinate, short.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::super::figure::Axis;
    use super::*;

    fn plot(values: &[f64], title: &str) -> Plot {
        let point = |(i, y): (usize, &f64)| Point {
            x: (i as f64).into(),
            y: Span { at: *y, ends: Some((y - 1.0, y + 1.0)) },
            hint: format!("{y} </title>"),
        };
        let points: Vec<Point> = values.iter().enumerate().map(point).collect();
        let of = |line, style| Series { style, line, symbols: true, points: points.clone() };
        let series = vec![of(true, Style(0)), of(false, Style(9))];
        Plot { title: title.into(), x: Axis::default(), y: Axis::default(), series }
    }

    #[test]
    fn values_lie_where_the_axes_say() {
        let frame = Frame {
            x: Scale::new(&Axis::default(), [1.0, 3.0]).unwrap(),
            y: Scale::new(&Axis::default(), [1.0, 3.0]).unwrap(),
        };
        // The middle of the range is the middle of the frame, and up is more.
        assert!((frame.across(2.0).unwrap() - (LEFT + WIDTH - RIGHT) / 2.0).abs() < 1e-9);
        assert!((frame.down(2.0).unwrap() - (TOP + HEIGHT - BOTTOM) / 2.0).abs() < 1e-9);
        assert!(frame.down(3.0).unwrap() < frame.down(1.0).unwrap());
    }

    #[test]
    fn a_value_that_is_no_number_interrupts_the_line() {
        let svg = inline(&plot(&[1.0, 2.0, f64::NAN, 3.0, 4.0], "loss")).unwrap();
        let line = svg.lines().find(|line| line.contains("class=\"line")).unwrap();
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert!(!svg.contains("NaN"), "{svg}");
        // Error bars where no line joins the points.
        assert!(svg.contains("class=\"bars c1\"") && svg.contains("class=\"band c0\""), "{svg}");
    }

    #[test]
    fn names_are_text_and_nothing_else() {
        let hostile = "</text><script>alert(1)</script>";
        let plot = plot(&[1.0, 2.0], hostile);
        let caption = hostile.to_string();
        let legend = vec![(Style(0), hostile.to_string())];
        let figure = Figure { id: "a".into(), caption, plots: vec![plot.clone(), plot], legend };
        let svg = standalone(&figure).unwrap();
        assert!(!svg.contains("<script") && !svg.contains("</title></title>"), "{svg}");
        assert!(svg.contains("&#60;script&#62;"), "{svg}");
    }

    #[test]
    fn nothing_to_show_is_an_empty_frame() {
        let svg = inline(&plot(&[f64::NAN], "nothing")).unwrap();
        assert!(svg.contains("nothing") && !svg.contains("class=\"line"), "{svg}");
    }
}
