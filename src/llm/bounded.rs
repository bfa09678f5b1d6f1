//! Fields of an answer that a model makes as large as it likes. As plain lists and values, eight mebibytes of `{},{},…` would be
//! hundreds in memory; read like this they stay eight.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The longest error object that is looked into, bytes; whatever a longer one says is not for people.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// A list of at most `N` elements; a longer one is not of its shape. `null` is an empty one.
pub(super) type AtMost<T, const N: usize> = List<T, N, false>;
/// The first `N` elements of a list; the others are passed over. `null` is an empty one.
pub(super) type First<T, const N: usize> = List<T, N, true>;

/// So many elements; whether there may be more.
#[derive(Debug)]
pub(super) struct List<T, const N: usize, const MORE: bool>(pub(super) Vec<T>);

impl<T, const N: usize, const MORE: bool> Default for List<T, N, MORE> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize, const MORE: bool> Deserialize<'de> for List<T, N, MORE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const N: usize, const MORE: bool>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize, const MORE: bool> Visitor<'de> for Elements<T, N, MORE> {
            type Value = List<T, N, MORE>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {N}, or null")
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(List(Vec::new()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while all.len() < N {
                    let Some(one) = seq.next_element()? else { return Ok(List(all)) };
                    all.push(one);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    if !MORE {
                        return Err(A::Error::invalid_length(N + 1, &self));
                    }
                }
                Ok(List(all))
            }
        }
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

/// Text, or a list of parts as some servers send it, whose `text` fields are joined. `null` is none.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Joined;
        impl<'de> Visitor<'de> for Joined {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of parts, or null")
            }
            fn visit_unit<E: Error>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                let mut all = String::new();
                while let Some(Part { text }) = seq.next_element()? {
                    all.push_str(&text.unwrap_or_default());
                }
                Ok(Text(all))
            }
        }
        deserializer.deserialize_any(Joined)
    }
}

/// One part; whatever else is in it is passed over.
#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

/// What an error object says; nothing where it is larger than such objects are.
pub(super) fn error(object: &RawValue) -> Value {
    let fits = object.get().len() <= ERROR_BYTES_MAX;
    fits.then(|| serde_json::from_str(object.get()).ok()).flatten().unwrap_or_default()
}

/// Bytes of memory that a tree takes, near enough: where an object has one entry, it has room for eleven.
pub(super) fn held(value: &Value) -> usize {
    const ENTRY: usize = size_of::<String>() + size_of::<Value>();
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(all) => all.iter().map(held).sum(),
            Value::Object(all) => {
                all.len().div_ceil(11) * 11 * ENTRY + all.iter().map(|(name, value)| name.len() + held(value)).sum::<usize>()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

/// A call's arguments: JSON as text, or the object itself as some servers send it; empty where they are not there.
pub(super) fn arguments(given: Option<&RawValue>) -> String {
    let Some(given) = given else { return String::new() };
    // A text is a JSON string; everything else is the JSON that is meant.
    serde_json::from_str(given.get()).unwrap_or_else(|_| given.get().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Answer {
        #[serde(default)]
        list: AtMost<u8, 3>,
        #[serde(default)]
        text: Text,
        call: Option<Box<RawValue>>,
    }

    fn read(json: &str) -> Option<Answer> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn a_list_is_taken_up_to_its_limit_and_not_beyond() {
        assert_eq!(read(r#"{"list":[1,2,3]}"#).unwrap().list.0, [1, 2, 3]);
        assert!(read(r#"{"list":[1,2,3,4]}"#).is_none());
        for none in ["{}", r#"{"list":null}"#, r#"{"list":[]}"#] {
            assert!(read(none).unwrap().list.0.is_empty());
        }
        assert!(read(r#"{"list":{}}"#).is_none());
    }

    #[test]
    fn the_first_few_are_taken_and_the_rest_is_passed_over() {
        let of = |json: &str| serde_json::from_str::<First<u8, 2>>(json).ok().map(|first| first.0);
        assert_eq!([of("[]"), of("[1,2]"), of("[1,2,{},[3]]"), of("null")].map(Option::unwrap), [vec![], vec![1, 2], vec![1, 2], vec![]]);
        assert_eq!([of("[1,2,"), of("{}")], [None, None]);
    }

    #[test]
    fn text_is_a_text_or_its_parts() {
        assert_eq!(read(r#"{"text":"a\u0062"}"#).unwrap().text.0, "ab");
        let parts = r#"{"text":[{"type":"text","text":"a"},{"x":[1,{}]},{"text":null},{"text":"b"}]}"#;
        assert_eq!(read(parts).unwrap().text.0, "ab");
        assert_eq!(read(r#"{"text":null}"#).unwrap().text.0, "");
        assert!(read(r#"{"text":7}"#).is_none());
    }

    #[test]
    fn a_tree_is_told_to_take_what_it_takes_and_not_what_its_text_does() {
        let of = |json: &str| held(&serde_json::from_str(json).unwrap());
        assert_eq!((of("7"), of("[]"), of(r#""abc""#)), (32, 32, 35));
        assert!((640..800).contains(&of(r#"{"a":0}"#)));
        assert!(of(&format!("[{}]", vec![r#"{"":0}"#; 1000].join(","))) > 640_000);
    }

    #[test]
    fn arguments_are_a_text_or_the_object_itself() {
        let of = |json: &str| arguments(read(json).unwrap().call.as_deref());
        assert_eq!(of(r#"{"call":"{\"a\":1}"}"#), r#"{"a":1}"#);
        assert_eq!(of(r#"{"call":{"a":1.50}}"#), r#"{"a":1.50}"#);
        assert_eq!((of(r#"{"call":null}"#), of("{}")), (String::new(), String::new()));
    }
}
