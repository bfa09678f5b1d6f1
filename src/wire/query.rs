//! The query string (`a=b&c=d`), decoded once and bounded.

/// Decoded pairs in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// The query is not well formed: a bad percent escape, bytes that are no UTF-8, or too many pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadQuery;

/// Most pairs; no route takes more than a handful.
const PAIRS_MAX: usize = 32;

impl Query {
    /// Splits at `&` and the first `=`; `+` is a space, `%XX` is decoded once. Empty pieces are skipped.
    pub fn parse(text: &str) -> Result<Self, BadQuery> {
        let mut pairs = Vec::new();
        for piece in text.split('&').filter(|piece| !piece.is_empty()) {
            if pairs.len() == PAIRS_MAX {
                return Err(BadQuery);
            }
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn decode(text: &str) -> Result<String, BadQuery> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(BadQuery);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).map_err(|_| BadQuery)?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).map_err(|_| BadQuery)
}
