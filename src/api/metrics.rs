//! `GET /metrics` (Prometheus text) and `GET /api/metrics` (JSON): the same numbers twice. No label holds content, an id or a
//! name that a client chose.

use std::fmt::Write;
use std::sync::Arc;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use crate::api::routes::ROUTES;
use crate::api::{self, App, Call};
use crate::base::metrics::{BOUNDS_MICROS, Histogram};
use crate::http::error::HttpError;
use crate::http::{Body, Response};
use crate::sys::process;

/// Every number of the process.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MetricList {
    /// What is measured, by name.
    metrics: Vec<Metric>,
}

/// One thing that is measured.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Metric {
    /// Its name, with its unit.
    name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    kind: &'static str,
    /// What it means.
    help: &'static str,
    /// Its values.
    samples: Vec<Sample>,
}

/// One value.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Sample {
    /// What belongs to the name: empty, or `_bucket`, `_sum`, `_count` of a histogram.
    suffix: &'static str,
    /// Labels, name and value.
    labels: Vec<(&'static str, String)>,
    /// The value.
    value: f64,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<MetricList>("MetricList");
}

/// `GET /metrics`.
pub(crate) async fn text(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let mut response = Response::new(Body::full(write(&gather(&app))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}

/// `GET /api/metrics`.
pub(crate) async fn list(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    api::json(&MetricList { metrics: gather(&app) })
}

type Labels = Vec<(&'static str, String)>;

fn gather(app: &App) -> Vec<Metric> {
    let (m, usage, runs) = (&app.metrics, process::usage(), app.gateway.counts());
    let uptime = app.clock.monotonic().saturating_sub(app.started).as_secs_f64();
    let mut requests = metric("oxios_http_requests_total", "counter", "Requests by route and first digit of the status.");
    let mut took = metric("oxios_http_request_duration_seconds", "histogram", "From a request to the head of its answer.");
    for (i, counts) in m.routes.iter().enumerate() {
        let (method, path) = ROUTES.get(i).map_or(("-", "-"), |row| (row.method.as_str(), row.path));
        let labels = || vec![("method", method.to_owned()), ("route", path.to_owned())];
        let mut any = false;
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&counts.classes) {
            if count.value() > 0 {
                any = true;
                let mut labels = labels();
                labels.push(("status", class.to_owned()));
                requests.add(labels, count.value() as f64);
            }
        }
        if any {
            took.histogram(labels(), &counts.took);
        }
    }
    let mut calls = metric("oxios_model_calls_total", "counter", "Calls of models by how they ended.");
    let mut tokens = metric("oxios_model_tokens_total", "counter", "Tokens read (in) and written (out) by models.");
    let mut first = metric("oxios_model_first_piece_seconds", "histogram", "From a model call to the first piece of its answer.");
    for model in m.models() {
        let labels = || vec![("model", model.model.clone())];
        for (outcome, count) in model.calls.all() {
            calls.add([labels(), vec![("outcome", outcome.to_owned())]].concat(), count as f64);
        }
        tokens.add([labels(), vec![("direction", "in".to_owned())]].concat(), model.tokens_in.value() as f64);
        tokens.add([labels(), vec![("direction", "out".to_owned())]].concat(), model.tokens_out.value() as f64);
        first.histogram(labels(), &model.first_piece);
    }
    let mut run_took = metric("oxios_run_duration_seconds", "histogram", "From a permit to the end of a run, or to its question.");
    run_took.histogram(Vec::new(), &m.run_took);
    let counter = |name, help, value: u64| one(name, "counter", help, value as f64);
    let gauge = |name, help, value: usize| one(name, "gauge", help, value as f64);
    let memory = app.memory.counts();
    let mut build = metric("oxios_build_info", "gauge", "Which version runs.");
    build.add(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0);
    vec![
        build,
        one("oxios_uptime_seconds", "gauge", "Seconds since the start.", uptime),
        requests,
        took,
        words("oxios_runs_total", "Runs by how they left.", "outcome", m.runs.all()),
        run_took,
        gauge("oxios_runs_active", "Runs that hold a permit.", runs.active),
        gauge("oxios_runs_waiting", "Messages that wait for a permit or their lane.", runs.waiting),
        gauge("oxios_runs_parked", "Runs that wait for a person.", runs.parked),
        calls,
        tokens,
        first,
        words("oxios_tool_calls_total", "Tools that ran.", "tool", m.tools.all()),
        words(
            "oxios_budget_refusals_total",
            "Messages and model calls that a key's token budget refused.",
            "reason",
            m.budget_refusals.all(),
        ),
        words("oxios_approvals_total", "Questions to a person.", "status", m.approvals.all()),
        one("oxios_streams", "gauge", "Answers that are streams, open now.", m.streams.value() as f64),
        one("oxios_websockets", "gauge", "WebSockets, open now.", m.sockets.value() as f64),
        gauge("oxios_sessions_in_memory", "Sessions that are open in memory.", app.sessions.in_memory()),
        gauge("oxios_memory_entries", "What is remembered.", memory.total_entries),
        counter("oxios_events_total", "Events of the bus.", app.events.published()),
        counter("oxios_disk_written_bytes_total", "Bytes written to files.", m.bytes_written.value()),
        counter("oxios_disk_syncs_total", "Files and directories synced.", m.syncs.value()),
        counter("oxios_audit_records_total", "Records of the audit log.", m.audit_records.value()),
        counter("oxios_audit_lost_total", "Actions without a record (audit.on_failure is continue).", m.audit_lost.value()),
        one("process_resident_memory_bytes", "gauge", "Resident memory.", usage.resident_bytes as f64),
        one("process_cpu_seconds_total", "counter", "Processor time, user and system.", usage.cpu_seconds),
        one("process_open_fds", "gauge", "Open descriptors.", usage.descriptors as f64),
    ]
}

fn metric(name: &'static str, kind: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, help, samples: Vec::new() }
}

fn one(name: &'static str, kind: &'static str, help: &'static str, value: f64) -> Metric {
    let mut metric = metric(name, kind, help);
    metric.add(Vec::new(), value);
    metric
}

fn words(name: &'static str, help: &'static str, label: &'static str, all: impl Iterator<Item = (&'static str, u64)>) -> Metric {
    let mut metric = metric(name, "counter", help);
    for (word, count) in all {
        metric.add(vec![(label, word.to_owned())], count as f64);
    }
    metric
}

impl Metric {
    fn add(&mut self, labels: Labels, value: f64) {
        self.samples.push(Sample { suffix: "", labels, value });
    }

    /// Buckets are summed up on the way, as the format wants it.
    fn histogram(&mut self, labels: Labels, histogram: &Histogram) {
        let mut sum = 0;
        let bounds = BOUNDS_MICROS.iter().map(|micros| (*micros as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(histogram.buckets()) {
            sum += count;
            let labels = [labels.clone(), vec![("le", bound)]].concat();
            self.samples.push(Sample { suffix: "_bucket", labels, value: sum as f64 });
        }
        self.samples.push(Sample { suffix: "_sum", labels: labels.clone(), value: histogram.sum_micros() as f64 / 1e6 });
        self.samples.push(Sample { suffix: "_count", labels, value: sum as f64 });
    }
}

/// Prometheus text, version 0.0.4.
fn write(metrics: &[Metric]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for metric in metrics {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {}", metric.name, metric.help, metric.name, metric.kind);
        for sample in &metric.samples {
            let _ = write!(out, "{}{}", metric.name, sample.suffix);
            for (i, (name, value)) in sample.labels.iter().enumerate() {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = write!(out, "{}{name}=\"{value}\"", if i == 0 { '{' } else { ',' });
            }
            let _ = writeln!(out, "{} {}", if sample.labels.is_empty() { "" } else { "}" }, sample.value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_summed_up_and_labels_are_escaped() {
        let histogram = Histogram::default();
        histogram.took(std::time::Duration::from_micros(200));
        histogram.took(std::time::Duration::from_millis(2));
        let mut metric = metric("t", "histogram", "Help.");
        metric.histogram(vec![("model", "a\"b\\c".to_owned())], &histogram);
        let text = write(&[metric]);
        assert!(text.starts_with("# HELP t Help.\n# TYPE t histogram\nt_bucket{model=\"a\\\"b\\\\c\",le=\"0.00025\"} 1\n"), "{text}");
        assert!(text.contains("le=\"0.0025\"} 2\n") && text.contains("le=\"+Inf\"} 2\n"), "{text}");
        assert!(text.ends_with("t_sum{model=\"a\\\"b\\\\c\"} 0.0022\nt_count{model=\"a\\\"b\\\\c\"} 2\n"), "{text}");
    }
}
