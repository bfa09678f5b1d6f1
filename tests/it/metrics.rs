//! `/metrics` and `/api/metrics`: numbers that move, in a form that a foreign parser reads, without content.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::model;
use crate::support::server::Setup;

#[tokio::test]
async fn the_numbers_move_and_hold_no_content() {
    let server = Setup::new().start();
    let client = server.client();
    client.post("/api/chat", &json!({"content": "remember canarymetric likes tea", "user_id": "canaryuser"})).await.expect(200);
    client.get("/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404);
    client.get("/api/canarypath").await.expect(404);
    let answer = client.get("/metrics").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    for line in [
        "oxios_http_requests_total{method=\"POST\",route=\"/api/chat\",status=\"2xx\"} 1",
        "oxios_http_requests_total{method=\"GET\",route=\"/api/sessions/{id}\",status=\"4xx\"} 1",
        "oxios_http_requests_total{method=\"-\",route=\"-\",status=\"4xx\"} 1",
        "oxios_http_request_duration_seconds_count{method=\"POST\",route=\"/api/chat\"} 1",
        "oxios_runs_total{outcome=\"done\"} 1",
        "oxios_tool_calls_total{tool=\"remember\"} 1",
        "oxios_memory_entries 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    let value =
        |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}"));
    assert!(value("oxios_disk_syncs_total") > 0.0 && value("oxios_disk_written_bytes_total") > 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 3.0);
    assert!(!text.contains("canary") && !text.contains("67e55044"), "{text}");
    let json = client.get("/api/metrics").await.expect(200).json();
    assert!(json["metrics"].as_array().unwrap().iter().any(|m| m["name"] == "oxios_runs_total"));
}

#[tokio::test]
async fn a_key_is_needed_unless_they_are_public() {
    let closed = Setup::new().start();
    closed.stranger().get("/metrics").await.expect(401);
    let open = Setup::new().config("[metrics]\npublic = true\n").start();
    assert!(open.stranger().get("/metrics").await.expect(200).text().contains("oxios_build_info"));
    open.stranger().get("/api/metrics").await.expect(401);
}

#[tokio::test]
async fn prometheus_own_parser_reads_them() {
    const SCRIPT: &str = "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as p\nf=list(p(sys.stdin.read()))\nprint(len(f), sum(len(m.samples) for m in f), sorted({m.type for m in f}))";
    let python = model::python().filter(|python| {
        Command::new(python).args(["-c", "import prometheus_client"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    });
    let Some(python) = python else { return model::skip("prometheus_own_parser_reads_them", "prometheus-client from PyPI") };
    let server = Setup::new().start();
    let client = server.client();
    client.post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    let text = client.get("/metrics").await.expect(200).text();
    let mut child = Command::new(python).args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("['counter', 'gauge', 'histogram']"), "{said}");
    let families: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(families, text.lines().filter(|l| l.starts_with("# TYPE")).count());
}
