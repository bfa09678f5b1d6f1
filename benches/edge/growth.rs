//! How the cost of one operation grows with what is stored: a table of fitted exponents, and pictures.

use std::path::PathBuf;

use crate::Size;
use crate::plot::Plot;
use crate::table::print;

/// Measures, prints the table, writes the pictures.
pub(crate) fn run(size: Size, measure: fn(Size) -> Vec<Plot>) {
    let dir = pictures(size);
    let (mut rows, mut files) = (Vec::new(), Vec::new());
    for plot in measure(size) {
        let file = format!("growth-{}.svg", plot.name);
        std::fs::write(dir.join(&file), plot.svg()).unwrap();
        files.push(file);
        for series in &plot.series {
            let list = |values: Vec<String>| values.join(" / ");
            rows.push(vec![
                series.name.clone(),
                list(series.points.iter().map(|(size, _)| short(*size)).collect()),
                list(series.points.iter().map(|(_, cost)| short(*cost)).collect()) + " " + plot.axes[1],
                format!("{:.2}", series.line().exponent),
                format!("{:.2}", series.upper().exponent),
                format!("{:.0}", series.goal),
                if series.is_good() { "good" } else { "STEEP" }.to_owned(),
            ]);
        }
    }
    print(&["one operation", "sizes", "cost", "exponent", "of the larger half", "goal ≤", "verdict"], &rows);
    println!(
        "\nLeast squares over the logarithms: 0 is the same at every size, 1 is proportional to it; up to 0.1 more is taken for the goal."
    );
    println!("In the build directory's `bench`: {}.", files.join(", "));
}

/// Where pictures go. Tiny runs must not replace those that were meant.
fn pictures(size: Size) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    // target/release/deps/edge
    let dir = exe.ancestors().nth(3).unwrap().join("bench").join(size.pick("quick", ""));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Three figures.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 && v % 1e6 == 0.0 => format!("{}M", v / 1e6),
        v if v >= 1e3 && v % 1e3 == 0.0 => format!("{}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
