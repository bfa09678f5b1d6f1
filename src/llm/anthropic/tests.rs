//! The Anthropic form: requests as they go out, answers as they come in.

use super::*;
use crate::llm::request::{Purpose, Schema, ToolSpec};

fn read(request: &Request, pieces: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    let (mut decoder, mut out) = (Decoder::new(request), Vec::new());
    for piece in pieces {
        decoder.push(piece, &mut out)?;
    }
    decoder.end(&mut out)?;
    Ok(out)
}

#[track_caller]
fn check(request: &Request, transcript: &str, expected: &[Event]) {
    let bytes = transcript.as_bytes();
    assert_eq!(read(request, &[bytes]).unwrap(), expected);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(request, &single).unwrap(), expected);
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(read(request, &[a, b]).unwrap(), expected, "cut at {at}");
    }
}

fn text(t: &str) -> Event {
    Event::Text(t.into())
}
fn usage(input_tokens: u64, output_tokens: u64) -> Event {
    Event::Usage(Usage { input_tokens, output_tokens })
}
fn with_schema() -> Request {
    Request { schema: Some(Schema { name: "verdict".into(), schema: json!({"type": "object"}) }), ..Request::default() }
}

const TEXT_AND_CALL: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":472,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":2}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Okay ü"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_01","name":"recall","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"query\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" \"x\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[test]
fn text_and_a_call_in_pieces() {
    let recall = ToolCall { id: "toolu_01".into(), name: "recall".into(), arguments: r#"{"query": "x"}"#.into() };
    let end = [usage(472, 89), Event::Finish(Finish::ToolCalls)];
    let expected = [&[usage(472, 2), text("Okay ü"), Event::Call(recall)][..], &end].concat();
    check(&Request::default(), TEXT_AND_CALL, &expected);
}

#[test]
fn the_forced_tool_gives_the_text() {
    let transcript = TEXT_AND_CALL.replace("\"recall\"", "\"verdict\"");
    check(&with_schema(), &transcript, &[usage(472, 2), text("{\"query\":"), text(" \"x\"}"), usage(472, 89), Event::Finish(Finish::Stop)]);
}

#[test]
fn where_the_forced_tool_is_ignored_the_text_is_the_answer() {
    let transcript = concat!(
        "event: content_block_delta\ndata: {\"delta\":{\"text\":\"{\\\"passed\\\":true}\"}}\n\n",
        "event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
    );
    check(&with_schema(), transcript, &[text("{\"passed\":true}"), Event::Finish(Finish::Stop)]);
}

#[test]
fn thinking_is_not_the_answer_and_limits_are_told() {
    let transcript = concat!(
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
        "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_tokens\":7}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
    );
    check(&Request::default(), transcript, &[text("Hi"), usage(0, 7), Event::Finish(Finish::Length)]);
}

#[test]
fn a_server_that_does_not_stream_is_understood() {
    let whole = r#"{"id":"m","type":"message","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"t","name":"recall","input":{"query":"x"}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let call = ToolCall { id: "t".into(), name: "recall".into(), arguments: r#"{"query":"x"}"#.into() };
    check(&Request::default(), whole, &[text("Hi"), Event::Call(call), usage(1, 2), Event::Finish(Finish::ToolCalls)]);
}

#[test]
fn what_is_cut_or_wrong_is_told() {
    let r = Request::default();
    let end = TEXT_AND_CALL.find("event: message_delta").unwrap();
    assert_eq!(read(&r, &[&TEXT_AND_CALL.as_bytes()[..end]]), Err(Fault::Cut));
    let overloaded = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
    assert!(matches!(read(&r, &[overloaded]), Err(Fault::Said(_))));
    assert!(matches!(read(&r, &[b"data: nonsense\n\n"]), Err(Fault::Garbage(_))));
    assert!(matches!(read(&r, &[b"{\"type\":\"error\",\"error\":{}}"]), Err(Fault::Said(_))));
}

#[test]
fn a_request_is_encoded_with_alternating_roles() {
    let user = |t: &str| Message::User { text: t.into() };
    let call = |id: &str, arguments: &str| ToolCall { id: id.into(), name: "recall".into(), arguments: arguments.into() };
    let result = |id: &str, is_error| Message::Tool { call_id: id.into(), name: "recall".into(), content: "r".into(), is_error };
    let request = Request {
        system: "Be brief.".into(),
        messages: vec![
            user("a"),
            user("b"),
            Message::Assistant { text: " ".into(), calls: vec![call("c:1", r#"{"query":"x"}"#), call("c2", "{\"que")] },
            result("c:1", false),
            result("c2", true),
            user("c"),
        ],
        tools: vec![ToolSpec { name: "recall".into(), description: "Recalls.".into(), parameters: json!({"type": "object"}) }],
        schema: None,
        tool_choice: ToolChoice::Auto,
        sampling: Sampling::default(),
        plain: None,
        max_tokens: 0,
        purpose: Purpose::Interview,
    };
    let body: Value = serde_json::from_slice(&encode(&request, "claude")).unwrap();
    assert_eq!(
        body,
        json!({
            "model": "claude", "max_tokens": 4096, "stream": true, "system": "Be brief.",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a\n\nb"}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c_1", "name": "recall", "input": {"query": "x"}},
                    {"type": "tool_use", "id": "c2", "name": "recall", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c_1", "content": "r"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "r", "is_error": true},
                    {"type": "text", "text": "c"}]}],
            "tools": [{"name": "recall", "description": "Recalls.", "input_schema": {"type": "object"}}],
        })
    );
    let forced: Value = serde_json::from_slice(&encode(&with_schema(), "claude")).unwrap();
    assert_eq!(forced["tool_choice"], json!({"type": "tool", "name": "verdict"}));
}

#[test]
fn spoilt_streams_end_the_same_however_they_are_cut() {
    let mut lot = 0x9e37_79b9_u32;
    let mut draw = |below: usize| {
        lot ^= lot << 13;
        lot ^= lot >> 17;
        lot ^= lot << 5;
        lot as usize % below
    };
    for request in [Request::default(), with_schema()] {
        for _ in 0..1000 {
            let mut bytes = TEXT_AND_CALL.as_bytes().to_vec();
            for _ in 0..=draw(3) {
                let at = draw(bytes.len());
                bytes[at] = b"\n\r{}\":,[]0n\xff"[draw(12)];
            }
            let run = |pieces: &[&[u8]]| {
                let (mut decoder, mut out) = (Decoder::new(&request), Vec::new());
                let end = pieces.iter().try_for_each(|p| decoder.push(p, &mut out)).and_then(|()| decoder.end(&mut out));
                (out, end)
            };
            let (a, b) = bytes.split_at(draw(bytes.len()));
            assert_eq!(run(&[&bytes]), run(&[a, b]), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
