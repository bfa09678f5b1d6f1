//! `routes`: the table of HTTP routes as the server uses it.

use super::args::Parsed;
use super::output::{Failure, print};
use crate::api::routes::{ROUTES, Route};

/// Prints it.
pub(super) fn run(parsed: &Parsed) -> Result<(), Failure> {
    let text = if parsed.has("markdown") { table() } else { plain(ROUTES) };
    print(format_args!("{text}"));
    Ok(())
}

/// Every route as a Markdown table, for the README.
pub(super) fn table() -> String {
    markdown(ROUTES)
}

fn plain(routes: &[Route]) -> String {
    let width = routes.iter().map(|route| route.path.len()).max().unwrap_or(0);
    routes
        .iter()
        .map(|r| format!("{:<7} {:<width$}  {:<11} {:>8}  {}\n", r.method.as_str(), r.path, access(r), body(r), r.summary))
        .collect()
}

fn markdown(routes: &[Route]) -> String {
    let mut out = String::from("| Method | Path | Access | Body | |\n|---|---|---|---|---|\n");
    for r in routes {
        out.push_str(&format!("| {} | `{}` | {} | {} | {} |\n", r.method, r.path, access(r), body(r), r.summary));
    }
    out
}

fn access(route: &Route) -> String {
    route.access.to_string()
}

/// The largest body.
fn body(route: &Route) -> String {
    match route.body_max {
        0 => "-".to_owned(),
        n if n % (1024 * 1024) == 0 => format!("{} MiB", n / (1024 * 1024)),
        n => format!("{} KiB", n.div_ceil(1024)),
    }
}
