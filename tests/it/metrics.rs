//! `/metrics` and `/api/metrics`: numbers that move, in a form that a foreign parser reads, without content.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::client::Ask;
use crate::support::model;
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::Setup;
use crate::support::sse::Sse;

#[tokio::test]
async fn the_numbers_move_and_hold_no_content() {
    let server = Setup::new().start();
    let client = server.client();
    client.post("/api/chat", &json!({"content": "remember canarymetric likes tea", "user_id": "canaryuser"})).await.expect(200);
    client.get("/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404);
    client.get("/api/canarypath").await.expect(404);
    // A run is counted when it has left, a moment after its answer was seen.
    let text = loop {
        let answer = client.get("/metrics").await.expect(200);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        if !answer.text().contains("\noxios_runs_total{outcome=\"done\"} 0\n") {
            break answer.text();
        }
    };
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
async fn calls_of_the_plain_model_are_counted_and_recorded_like_the_agents() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["Four."])).next(Reply::text(&["Fi", "ve."])).next(Reply::status(401, "{}"));
    model.next(Reply::text(&["Hel"]).wait(&gate).say("lo"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let path = "/v1/chat/completions";
    let mut body = json!({"model": "scripted", "messages": [{"role": "user", "content": "canaryplain"}]});
    client.post(path, &body).await.expect(200);
    body["stream"] = json!(true);
    client.post(path, &body).await.expect(200);
    client.post(path, &body).await.expect(502);
    let mut events = Sse::new(client.open(Ask::new("POST", path).json(&body)).await);
    gate.reached(1).await;
    events.next().await.unwrap();
    drop(events);
    // The call is dropped, and counted, when its connection closes.
    model.seen()[3].cut().await;
    let text = client.get("/metrics").await.expect(200).text();
    let value = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
        line.unwrap_or_else(|| panic!("{name} in {text}"))
    };
    for (outcome, count) in [("done", 2), ("failed", 1), ("cancelled", 1)] {
        assert_eq!(value(&format!("oxios_model_calls_total{{model=\"openai/scripted\",outcome=\"{outcome}\"}}")), count, "{outcome}");
    }
    let tokens = |direction: &str| value(&format!("oxios_model_tokens_total{{model=\"openai/scripted\",direction=\"{direction}\"}}"));
    assert_eq!((tokens("in"), tokens("out")), (22, 14), "twice what the scripted model says it used");
    assert_eq!(value("oxios_model_first_piece_seconds_count{model=\"openai/scripted\"}"), 3);
    assert!(!text.contains("canary"));
    let json = client.get("/api/metrics").await.expect(200).json();
    let calls = json["metrics"].as_array().unwrap().iter().find(|m| m["name"] == "oxios_model_calls_total").unwrap();
    assert!(calls["samples"].as_array().unwrap().iter().any(|s| s["value"] == 2.0), "{calls}");
    let recorded = client.get("/api/audit/entries?limit=500&what=POST%20/v1/chat/completions").await.expect(200).json();
    let outcomes: Vec<_> = recorded["items"].as_array().unwrap().iter().map(|e| e["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["200", "502", "200", "200"], "{recorded}");
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
