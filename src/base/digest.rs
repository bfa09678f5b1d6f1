//! SHA-256, HMAC-SHA-256 and comparison that takes the same time for every input.

use ring::{digest, hmac};

/// SHA-256 (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-256 over parts as they come.
pub struct Sha256(digest::Context);

impl Sha256 {
    /// Over nothing yet.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
    /// Adds a part.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The digest over all parts.
    pub fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
    text
}

/// HMAC-SHA-256 (RFC 2104) under one key; every use names its purpose, so that two uses never give the same value.
#[derive(Clone)]
pub struct Keyed(hmac::Key);

impl Keyed {
    /// With this key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }
    /// The MAC of the purpose and the parts; each part goes in with its length, so that no two lists of parts collide.
    pub fn mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

/// Compares two digests without telling by its duration where they differ.
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (x, y)| std::hint::black_box(difference | (x ^ y))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let keyed = Keyed::new(b"k");
        assert_ne!(keyed.mac("p", &[b"ab", b"c"]), keyed.mac("p", &[b"a", b"bc"]));
        assert_ne!(keyed.mac("p", &[b"a"]), keyed.mac("q", &[b"a"]));
    }

    #[test]
    fn sha256_of_abc() {
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
