//! Plots as SVG: cost against size, both logarithmic, with the fitted lines; readable on a light and on a dark ground.

use std::fmt::Write;

use crate::fit::Series;

/// A picture of series with one unit.
pub(crate) struct Plot {
    /// Its file is `growth-NAME.svg`.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) title: &'static str,
    /// What sizes count, and what costs are measured in.
    pub(crate) axes: [&'static str; 2],
    /// What was measured.
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
/// Of the field within, from each side: left, right, top, bottom.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;

/// Colours that stand out from both grounds and from each other (Okabe and Ito's set, for eyes of every kind).
const STYLE: &str = "text{font:13px sans-serif;fill:#222}.t{font-size:15px}.g{stroke:#8884;stroke-width:1}.f{fill:none;stroke:#888}\
    path{fill:none;stroke-width:1.5;stroke-dasharray:6 4}.c0{color:#0072b2}.c1{color:#d55e00}.c2{color:#009e73}.c3{color:#cc79a7}\
    .c4{color:#b8860b}circle{fill:currentColor}path{stroke:currentColor}\
    @media(prefers-color-scheme:dark){svg{background:#181818}text{fill:#ddd}.c0{color:#56b4e9}.c1{color:#ff8c42}.c4{color:#f0e442}}";

/// One axis: the decades that it shows, and where they lie.
struct Axis {
    from: i32,
    to: i32,
    begin: f64,
    end: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, begin: f64, end: f64) -> Self {
        let decade = |value: f64| value.max(1e-9).log10();
        let from = values.clone().map(decade).fold(f64::INFINITY, f64::min).floor();
        let to = values.map(decade).fold(f64::NEG_INFINITY, f64::max).ceil();
        Self { from: from as i32, to: (to as i32).max(from as i32 + 1), begin, end }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        self.begin + (self.end - self.begin) * share.clamp(0.0, 1.0)
    }

    /// Each decade's place and name.
    fn marks(&self) -> impl Iterator<Item = (f64, String)> {
        (self.from..=self.to).map(|power| {
            let name = if (-3..=4).contains(&power) { format!("{}", 10_f64.powi(power)) } else { format!("1e{power}") };
            (self.place(10_f64.powi(power)), name)
        })
    }
}

impl Plot {
    /// The file's text.
    pub(crate) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::over(points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Axis::over(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title><style>{STYLE}</style>\n\
             <text class=\"t\" x=\"{LEFT}\" y=\"26\">{}</text>\n\
             <rect class=\"f\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"/>\n",
            self.title,
            self.title,
            WIDTH - LEFT - RIGHT,
            HEIGHT - TOP - BOTTOM
        );
        for (at, name) in x.marks() {
            let below = HEIGHT - BOTTOM;
            writeln!(out, "<line class=\"g\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{below}\"/>").unwrap();
            writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", below + 18.0).unwrap();
        }
        for (at, name) in y.marks() {
            writeln!(out, "<line class=\"g\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\"/>", WIDTH - RIGHT).unwrap();
            writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, at + 4.0).unwrap();
        }
        let (middle, beside) = ((LEFT + WIDTH - RIGHT) / 2.0, (TOP + HEIGHT - BOTTOM) / 2.0);
        writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 12.0, self.axes[0]).unwrap();
        writeln!(out, "<text transform=\"translate(18 {beside}) rotate(-90)\" text-anchor=\"middle\">{}</text>", self.axes[1]).unwrap();
        for (at, series) in self.series.iter().enumerate() {
            draw(&mut out, at, series, &x, &y);
        }
        out + "</svg>\n"
    }
}

/// Points, the line through them, and a line of the legend.
fn draw(out: &mut String, at: usize, series: &Series, x: &Axis, y: &Axis) {
    let line = series.line();
    writeln!(out, "<g class=\"c{}\">", at % 5).unwrap();
    for (size, cost) in &series.points {
        writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>", x.place(*size), y.place(*cost)).unwrap();
    }
    let ends = series.points.first().zip(series.points.last()).map(|(first, last)| [first.0, last.0]);
    if let Some([first, last]) = ends {
        let place = |size: f64| format!("{:.1} {:.1}", x.place(size), y.place(line.at(size)));
        writeln!(out, "<path d=\"M{} L{}\"/>", place(first), place(last)).unwrap();
    }
    let height = TOP + 20.0 + 18.0 * at as f64;
    writeln!(out, "<circle cx=\"{}\" cy=\"{:.1}\" r=\"4\"/>", LEFT + 16.0, height - 4.0).unwrap();
    writeln!(out, "<text x=\"{}\" y=\"{height:.1}\">{}: size ^ {:.2}</text></g>", LEFT + 28.0, series.name, line.exponent).unwrap();
}
