//! The drawing as SVG: one file, no fonts of its own, readable on paper.

use super::layout::{Point, Sized, lay_out};
use super::{Drawing, Kind, Shown};
use std::fmt::Write;

/// The size of a letter, of which all are as wide, and of a line of text.
const LETTER: f64 = 7.3;
const LINE: f64 = 16.0;
/// Space within a box and around the drawing.
const PADDING: f64 = 10.0;
const MARGIN: f64 = 24.0;
/// Space for the title, and for what the colours mean.
const TITLE: f64 = 34.0;
const LEGEND: f64 = 40.0;

const KINDS: [(Kind, &str); 4] = [
    (Kind::Input, "the chunk"),
    (Kind::Parameter, "parameter"),
    (Kind::PerRow, "for each row"),
    (Kind::Uniform, "once a launch"),
];

/// Fill and outline.
pub(super) fn colours(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Input => ("#d9ead3", "#4f8a3a"),
        Kind::Parameter => ("#fde8c4", "#b07d1c"),
        Kind::PerRow => ("#dbe7f6", "#3f6ea8"),
        Kind::Uniform => ("#eeeeee", "#777777"),
    }
}

impl Drawing {
    /// The drawing as a file of its own.
    pub fn svg(&self) -> String {
        let sized: Vec<_> = self.boxes.iter().map(sized).collect();
        let layout = lay_out(&sized);
        let legend: f64 = KINDS.iter().map(|(_, name)| legend_width(name)).sum();
        let title = self.title.len() as f64 * LETTER * 1.2;
        let inner = layout.width.max(legend).max(title);
        let (width, height) = (inner + 2.0 * MARGIN, layout.height + 2.0 * MARGIN + TITLE + LEGEND);
        let (left, top) = (MARGIN + (inner - layout.width) / 2.0, MARGIN + TITLE);
        let at = |(x, y): Point| (x + left, y + top);

        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\" font-size=\"12\" text-anchor=\"middle\">\n\
             <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555555\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
            width / 2.0,
            MARGIN + 6.0,
            escaped(&self.title)
        );
        // Lines first, so that boxes lie over them.
        for line in layout.lines.iter().flatten() {
            let points: Vec<_> = line.iter().copied().map(at).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "<path d=\"{}\" fill=\"none\" stroke=\"#555555\" marker-end=\"url(#arrow)\"/>",
                curve(&points)
            );
        }
        for (one, (size, &middle)) in self.boxes.iter().zip(sized.iter().zip(&layout.middles)) {
            text += &drawn(one, size, at(middle));
        }
        let mut x = (width - legend) / 2.0;
        for (kind, name) in KINDS {
            let (fill, outline) = colours(kind);
            let y = height - MARGIN - 12.0;
            let _ = writeln!(
                text,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"14\" height=\"14\" rx=\"3\" fill=\"{fill}\" stroke=\"{outline}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"start\">{name}</text>",
                x + 20.0,
                y + 11.0
            );
            x += legend_width(name);
        }
        text + "</svg>\n"
    }
}

fn legend_width(name: &str) -> f64 {
    20.0 + name.len() as f64 * LETTER + 16.0
}

fn sized(one: &Shown) -> Sized {
    let letters = one.lines.iter().map(|line| line.len()).max().unwrap_or(0);
    Sized {
        width: letters as f64 * LETTER + 2.0 * PADDING,
        height: one.lines.len() as f64 * LINE + PADDING,
        inputs: one.inputs.clone(),
    }
}

fn drawn(one: &Shown, size: &Sized, (x, y): Point) -> String {
    let (fill, outline) = colours(one.kind);
    let thickness = if one.is_output { 2.5 } else { 1.0 };
    let (left, top) = (x - size.width / 2.0, y - size.height / 2.0);
    let mut text = format!(
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"6\" fill=\"{fill}\" \
         stroke=\"{outline}\" stroke-width=\"{thickness}\"/>\n",
        size.width, size.height
    );
    for (number, line) in one.lines.iter().enumerate() {
        let weight = if number == 0 { " font-weight=\"bold\"" } else { "" };
        let baseline = top + PADDING / 2.0 + LINE * (number as f64 + 0.75);
        let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{baseline:.1}\"{weight}>{}</text>", escaped(line));
    }
    text
}

/// A curve through points that leaves each of them downwards.
fn curve(points: &[Point]) -> String {
    let mut path = points.first().map(|(x, y)| format!("M{x:.1} {y:.1}")).unwrap_or_default();
    for pair in points.windows(2) {
        let [(x, y), (next_x, next_y)] = [pair[0], pair[1]];
        let middle = (y + next_y) / 2.0;
        let _ = write!(path, "C{x:.1} {middle:.1} {next_x:.1} {middle:.1} {next_x:.1} {next_y:.1}");
    }
    path
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
