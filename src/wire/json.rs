//! JSON from strangers: bounded depth before the parser recurses, and errors that name the place but never the content.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::base::limits::JSON_VALUES_MAX;

pub(crate) use crate::wire::json_place::whole;
use crate::wire::json_place::{Place, Tracked};

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadJson {
    /// Not UTF-8, or not JSON (RFC 8259); `line` and `column` from 1.
    Malformed {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Nested deeper than the limit.
    TooDeep,
    /// More values than the limit.
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// JSON of another shape than wanted.
    Shape {
        /// Where, as `messages[2].role`; empty for the whole.
        place: String,
        /// What was expected there. Names of fields and our own words only.
        what: String,
    },
}

/// Reads one value; at most `depth_max` levels of nesting and [`JSON_VALUES_MAX`] values in it. Unknown fields and duplicate keys are
/// the type's own affair.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], depth_max: usize) -> Result<T, BadJson> {
    parse_within(bytes, depth_max, JSON_VALUES_MAX)
}

/// The same with at most `values_max` values.
pub fn parse_within<T: DeserializeOwned>(bytes: &[u8], depth_max: usize, values_max: usize) -> Result<T, BadJson> {
    outline(bytes, depth_max, values_max)?;
    // Before anything else: what a type ignores is skipped without a look at its bytes.
    let text = std::str::from_utf8(bytes).map_err(|error| malformed_at(bytes, error.valid_up_to()))?;
    let place = Place::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = T::deserialize(Tracked::new(&mut reader, &place)).and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| {
        let (within, what) = without_content(&error.to_string());
        let broken = if error.is_data() {
            // A wrong shape may stand before text that is no JSON at all; that matters more.
            serde_json::from_str::<IgnoredAny>(text).err()
        } else {
            // The reader has one word for what is no JSON and for a number where one of a few words is wanted.
            serde_json::from_str::<Value>(text).err().map(|_| error)
        };
        match broken {
            Some(broken) => BadJson::Malformed { line: broken.line(), column: broken.column() },
            None => BadJson::Shape { place: joined(place.text(), &within), what },
        }
    })
}

/// The line and column of a byte.
fn malformed_at(bytes: &[u8], at: usize) -> BadJson {
    let before = bytes.get(..at).unwrap_or(bytes);
    let line = before.split(|b| *b == b'\n').next_back().unwrap_or_default();
    BadJson::Malformed { line: 1 + before.iter().filter(|b| **b == b'\n').count(), column: line.len() + 1 }
}

/// No bracket is nested deeper than this. One pass, no recursion, total on any bytes.
pub fn depth_ok(bytes: &[u8], depth_max: usize) -> bool {
    outline(bytes, depth_max, usize::MAX).is_ok()
}

/// Looks at brackets and commas outside of strings only: no deeper than this, and no more values (of lists, names of objects and what
/// stands behind them counted once) than that. One pass, no recursion, total on any bytes.
fn outline(bytes: &[u8], depth_max: usize, values_max: usize) -> Result<(), BadJson> {
    let (mut depth, mut values, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                values += 1;
                if depth > depth_max {
                    return Err(BadJson::TooDeep);
                }
            }
            b',' => values += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if values > values_max {
            return Err(BadJson::TooMany { limit: values_max });
        }
    }
    Ok(())
}

fn joined(place: String, field: &str) -> String {
    let dot = if place.is_empty() || field.is_empty() { "" } else { "." };
    format!("{place}{dot}{field}")
}

/// serde's words without what the client sent (values, and names that are not ours) and without Rust's names of types; before them
/// the field, where they name one of ours.
fn without_content(words: &str) -> (String, String) {
    let words = words.rsplit_once(" at line ").map_or(words, |(words, _)| words);
    // What was expected stands last and is ours; what was found may itself contain ", expected ".
    let expected = |otherwise: &str| match words.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {}", in_json(expected)),
        None => otherwise.to_owned(),
    };
    for (start, what) in [("missing field `", "missing"), ("duplicate field `", "named twice")] {
        if let Some(field) = words.strip_prefix(start).and_then(|field| field.strip_suffix('`')) {
            return (field.to_owned(), what.to_owned());
        }
    }
    let what = match words {
        w if w.starts_with("invalid type: ") || w.starts_with("invalid value: ") || w.starts_with("invalid length ") => {
            expected("wrong type")
        }
        w if w.starts_with("unknown variant ") => expected("unknown variant"),
        w if w.starts_with("unknown field ") => match words.rsplit_once(", expected ") {
            Some((_, fields)) => format!("unknown field; expected {fields}"),
            None => "unknown field".to_owned(),
        },
        w => w.to_owned(),
    };
    (String::new(), what)
}

/// What serde calls a type, in JSON's words (RFC 8259 §3).
fn in_json(expected: &str) -> &str {
    match expected {
        e if e.starts_with("struct ") || e == "a map" => "an object",
        e if e == "a sequence" || e.starts_with("a tuple ") => "an array",
        "a boolean" => "true or false",
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        e => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        text: String,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        small: Option<u8>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[allow(dead_code)]
    struct Inner {
        role: Role,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        User,
        Assistant,
    }

    fn shape(text: &str) -> (String, String) {
        match parse::<Outer>(text.as_bytes(), 64) {
            Err(BadJson::Shape { place, what }) => (place, what),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_wrong_shape_names_the_place() {
        for (text, place, what) in [
            (r#"{"text":5}"#, "text", "expected a string"),
            (r#"{}"#, "text", "missing"),
            (r#"{"text":"a","text":"b"}"#, "text", "named twice"),
            (r#"{"text":"a","list":[{}]}"#, "list[0].role", "missing"),
            (r#"{"text":"a","secret, expected x":1}"#, "", "unknown field; expected one of `text`, `list`, `small`"),
            (r#"{"text":"a","list":[{"role":"user"},{"role":"root"}]}"#, "list[1].role", "expected `user` or `assistant`"),
            (r#"{"text":"a","list":[{"role":1}]}"#, "list[0].role", "expected value"),
            (r#"{"text":"a","list":{}}"#, "list", "expected an array"),
            (r#"{"text":"a","small":300}"#, "small", "expected a whole number from 0 to 255"),
            (r#"{"text":"a","small":1e999}"#, "small", "expected a whole number from 0 to 255"),
            (r#"[]"#, "", "expected an object"),
            (r#"["a",[],1]"#, "", "expected an object"),
            (r#"{"text":"a","list":[["user"]]}"#, "list[0]", "expected an object"),
            (r#"{"text":"a","small":1.5}"#, "small", "expected a whole number from 0 to 255"),
            (r#"{"text":"a","small":-1.0}"#, "small", "expected a whole number from 0 to 255"),
            (r#"{"text":"a","small":1e300}"#, "small", "expected a whole number from 0 to 255"),
            (r#""x""#, "", "expected an object"),
        ] {
            let (at, why) = match parse::<Outer>(text.as_bytes(), 64) {
                Err(BadJson::Malformed { .. }) => continue,
                _ => shape(text),
            };
            assert_eq!(at, place, "{text}");
            assert!(why.starts_with(what), "{text}: {why}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        for (text, small) in [("7", 7), ("7.0", 7), ("0.0", 0), ("2.55e2", 255)] {
            assert_eq!(parse::<Outer>(format!(r#"{{"text":"a","small":{text}}}"#).as_bytes(), 64).unwrap().small, Some(small), "{text}");
        }
    }

    #[test]
    fn content_is_never_repeated() {
        for text in [
            r#"{"text":"a","small":"CANARY"}"#,
            r#"{"text":"a","small":"CANARY, expected u8"}"#,
            r#"{"text":"a","list":[{"role":"CANARY"}]}"#,
            r#"{"text":"a","CANARY":1}"#,
            r#"{"text":"a","list":"CANARY at line 1"}"#,
            r#""CANARY""#,
        ] {
            let (place, what) = shape(text);
            assert!(!place.contains("CANARY") && !what.contains("CANARY"), "{text}: {place}: {what}");
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for text in [
            &b""[..],
            b"{",
            b"{\"text\":\"a\"} x",
            b"{\"text\":5, oops",
            b"\xff",
            b"{\"text\":\"\xc0\xaf\"}",
            b"{\"text\":\"a\"}{}",
            b"{'text':1}",
            b"NaN",
            b"{\"text\":\"\n\"}",
        ] {
            let read = parse::<Outer>(text, 64);
            assert!(matches!(read, Err(BadJson::Malformed { .. })), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_malformed_wherever_they_stand() {
        #[derive(Debug, Deserialize)]
        struct Known {
            #[allow(dead_code)]
            text: String,
        }
        let at = |bytes: &[u8]| match parse::<Known>(bytes, 64) {
            Err(BadJson::Malformed { line, column }) => (line, column),
            other => panic!("{bytes:?}: {other:?}"),
        };
        assert_eq!(at(b"{\"text\":\"a\",\n \"unknown\":\"\xff\"}"), (2, 13));
        assert_eq!(at(b"{\"text\":\"a\",\"\xed\xa0\x80\":1}"), (1, 14));
        assert_eq!(at(b"\xef\xbb"), (1, 1));
    }

    #[test]
    fn depth_is_bounded_and_strings_do_not_count() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse::<IgnoredAny>(deep(64).as_bytes(), 64).is_ok());
        assert!(matches!(parse::<IgnoredAny>(deep(65).as_bytes(), 64), Err(BadJson::TooDeep)));
        assert!(depth_ok(br#""[[[[\"[[[[""#, 1));
        assert!(depth_ok("]".repeat(100).as_bytes(), 1));
        assert!(!depth_ok("[".repeat(1_000_000).as_bytes(), 64));
    }

    #[test]
    fn values_are_counted_before_they_are_made() {
        let list = |n: usize| format!("[{}]", vec!["{\"a\":0}"; n].join(","));
        // Each object is two: its bracket, and the comma before it or the list's bracket.
        assert!(parse_within::<Value>(list(10).as_bytes(), 64, 20).is_ok());
        assert_eq!(parse_within::<Value>(list(11).as_bytes(), 64, 20), Err(BadJson::TooMany { limit: 20 }));
        assert!(parse_within::<Value>(br#"["a,b,c,[[{{", ",,,"]"#, 64, 2).is_ok(), "what a text says is one value");
        assert!(matches!(parse::<Value>(list(JSON_VALUES_MAX).as_bytes(), 64), Err(BadJson::TooMany { .. })));
    }
}
