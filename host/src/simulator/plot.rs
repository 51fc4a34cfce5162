//! The runs of a scenario as a drawing: the share of successes and the 99th percentile of latency over time, a line
//! for each pairing.

use std::fmt::Write;

use super::{Figures, Pairing, figures::Part, report::failover};

const WIDTH: f64 = 960.0;
const PANEL_HEIGHT: f64 = 240.0;
/// Around a panel: room for titles and axes.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const BETWEEN: f64 = 64.0;
const LEGEND_LINE: f64 = 20.0;
/// Entries beside each other in the legend.
const LEGEND_COLUMNS: usize = 3;

/// Okabe and Ito's colours, told apart with any eyes, but for black and yellow, which one background each swallows.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Once the colours are used up, lines differ by their dashes.
const DASHES: [&str; 4] = ["none", "7 4", "2 3", "10 3 2 3"];

/// An SVG document. `title` is shown above.
pub fn svg(title: &str, runs: &[(Pairing, Figures)]) -> String {
    let legend_lines = runs.len().div_ceil(LEGEND_COLUMNS);
    let legend_top = TOP + 2.0 * PANEL_HEIGHT + BETWEEN + 48.0;
    let height = legend_top + lines_height(legend_lines) + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{}</text>\n",
        escaped(title)
    );
    let end_s = runs.iter().filter_map(|(_, figures)| end_s(&figures.timeline)).fold(0.0, f64::max);
    let success = Panel { top: TOP, end_s, scale: success_scale(runs) };
    let latency = Panel { top: TOP + PANEL_HEIGHT + BETWEEN, end_s, scale: latency_scale(runs) };
    success.frame(&mut svg, "answered well within the limit, %");
    latency.frame(&mut svg, "99th percentile of latency, ms (logarithmic)");
    for (index, (_, figures)) in runs.iter().enumerate() {
        success.line(&mut svg, index, &figures.timeline, success_percent);
        latency.line(&mut svg, index, &figures.timeline, p99_ms);
    }
    for (index, (pairing, _)) in runs.iter().enumerate() {
        legend(&mut svg, index, legend_top, pairing);
    }
    svg.push_str("</svg>\n");
    svg
}

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:16px;font-weight:600}.axis{text-anchor:end}\
.time{text-anchor:middle}.paper{fill:#fff}.grid{stroke:#ddd}path,.key{fill:none;stroke-width:1.6}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.paper{fill:#161616}.grid{stroke:#3a3a3a}}";

/// From values to heights.
enum Scale {
    Linear {
        least: f64,
        most: f64,
    },
    /// In whole decades.
    Logarithmic {
        least: f64,
        most: f64,
    },
}

impl Scale {
    /// 0 at the bottom, 1 at the top.
    fn height(&self, value: f64) -> f64 {
        match self {
            Self::Linear { least, most } => ((value - least) / (most - least)).clamp(0.0, 1.0),
            Self::Logarithmic { least, most } => {
                ((value.max(*least) / least).log10() / (most / least).log10()).clamp(0.0, 1.0)
            }
        }
    }

    fn marks(&self) -> Vec<f64> {
        match self {
            Self::Linear { least, most } => {
                (0..=4).map(|mark| least + (most - least) * f64::from(mark) / 4.0).collect()
            }
            Self::Logarithmic { least, most } => std::iter::successors(Some(*least), |mark| Some(mark * 10.0))
                .take_while(|mark| *mark <= most * 1.01)
                .collect(),
        }
    }
}

struct Panel {
    top: f64,
    end_s: f64,
    scale: Scale,
}

impl Panel {
    fn x(&self, at_s: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * at_s / self.end_s.max(f64::MIN_POSITIVE)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL_HEIGHT * (1.0 - self.scale.height(value))
    }

    fn frame(&self, svg: &mut String, caption: &str) {
        let (right, bottom) = (WIDTH - RIGHT, self.top + PANEL_HEIGHT);
        put(svg, format_args!("<text x=\"{LEFT}\" y=\"{:.1}\">{caption}</text>\n", self.top - 8.0));
        for mark in self.scale.marks() {
            let y = self.y(mark);
            put(svg, format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"));
            put(
                svg,
                format_args!("<text class=\"axis\" x=\"{}\" y=\"{:.1}\">{}</text>\n", LEFT - 8.0, y + 4.0, short(mark)),
            );
        }
        for sixth in 0..=6 {
            let at_s = self.end_s * f64::from(sixth) / 6.0;
            let (x, y) = (self.x(at_s), bottom + 18.0);
            put(svg, format_args!("<text class=\"time\" x=\"{x:.1}\" y=\"{y:.1}\">{} s</text>\n", short(at_s)));
        }
    }

    fn line(&self, svg: &mut String, index: usize, timeline: &[Part], value: fn(&Part) -> Option<f64>) {
        let (colour, dashes) = look(index);
        put(svg, format_args!("<path stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" d=\""));
        // Where nothing was measured the line is broken.
        let mut pen = 'M';
        for part in timeline {
            match value(part) {
                Some(value) => {
                    put(svg, format_args!("{pen}{:.1} {:.1}", self.x(part.at_s), self.y(value)));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        svg.push_str("\"/>\n");
    }
}

fn success_percent(part: &Part) -> Option<f64> {
    // A share of what one part of the time has.
    #[expect(clippy::cast_precision_loss)]
    (part.requests > 0).then(|| 100.0 * part.successes as f64 / part.requests as f64)
}

fn p99_ms(part: &Part) -> Option<f64> {
    part.p99_us.map(|us| f64::from(us) / 1e3)
}

/// Down to the next ten below the worst, so that 99 % and 99.9 % can be told apart where all is well.
fn success_scale(runs: &[(Pairing, Figures)]) -> Scale {
    let worst = values(runs, success_percent).fold(100.0, f64::min);
    let least = if worst >= 99.0 { 99.0 } else { (worst / 10.0).floor() * 10.0 };
    Scale::Linear { least: least.min(99.0), most: 100.0 }
}

fn latency_scale(runs: &[(Pairing, Figures)]) -> Scale {
    let (least, most) =
        values(runs, p99_ms).fold((f64::MAX, 1.0), |(least, most), ms| (f64::min(least, ms), f64::max(most, ms)));
    let decade = |ms: f64, round: fn(f64) -> f64| 10_f64.powf(round(ms.log10()));
    let least = decade(least.clamp(1e-3, most), f64::floor);
    let most = decade(most, f64::ceil).max(least * 10.0);
    Scale::Logarithmic { least, most }
}

fn values(runs: &[(Pairing, Figures)], value: fn(&Part) -> Option<f64>) -> impl Iterator<Item = f64> {
    runs.iter().flat_map(|(_, figures)| &figures.timeline).filter_map(value)
}

/// The last part's end.
fn end_s(timeline: &[Part]) -> Option<f64> {
    let (first, last) = (timeline.first()?, timeline.last()?);
    Some(last.at_s + first.at_s)
}

fn legend(svg: &mut String, index: usize, top: f64, pairing: &Pairing) {
    let (colour, dashes) = look(index);
    let column = i32::try_from(index % LEGEND_COLUMNS).unwrap_or(0);
    let x = LEFT + f64::from(column) * (WIDTH - LEFT - RIGHT) / 3.0;
    let y = top + lines_height(index / LEGEND_COLUMNS);
    put(svg, format_args!("<line class=\"key\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" x1=\"{x:.1}\" "));
    put(svg, format_args!("x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", x + 32.0));
    let label = format!("{}, {}", pairing.balancer.label, failover(pairing));
    put(svg, format_args!("<text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n", x + 40.0, y + 4.0, escaped(&label)));
}

fn lines_height(lines: usize) -> f64 {
    LEGEND_LINE * f64::from(u32::try_from(lines).unwrap_or(u32::MAX))
}

fn look(index: usize) -> (&'static str, &'static str) {
    (COLOURS[index % COLOURS.len()], DASHES[index / COLOURS.len() % DASHES.len()])
}

/// As many digits as say something.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string can be written to");
}
