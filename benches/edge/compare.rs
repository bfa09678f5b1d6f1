//! The product beside its baselines: bare hyper and axum, each alone on the server's part of the machine, measured in turns.

use std::time::Duration;

use crate::load::Load;
use crate::process::{Parts, Server};
use crate::table::{median, print, quantile};

/// Connections that are busy at once.
pub(crate) const CONNECTIONS: usize = 8;

/// The three of them. With the whole pipeline on: the product's limit of requests is so high that it only counts.
pub(crate) struct Three {
    pub(crate) product: Server,
    bare: Server,
    axum: Server,
    parts: Parts,
}

/// What a case measured, by server: product, bare hyper, axum.
pub(crate) struct Case {
    name: String,
    goal: &'static str,
    cpu: [Vec<f64>; 3],
    rate: [Vec<f64>; 3],
    micros: [Vec<f64>; 3],
}

impl Three {
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let parts = Parts::divide();
        Self {
            product: parts.server(|| Server::product(settings)),
            bare: parts.server(Server::baseline),
            axum: parts.server(Server::peer),
            parts,
        }
    }

    /// Measures in turns: `ask` makes so many requests per client of a server. The baselines are cheap: they get at least `enough`, so
    /// that their figures are steady.
    pub(crate) fn measure(
        &self,
        name: impl Into<String>,
        goal: &'static str,
        rounds: usize,
        (count, enough): (u64, u64),
        ask: impl Fn(&Server, u64) -> Load,
    ) -> Case {
        let mut case = Case { name: name.into(), goal, cpu: Default::default(), rate: Default::default(), micros: Default::default() };
        for round in 0..=rounds {
            for (at, server) in [&self.product, &self.bare, &self.axum].into_iter().enumerate() {
                let count = if at == 0 { count } else { count.max(enough) };
                if round == 0 {
                    // What all share is paid for before anything is measured.
                    ask(server, count / 10 + 1);
                    continue;
                }
                let before = server.cpu();
                let load = ask(server, count);
                case.cpu[at].push(micros(server.cpu() - before) / load.requests as f64);
                case.rate[at].push(load.requests as f64 / load.wall.as_secs_f64());
                case.micros[at].extend(load.micros);
            }
        }
        case
    }

    /// Prints what was measured.
    pub(crate) fn print(&self, what: &str, cases: &[Case], rounds: usize) {
        let three = |values: [f64; 3], digits: usize| values.map(|value| format!("{value:.digits$}")).join(" / ");
        let rows: Vec<_> = cases
            .iter()
            .map(|case| {
                let ratio = |to: usize| {
                    let of_each: Vec<f64> = case.cpu[0].iter().zip(&case.cpu[to]).map(|(ours, theirs)| ours / theirs).collect();
                    format!("{:.2}", median(&of_each))
                };
                let medians = |values: &[Vec<f64>; 3]| [0, 1, 2].map(|at| median(&values[at]));
                let p99 = [0, 1, 2].map(|at| quantile(&case.micros[at], 0.99));
                vec![
                    case.name.clone(),
                    three(medians(&case.cpu), 1),
                    ratio(1),
                    case.goal.to_owned(),
                    ratio(2),
                    three(medians(&case.rate), 0),
                    three(medians(&case.micros), 0),
                    three(p99, 0),
                ]
            })
            .collect();
        print(&[what, "CPU µs", "to bare hyper", "goal ≤", "to axum", "a second", "p50 µs", "p99 µs"], &rows);
        println!("\nWhere there are three: oxios-edge / bare hyper / axum. {rounds} rounds in turns, the ratio is the median of theirs;");
        println!("{CONNECTIONS} connections; {}; CPU is the server process's alone, the kernel's included.", self.parts.told());
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
