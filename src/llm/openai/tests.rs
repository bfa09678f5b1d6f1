//! The OpenAI form: requests as they go out, answers as they come in.

use super::*;
use crate::llm::request::{Purpose, Schema, ToolSpec};

fn read(pieces: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    let (mut decoder, mut out) = (Decoder::new(&Request::default()), Vec::new());
    for piece in pieces {
        decoder.push(piece, &mut out)?;
    }
    decoder.end(&mut out)?;
    Ok(out)
}

/// Byte by byte and cut in two at every place: the same events.
#[track_caller]
fn check(transcript: &str, expected: &[Event]) {
    let bytes = transcript.as_bytes();
    assert_eq!(read(&[bytes]).unwrap(), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single).unwrap(), expected);
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(read(&[a, b]).unwrap(), expected, "cut at {at}");
    }
}

fn text(t: &str) -> Event {
    Event::Text(t.into())
}
fn call(id: &str, name: &str, arguments: &str) -> Event {
    Event::Call(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
}
fn usage(input_tokens: u64, output_tokens: u64) -> Event {
    Event::Usage(Usage { input_tokens, output_tokens })
}

#[test]
fn openai_text() {
    check(
        concat!(
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Grüß"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" Gott \ud83d\ude00"},"finish_reason":null}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":0}}}"#,
            "\n\ndata: [DONE]\n\n",
        ),
        &[text("Grüß"), text(" Gott 😀"), usage(9, 3), Event::Finish(Finish::Stop)],
    );
}

#[test]
fn openai_tool_calls_in_pieces() {
    check(
        concat!(
            r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_A","type":"function","function":{"name":"read_file","arguments":""}}]},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"pa"}}]},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"th\":\"a\"}"}}]},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_B","type":"function","function":{"name":"list_files","arguments":""}}]},"finish_reason":null}]}"#,
            "\n\n",
            r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            "\n\n",
            r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            "\n\ndata: [DONE]\n\n",
        ),
        &[
            usage(1, 2),
            call("call_A", "read_file", r#"{"path":"a"}"#),
            call("call_B", "list_files", "{}"),
            Event::Finish(Finish::ToolCalls),
        ],
    );
}

#[test]
fn llama_cpp_with_reasoning_timings_and_without_a_done_line() {
    check(
        concat!(
            r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"chatcmpl-x","model":"m.gguf","system_fingerprint":"b1","object":"chat.completion.chunk"}"#,
            "\n\n",
            r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"hm"}}],"object":"chat.completion.chunk"}"#,
            "\n\n",
            r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hi"}}],"object":"chat.completion.chunk"}"#,
            "\n\n",
            r#"data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"object":"chat.completion.chunk"}"#,
            "\n\n",
            r#"data: {"choices":[],"usage":{"completion_tokens":1,"prompt_tokens":30,"total_tokens":31},"timings":{"prompt_n":1,"predicted_per_second":100.5}}"#,
            "\n\n",
        ),
        &[text("Hi"), usage(30, 1), Event::Finish(Finish::Length)],
    );
}

#[test]
fn ollama_calls_with_one_index_for_all_and_stop_as_reason() {
    check(
        concat!(
            ": ping\r\n\r\n",
            r#"data: {"id":"chatcmpl-5","object":"chat.completion.chunk","model":"qwen3","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","tool_calls":[{"id":"call_1a","index":0,"type":"function","function":{"name":"recall","arguments":"{\"query\":\"x\"}"}}]},"finish_reason":null}]}"#,
            "\r\n\r\n",
            r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"x","tool_calls":[{"id":"call_2b","index":0,"type":"function","function":{"name":"list_files","arguments":"{}"}}]},"finish_reason":null}]}"#,
            "\r\n\r\n",
            r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}"#,
            "\r\n\r\ndata: [DONE]\r\n\r\n",
        ),
        &[call("call_1a", "recall", r#"{"query":"x"}"#), call("call_2b", "list_files", "{}"), Event::Finish(Finish::ToolCalls)],
    );
}

#[test]
fn calls_without_index_or_id_and_arguments_as_an_object() {
    check(
        concat!(
            r#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"a","arguments":{"x":1}}}]}}]}"#,
            "\n\n",
            r#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"b","arguments":"{\"y\""}},{"function":{"arguments":":2}"}}]}}]}"#,
            "\n\ndata: [DONE]\n\n",
        ),
        &[call("call_1", "a", r#"{"x":1}"#), call("call_2", "b", r#"{"y":2}"#), Event::Finish(Finish::ToolCalls)],
    );
}

#[test]
fn a_server_that_does_not_stream_is_understood() {
    check(
        concat!(
            " \n",
            r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":[{"type":"text","text":"Hel"},{"type":"text","text":"lo"}],"tool_calls":[{"id":"c","type":"function","function":{"name":"recall","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":4,"completion_tokens":5}}"#,
        ),
        &[text("Hello"), usage(4, 5), call("c", "recall", "{}"), Event::Finish(Finish::ToolCalls)],
    );
}

#[test]
fn what_is_cut_or_wrong_is_told() {
    let one = r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
    assert_eq!(read(&[one.as_bytes(), b"\n\n"]), Err(Fault::Cut), "no end marker");
    assert_eq!(read(&[b""]), Err(Fault::Cut));
    assert_eq!(read(&[b"data: {oops\n\n"]).err(), Some(Fault::Garbage("an event that is no JSON of its shape")));
    assert_eq!(read(&[b"<html>"]), Err(Fault::Cut));
    assert!(matches!(read(&[b"{}"]), Err(Fault::Garbage(_))));
    assert!(matches!(read(&[b"{\"choices\":[{\"message\":{\"content\":\"a\""]), Err(Fault::Garbage(_))));
    let said = read(&[b"data: {\"error\":{\"code\":500,\"message\":\"x\"}}\n\n"]);
    assert_eq!(said, Err(Fault::Said(json!({"code": 500, "message": "x"}))));
}

#[test]
fn the_mark_of_a_tool_call_is_held() {
    let piece = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let tool = ToolSpec { name: "a".into(), description: String::new(), parameters: json!({}) };
    let request = Request { tools: vec![tool], ..Request::default() };
    let read = |pieces: &[&str]| {
        let (mut decoder, mut out) = (Decoder::new(&request), Vec::new());
        for p in pieces {
            decoder.push(piece(p).as_bytes(), &mut out).unwrap();
        }
        let before = out.len();
        decoder.push(b"data: [DONE]\n\n", &mut out).unwrap();
        (before, out)
    };
    let finish = Event::Finish(Finish::Stop);
    assert_eq!(read(&["<", "tool", "_call>x"]), (0, vec![text("<tool_call>x"), finish.clone()]));
    assert_eq!(read(&["<", "b", ">x"]), (2, vec![text("<b"), text(">x"), finish.clone()]));
    assert_eq!(read(&["a", "<tool_call>"]), (2, vec![text("a"), text("<tool_call>"), finish]));
}

#[test]
fn a_tool_call_has_a_limit() {
    let piece = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"name\":\"a\",\"arguments\":\"{}\"}}}}]}}}}]}}\n\n",
        "x".repeat(1000)
    );
    let (mut decoder, mut out) = (Decoder::new(&Request::default()), Vec::new());
    let end = (0..2000).find_map(|_| decoder.push(piece.as_bytes(), &mut out).err());
    assert_eq!(end, Some(Fault::TooLarge));
}

#[test]
fn a_request_is_encoded() {
    let request = Request {
        system: "Be brief.".into(),
        messages: vec![
            Message::User { text: "hi".into() },
            Message::Assistant {
                text: String::new(),
                calls: vec![ToolCall { id: "c1".into(), name: "write_file".into(), arguments: r#"{"path":"a","cont"#.into() }],
            },
            Message::Tool { call_id: "c1".into(), name: "write_file".into(), content: "bad arguments".into(), is_error: true },
        ],
        tools: vec![ToolSpec { name: "write_file".into(), description: "Writes.".into(), parameters: json!({"type": "object"}) }],
        schema: Some(Schema { name: "verdict".into(), schema: json!({"type": "object"}) }),
        tool_choice: ToolChoice::Auto,
        sampling: Sampling::default(),
        max_tokens: 50,
        plain: None,
        purpose: Purpose::Execute,
    };
    let body = |dialect| -> Value { serde_json::from_slice(&encode(&request, "m", dialect)).unwrap() };
    assert_eq!(
        body(Dialect::default()),
        json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 50,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "write_file", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "ERROR: bad arguments"}],
            "tools": [{"type": "function", "function": {"name": "write_file", "description": "Writes.", "parameters": {"type": "object"}}}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "schema": {"type": "object"}}},
        })
    );
    let plain = body(Dialect { schema: false, completion_tokens: true, ..Dialect::default() });
    assert_eq!(
        (&plain["max_completion_tokens"], &plain["max_tokens"], &plain["response_format"]),
        (&json!(50), &Value::Null, &Value::Null)
    );
    assert!(plain["messages"][0]["content"].as_str().unwrap().contains(r#"{"type":"object"}"#));
}

#[test]
fn a_refused_field_is_left_out_once() {
    let tool = ToolSpec { name: "a".into(), description: String::new(), parameters: json!({}) };
    let schema = Schema { name: "s".into(), schema: json!({}) };
    let request = Request { tools: vec![tool], schema: Some(schema), max_tokens: 5, ..Request::default() };
    let all = Dialect::default();
    let without_tools = all.after(&request, b"registry.ollama.ai/library/gemma does not support tools").unwrap();
    assert_eq!(without_tools, Dialect { tools: false, ..all });
    let message = b"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    assert_eq!(all.after(&request, message), Some(Dialect { completion_tokens: true, ..all }));
    assert_eq!(all.after(&request, b"extra field stream_options"), Some(Dialect { usage: false, ..all }));
    let plain = all.after(&request, b"no idea").unwrap();
    assert_eq!(plain, Dialect { schema: false, ..all });
    assert_eq!(plain.after(&request, b"no idea"), None);
    assert_eq!(all.after(&Request::default(), b"no idea"), None);
}

#[test]
fn spoilt_streams_end_the_same_however_they_are_cut() {
    const GOOD: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"tool_calls\":[{\"index\":0,\"id\":\"i\",\"function\":{\"name\":\"n\",\"arguments\":\"{}\"}}]}}]}\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n",
    );
    let mut lot = 0x9e37_79b9_u32;
    let mut draw = |below: usize| {
        lot ^= lot << 13;
        lot ^= lot >> 17;
        lot ^= lot << 5;
        lot as usize % below
    };
    for _ in 0..2000 {
        let mut bytes = GOOD.as_bytes().to_vec();
        for _ in 0..=draw(3) {
            let at = draw(bytes.len());
            bytes[at] = b"\n\r{}\":,[]0n\xff"[draw(12)];
        }
        let run = |pieces: &[&[u8]]| {
            let (mut decoder, mut out) = (Decoder::new(&Request::default()), Vec::new());
            let end = pieces.iter().try_for_each(|p| decoder.push(p, &mut out)).and_then(|()| decoder.end(&mut out));
            (out, end)
        };
        let (a, b) = bytes.split_at(draw(bytes.len()));
        assert_eq!(run(&[&bytes]), run(&[a, b]), "{}", String::from_utf8_lossy(&bytes));
    }
}

/// Lists are as long as a model likes: none of them costs more than its bytes, in memory or in time.
#[test]
fn endless_lists_are_refused_or_passed_over() {
    let event = |inside: &str| read(&[format!("data: {{\"choices\":[{inside}]}}\n\ndata: [DONE]\n\n").as_bytes()]);
    let many = |one: &str, of: usize| vec![one; of].join(",");
    let calls = |parts: &str| event(&format!("{{\"delta\":{{\"tool_calls\":[{parts}]}}}}"));
    assert!(matches!(event(&many("{}", CHOICES_MAX + 1)), Err(Fault::Garbage(_))));
    assert!(matches!(calls(&many("{}", CALLS_MAX + 1)), Err(Fault::Garbage(_))));
    assert_eq!(event(&format!("{{\"delta\":{{\"content\":[{}]}}}}", many("{}", 300_000))).unwrap(), [Event::Finish(Finish::Stop)]);
    assert_eq!(event(&format!("{{\"logprobs\":[{}]}}", many("[]", 300_000))).unwrap(), [Event::Finish(Finish::Stop)]);
    // Also where somebody wants to hear of them.
    let likely = |one: &str, of: usize| {
        let fields = serde_json::from_str(r#"{"logprobs":true}"#).unwrap();
        let (mut decoder, mut out) = (Decoder::new(&Request { plain: Some(Plain(fields)), ..Request::default() }), Vec::new());
        let event =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"Hi\"}},\"logprobs\":{{\"content\":[{}]}}}}]}}\n\n", many(one, of));
        decoder.push(event.as_bytes(), &mut out).map(|()| (out.len(), out.pop()))
    };
    assert_eq!(likely("{}", 30_000), Ok((2, Some(text("Hi")))));
    assert_eq!(likely("{}", 300_000), Ok((1, Some(text("Hi")))), "the answer comes without them");
    // Also over many events.
    let (mut decoder, mut out) = (Decoder::new(&Request::default()), Vec::new());
    let ends = (0..).find_map(|n| {
        let piece =
            format!("data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{{\"index\":{n},\"function\":{{\"name\":\"a\"}}}}]}}}}]}}\n\n");
        decoder.push(piece.as_bytes(), &mut out).err().map(|fault| (n, fault))
    });
    assert_eq!(ends, Some((CALLS_MAX, Fault::TooLarge)));
}
