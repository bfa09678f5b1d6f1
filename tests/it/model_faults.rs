//! What a real model server will not do on demand: every fault has a defined end.

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::{Server, Setup};

const SESSION: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5d01";

async fn say(client: &Client, content: &str) -> Answer {
    client.post("/api/chat", &json!({"content": content, "session_id": SESSION})).await
}

async fn last_answer(server: &Server) -> Value {
    let detail = server.client().get(&format!("/api/sessions/{SESSION}")).await.expect(200).json();
    detail["agent_responses"].as_array().unwrap().last().unwrap().clone()
}

/// The run failed as a model's fault, kept `text`, and the conversation goes on.
async fn check_failed(model: &Scripted, server: &Server, text: &str) {
    let kept = last_answer(server).await;
    assert_eq!((&kept["outcome"], &kept["content"]), (&json!("failed"), &json!(text)));
    model.next(Reply::text(&["recovered"]));
    assert_eq!(say(&server.client(), "and now?").await.expect(200).json()["reply"], "recovered");
}

#[tokio::test]
async fn an_error_before_the_first_token_is_tried_again() {
    for status in [500, 502, 503, 529] {
        let model = Scripted::start();
        model.next(Reply::status(status, "oops")).next(Reply::status(status, "oops")).next(Reply::text(&["third time"]));
        let server = Setup::new().openai(&model).start();
        assert_eq!(say(&server.client(), "try").await.expect(200).json()["reply"], "third time");
    }
}

#[tokio::test]
async fn at_most_two_retries_then_502() {
    let model = Scripted::start();
    for _ in 0..3 {
        model.next(Reply::status(500, r#"{"error":{"message":"internal-canary"}}"#));
    }
    let server = Setup::new().openai(&model).start();
    let error = say(&server.client(), "try").await.expect(502).error();
    assert!(!error.contains("internal-canary"), "{error}");
    check_failed(&model, &server, "").await;
}

#[tokio::test]
async fn a_429_is_tried_again_when_the_model_says() {
    let model = Scripted::start();
    model.next(Reply::status(429, "slow down").header("retry-after", "1")).next(Reply::text(&["thanks"]));
    let server = Setup::new().openai(&model).start();
    let started = std::time::Instant::now();
    assert_eq!(say(&server.client(), "try").await.expect(200).json()["reply"], "thanks");
    assert!(started.elapsed().as_millis() >= 950, "Retry-After is respected: {:?}", started.elapsed());
}

#[tokio::test]
async fn the_fallback_answers_when_the_first_model_cannot() {
    let model = Scripted::start();
    model.on("\"scripted\"", Reply::status(404, r#"{"error":{"message":"no such model"}}"#));
    model.on("\"second\"", Reply::text(&["from the second"]));
    let server = Setup::new().openai(&model).env("OXIOS_ENGINE__FALLBACK_MODELS", "openai/second").start();
    assert_eq!(say(&server.client(), "try").await.expect(200).json()["reply"], "from the second");
    assert_eq!(model.seen().last().unwrap().body["model"], "second");
    let records = server.client().sse(&format!("/api/sessions/{SESSION}/events?after=0&until=idle")).await.rest().await;
    let usage = records.iter().find(|r| r["kind"] == "usage").expect("usage is recorded");
    assert_eq!(usage["model"], "openai/second");
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(11), &json!(7)));
}

#[tokio::test]
async fn the_offline_fallback_keeps_a_box_working_while_the_uplink_is_down() {
    let model = Scripted::start();
    let server = Setup::new().openai(&model).env("OXIOS_ENGINE__FALLBACK_MODELS", "offline").start();
    model.stop();
    let answer = say(&server.client(), "Hello there").await.expect(200).json();
    assert!(!answer["reply"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_key_or_model_is_said_clearly_and_not_tried_again() {
    for (status, word) in [(401, "key"), (403, "key"), (404, "model"), (400, "")] {
        let model = Scripted::start();
        model.next(Reply::status(status, r#"{"error":{"message":"upstream-canary"}}"#));
        let server = Setup::new().openai(&model).start();
        let error = say(&server.client(), "try").await.expect(502).error();
        assert!(error.contains(word), "{status}: {error:?} says what to fix");
        assert_eq!(model.seen().len(), 1, "{status}: trying again cannot help");
    }
}

#[tokio::test]
async fn a_broken_stream_fails_and_keeps_the_partial_text() {
    let model = Scripted::start();
    model.next(Reply::text(&["half ", "an answer"]).then(Do::Break));
    let server = Setup::new().openai(&model).start();
    say(&server.client(), "go").await.expect(502).error();
    check_failed(&model, &server, "half an answer").await;
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_text_is_tried_again() {
    let model = Scripted::start();
    model.next(Reply::new().then(Do::Break)).next(Reply::text(&["second attempt"]));
    let server = Setup::new().openai(&model).start();
    assert_eq!(say(&server.client(), "go").await.expect(200).json()["reply"], "second attempt");
}

#[tokio::test]
async fn a_stalled_stream_is_given_up() {
    let model = Scripted::start();
    model.next(Reply::text(&["then nothing"]).then(Do::Stall));
    let server = Setup::new().openai(&model).env("OXIOS_ENGINE__STALL_TIMEOUT_SECS", "1").start();
    say(&server.client(), "go").await.expect(502).error();
    model.request(1).await.cut().await;
    check_failed(&model, &server, "then nothing").await;
}

#[tokio::test]
async fn a_model_that_never_answers_is_given_up() {
    // The system accepts the connection; nobody ever says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Setup::new()
        .env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/silent")
        .env("OXIOS_ENGINE__BASE_URL", format!("http://{}/v1", silent.local_addr().unwrap()))
        .env("OXIOS_ENGINE__FIRST_BYTE_TIMEOUT_SECS", "1")
        .start();
    say(&server.client(), "go").await.expect(502).error();
}

#[tokio::test]
async fn garbage_in_the_stream_is_a_failure_not_a_crash() {
    for (what, garbage) in [
        ("no JSON", "data: {\"choices\": [{]}\n\n".as_bytes().to_vec()),
        ("another shape", b"data: {\"choices\": \"none\"}\n\n".to_vec()),
        ("an error object", b"data: {\"error\": {\"message\": \"oom-canary\"}}\n\n".to_vec()),
        ("a deep one", format!("data: {}1{}\n\n", "[".repeat(5000), "]".repeat(5000)).into_bytes()),
    ] {
        let model = Scripted::start();
        model.next(Reply::text(&["so far"]).then(Do::Raw(garbage)).then(Do::Break));
        let server = Setup::new().openai(&model).start();
        let answer = say(&server.client(), "go").await;
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        check_failed(&model, &server, "so far").await;
    }
}

#[tokio::test]
async fn odd_but_lawful_streams_are_read() {
    let model = Scripted::start();
    // Comments, CRLF, a missing space, unknown fields, a chunk without choices, null content, several events in one chunk.
    let odd = ": hello\r\n\r\nevent: message\r\ndata:{\"choices\":[{\"delta\":{\"content\":null,\"refusal\":null},\"index\":0}],\"x\":1}\r\n\r\n\
               data: {\"choices\":[],\"usage\":null}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"o\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"dd\"}}]}\n\n";
    model.next(Reply::new().then(Do::Raw(odd.as_bytes().to_vec())));
    let server = Setup::new().openai(&model).start();
    assert_eq!(say(&server.client(), "go").await.expect(200).json()["reply"], "odd");
}

#[tokio::test]
async fn slow_tokens_arrive_one_by_one() {
    let model = Scripted::start();
    let gates: Vec<Gate> = (0..5).map(|_| Gate::new()).collect();
    let mut reply = Reply::new();
    for (n, gate) in gates.iter().enumerate() {
        reply = reply.say(&format!("t{n} ")).wait(gate);
    }
    model.next(reply);
    let server = Setup::new().openai(&model).start();
    let mut socket = crate::support::ws::Ws::chat(&server.client()).await;
    socket.say("go", None).await;
    for (n, gate) in gates.iter().enumerate() {
        let token = socket.until("token").await.pop().unwrap();
        assert_eq!(token["content"], format!("t{n} "), "each piece before the next one is made");
        gate.open();
    }
    socket.until("done").await;
}

/// A tool call in pieces is put together, run, and its result goes back to the model.
#[tokio::test]
async fn a_tool_call_in_pieces_is_run() {
    for anthropic in [false, true] {
        let model = Scripted::start();
        model.next(Reply::text(&["Let me look. "]).call("call_7", "list_files", &json!({"dir": ""})));
        model.next(Reply::text(&["There is one file."]));
        let setup = if anthropic { Setup::new().anthropic(&model) } else { Setup::new().openai(&model) };
        let server = setup.start();
        let folder = server.home().join("workspace/files");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tool-canary.txt"), "x").unwrap();
        let answer = say(&server.client(), "what files are there?").await.expect(200).json();
        assert!(answer["reply"].as_str().unwrap().ends_with("There is one file."), "{answer}");
        let told = model.seen()[1].told();
        assert!(told.contains("tool-canary.txt") && told.contains("call_7"), "{told}");
        let records = server.client().sse(&format!("/api/sessions/{SESSION}/events?after=0&until=idle")).await.rest().await;
        let call = records.iter().find(|r| r["kind"] == "tool_call").expect("the call is in the log");
        assert_eq!((&call["name"], &call["call_id"], &call["risky"]), (&json!("list_files"), &json!("call_7"), &json!(false)));
        let result = records.iter().find(|r| r["kind"] == "tool_result").expect("and its result");
        assert_eq!(result["outcome"], "ok");
    }
}

/// Issue 2: arguments cut off by a token limit are invalid JSON, and sending them back makes llama.cpp answer 500.
#[tokio::test]
async fn tool_arguments_that_are_no_json_are_never_sent_back_as_they_are() {
    let model = Scripted::start();
    let cut = Do::Call("call_1".into(), "read_file".into(), vec!["{\"path\": \"a.t".into()]);
    model.next(Reply::new().then(cut).then(Do::Finish("length"))).next(Reply::text(&["I could not."]));
    let server = Setup::new().openai(&model).start();
    let answer = say(&server.client(), "read a.txt").await.expect(200).json();
    assert!(answer["reply"].as_str().unwrap().contains("I could not."), "{answer}");
    for message in model.seen()[1].body["messages"].as_array().unwrap() {
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let arguments = call["function"]["arguments"].as_str().expect("arguments are a text");
            assert!(serde_json::from_str::<Value>(arguments).is_ok_and(|a| a.is_object()), "{arguments}");
        }
    }
}

#[tokio::test]
async fn unknown_tools_and_wrong_arguments_are_told_to_the_model() {
    let model = Scripted::start();
    model.next(Reply::tool("rm_rf", &json!({"path": "/"})));
    model.next(Reply::tool("read_file", &json!({"path": "../../token"})));
    model.next(Reply::tool("read_file", &json!({"path": ["a"]})));
    model.next(Reply::tool("read_file", &json!({"path": "/etc/passwd"})));
    model.next(Reply::text(&["I give up."]));
    let server = Setup::new().openai(&model).start();
    let answer = say(&server.client(), "break out").await.expect(200).json();
    assert!(answer["reply"].as_str().unwrap().contains("I give up."));
    let told = model.seen().last().unwrap().told();
    assert!(!told.contains(server.key()), "the key file was not read");
    assert!(!told.contains("root:"), "/etc/passwd was not read");
    let records = server.client().sse(&format!("/api/sessions/{SESSION}/events?after=0&until=idle")).await.rest().await;
    let results: Vec<_> = records.iter().filter(|r| r["kind"] == "tool_result").collect();
    assert_eq!(results.len(), 4, "{results:?}");
    assert!(results.iter().all(|r| r["outcome"] == "error"), "{results:?}");
}

#[tokio::test]
async fn a_model_that_calls_tools_for_ever_is_stopped_by_its_budget() {
    let model = Scripted::start();
    model.always(Reply::tool("list_files", &json!({"dir": ""})));
    let server = Setup::new().openai(&model).env("OXIOS_ORCHESTRATOR__MAX_MODEL_CALLS", "5").start();
    let answer = say(&server.client(), "loop").await;
    assert!(matches!(answer.status, 200 | 502), "{} {}", answer.status, answer.text());
    assert!(model.seen().len() <= 6, "{} calls with a budget of 5", model.seen().len());
}

/// `base/limits.rs`: the visible answer of one turn is at most 1 MiB; the model is stopped there.
#[tokio::test]
async fn an_endless_answer_is_cut_and_the_model_stopped() {
    let model = Scripted::start();
    let mut reply = Reply::new();
    for _ in 0..80 {
        reply = reply.say(&"endless ".repeat(2048));
    }
    model.next(reply.then(Do::Stall));
    let server = Setup::new().openai(&model).start();
    let answer = say(&server.client(), "talk").await;
    assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
    let kept = last_answer(&server).await;
    let length = kept["content"].as_str().unwrap().len();
    assert!((900 * 1024..=1024 * 1024).contains(&length), "{length} bytes kept");
    model.request(1).await.cut().await;
}

/// A model server that cannot prove who it is gets no prompt and no key.
#[tokio::test]
async fn an_unknown_certificate_is_refused_before_anything_is_said() {
    let home = crate::support::server::TempDir::new();
    let (key, cert) = (home.path().join("key.pem"), home.path().join("cert.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return crate::support::model::skip("an_unknown_certificate", "openssl");
    }
    let mut tls = std::process::Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&cert)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // It says `ACCEPT 127.0.0.1:port` once it listens, then whatever it is sent.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tls.stdout.take().unwrap()));
    let address =
        lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).expect("it listens");
    let server = Setup::new()
        .env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/x")
        .env("OXIOS_ENGINE__BASE_URL", format!("https://{address}/v1"))
        .env("OPENAI_API_KEY", crate::support::server::MODEL_KEY)
        .start();
    let error = say(&server.client(), "prompt-canary").await.expect(502).error();
    assert!(!error.is_empty());
    tls.kill().unwrap();
    tls.wait().unwrap();
    let heard: String = lines.map_while(Result::ok).collect();
    assert!(!heard.contains("prompt-canary") && !heard.contains(crate::support::server::MODEL_KEY), "{heard}");
}

/// THREATS 21: a server that redirects leads nobody to an address that is not in the configuration.
#[tokio::test]
async fn a_redirect_of_a_model_server_is_not_followed_and_the_key_goes_nowhere_else() {
    for status in [301, 302, 307, 308] {
        let (model, elsewhere) = (Scripted::start(), Scripted::start());
        elsewhere.always(Reply::text(&["stolen"]));
        let to = format!("http://{}/v1/chat/completions", elsewhere.address());
        model.always(Reply::status(status, "{}").header("location", &to));
        let server = Setup::new().openai(&model).start();
        let answer = say(&server.client(), "secret").await.expect(502);
        assert!(answer.error().contains("redirects elsewhere, which is not followed"), "{}", answer.error());
        assert!(elsewhere.seen().is_empty(), "{status}");
    }
}

/// THREATS 21: no tool that a model is offered takes an address, so that none can be chosen for it.
#[tokio::test]
async fn no_tool_of_ours_takes_an_address() {
    let model = Scripted::start();
    model.phase("interview", Reply::tool("start_task", &json!({"goal": "g", "acceptance_criteria": []})));
    model.always(Reply::text(&["done"]));
    let server = Setup::new().openai(&model).start();
    say(&server.client(), "go").await.expect(200);
    let mut seen = std::collections::BTreeSet::new();
    for request in model.seen() {
        for tool in request.body["tools"].as_array().into_iter().flatten() {
            let function = &tool["function"];
            seen.insert(function["name"].as_str().unwrap().to_owned());
            for (name, schema) in function["parameters"]["properties"].as_object().into_iter().flatten() {
                let text = format!("{name} {schema}").to_lowercase();
                assert!(!["url", "uri", "host", "address", "http", "port\""].iter().any(|word| text.contains(word)), "{function}");
            }
        }
    }
    assert!(seen.contains("write_file") && seen.contains("start_task") && seen.contains("read_file"), "{seen:?}");
}
