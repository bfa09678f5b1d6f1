//! Vectors of texts: from the answer of an OpenAI-compatible `/embeddings`, and to and from the file that keeps them.
//!
//! Every vector that leaves here is finite, not zero and of length one, so that a product of two is their cosine.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// Most numbers of a vector: the largest common models give 4,096.
pub const DIMENSIONS_MAX: usize = 4096;
/// How a file begins: name and version of its form.
const MAGIC: &[u8; 8] = b"oxvec\0\x01\n";
/// Bytes of a key of a file: an id and the digest of a text.
pub const KEY_BYTES: usize = 36 + 32;

/// A key of a file.
pub type Key = [u8; KEY_BYTES];

/// The vectors of an answer to `count` texts, in the order of the texts, each of the same dimensions.
///
/// # Errors
/// It is no such answer; the text says what is wrong and repeats nothing of it.
pub fn answer(body: &[u8], count: usize) -> Result<Vec<Vec<f32>>, &'static str> {
    #[derive(Deserialize)]
    struct Answer {
        data: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        index: Option<usize>,
        embedding: Numbers,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "no JSON of the form {\"data\":[{\"embedding\":[…]}]}")?;
    if answer.data.len() != count {
        return Err("another number of vectors than of texts");
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
    let mut dimensions = None;
    for (place, item) in answer.data.into_iter().enumerate() {
        let vector = unit(item.embedding.0).ok_or("a vector that is empty, zero or not finite")?;
        if *dimensions.get_or_insert(vector.len()) != vector.len() {
            return Err("vectors of different dimensions");
        }
        match vectors.get_mut(item.index.unwrap_or(place)) {
            Some(free @ None) => *free = Some(vector),
            _ => return Err("an index twice or out of range"),
        }
    }
    vectors.into_iter().collect::<Option<_>>().ok_or("an index is missing")
}

/// The bytes of a file: all vectors of one model. Those of other dimensions than `dimensions` are left out.
pub fn to_file<'a>(dimensions: usize, all: impl Iterator<Item = (&'a Key, &'a [f32])>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u32::try_from(dimensions).unwrap_or(0).to_le_bytes());
    for (key, vector) in all.filter(|(_, vector)| vector.len() == dimensions) {
        bytes.extend(key);
        vector.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    }
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The vectors of a file; `None` where it is not whole, so that they are made again.
pub fn from_file(bytes: &[u8]) -> Option<HashMap<Key, Box<[f32]>>> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (dimensions, rows) = body.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let dimensions = usize::try_from(u32::from_le_bytes(*dimensions)).ok().filter(|n| (1..=DIMENSIONS_MAX).contains(n))?;
    let mut rows = rows.chunks_exact(KEY_BYTES + dimensions * 4);
    let all = rows.by_ref().map(|row| {
        let (key, numbers) = row.split_first_chunk::<KEY_BYTES>()?;
        let numbers = numbers.chunks_exact(4).filter_map(|n| n.first_chunk().map(|n| f32::from_le_bytes(*n))).collect();
        Some((*key, unit(numbers)?.into_boxed_slice()))
    });
    let all = all.collect::<Option<_>>()?;
    rows.remainder().is_empty().then_some(all)
}

/// The bytes of a file without the vectors whose keys begin so: the same where there is none. `None` where it is not whole.
pub fn without<'a>(bytes: &'a [u8], beginning: &[u8]) -> Option<Cow<'a, [u8]>> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    let (head, rows) = body.split_at_checked(MAGIC.len() + 4)?;
    let (dimensions, _) = head.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let row_bytes = KEY_BYTES + usize::try_from(u32::from_le_bytes(*dimensions)).ok().filter(|n| (1..=DIMENSIONS_MAX).contains(n))? * 4;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) || rows.len() % row_bytes != 0 {
        return None;
    }
    let stays = |row: &&[u8]| !row.starts_with(beginning);
    if rows.chunks_exact(row_bytes).all(|row| stays(&row)) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut left = head.to_vec();
    rows.chunks_exact(row_bytes).filter(stays).for_each(|row| left.extend(row));
    left.extend(crc32fast::hash(&left).to_le_bytes());
    Some(Cow::Owned(left))
}

/// No vector is in these bytes of a file.
pub fn is_empty(file: &[u8]) -> bool {
    file.len() <= MAGIC.len() + 4 + 4
}

/// The cosine of two vectors of length one; 0 where they cannot be compared.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    f64::from(product).clamp(-1.0, 1.0)
}

/// As long as one, where it has a length.
fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let length = vector.iter().map(|n| f64::from(*n) * f64::from(*n)).sum::<f64>().sqrt();
    if vector.len() > DIMENSIONS_MAX || !length.is_finite() || length < 1e-12 {
        return None;
    }
    vector.iter_mut().for_each(|n| *n = (f64::from(*n) / length) as f32);
    Some(vector)
}

/// Numbers of a vector, no more than there may be: a longer list ends the reading.
struct Numbers(Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visited;
        impl<'de> Visitor<'de> for Visited {
            type Value = Numbers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Numbers, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = items.next_element()? {
                    if numbers.len() == DIMENSIONS_MAX {
                        return Err(A::Error::custom("too many dimensions"));
                    }
                    numbers.push(number);
                }
                Ok(Numbers(numbers))
            }
        }
        deserializer.deserialize_seq(Visited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_the_order_of_the_texts() {
        let body = br#"{"object":"list","data":[{"index":1,"embedding":[0,2]},{"index":0,"embedding":[3,4.0]}],"model":"m"}"#;
        assert_eq!(answer(body, 2).unwrap(), [vec![0.6, 0.8], vec![0.0, 1.0]]);
        assert_eq!(answer(br#"{"data":[{"embedding":[1e38,1e38]}]}"#, 1).unwrap()[0].len(), 2, "length is reckoned in double");
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let long = format!(r#"{{"data":[{{"embedding":[{}1]}}]}}"#, "1,".repeat(DIMENSIONS_MAX));
        for (body, count) in [
            ("", 1),
            ("{}", 1),
            (r#"{"data":[]}"#, 1),
            (r#"{"data":[{"embedding":[]}]}"#, 1),
            (r#"{"data":[{"embedding":[0,0]}]}"#, 1),
            (r#"{"data":[{"embedding":[1e39]}]}"#, 1),
            (r#"{"data":[{"embedding":[NaN]}]}"#, 1),
            (r#"{"data":[{"embedding":"AACAPw=="}]}"#, 1),
            (r#"{"data":[{"embedding":[1]},{"embedding":[1,2]}]}"#, 2),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, 2),
            (r#"{"data":[{"index":7,"embedding":[1]}]}"#, 1),
            (&long, 1),
        ] {
            assert!(answer(body.as_bytes(), count).is_err(), "{}", &body[..body.len().min(80)]);
        }
    }

    #[test]
    fn a_file_gives_back_what_was_written_and_nothing_when_it_is_damaged() {
        let rows = [([1; KEY_BYTES], vec![0.6_f32, 0.8]), ([2; KEY_BYTES], vec![1.0, 0.0]), ([3; KEY_BYTES], vec![1.0])];
        let bytes = to_file(2, rows.iter().map(|(key, vector)| (key, vector.as_slice())));
        let read = from_file(&bytes).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(&*read[&[1; KEY_BYTES]], [0.6, 0.8]);
        for n in 0..bytes.len() {
            assert!(from_file(&bytes[..n]).is_none());
            let mut rotten = bytes.clone();
            rotten[n] ^= 1;
            assert!(from_file(&rotten).is_none());
        }
        assert!((cosine(&[0.6, 0.8], &[1.0, 0.0]) - 0.6).abs() < 1e-6);
        assert_eq!(without(&bytes, &[9]).as_deref(), Some(&bytes[..]));
        let left = without(&bytes, &[1]).unwrap();
        assert!(from_file(&left).unwrap().keys().eq([&[2; KEY_BYTES]]) && !is_empty(&left));
        let none = without(&left, &[2; KEY_BYTES]).unwrap();
        assert!(is_empty(&none) && from_file(&none).unwrap().is_empty());
        assert!((0..bytes.len()).all(|n| without(&bytes[..n], &[1]).is_none()));
    }
}
