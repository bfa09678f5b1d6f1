//! `keys.json`: the table of keys, and the first one of a new home.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::digest::sha256;
use crate::base::ids::{KeyId, OwnerId};
use crate::base::limits::KEYS_FILE_BYTES_MAX;
use crate::base::secret::Secret;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::atomic::{self, Durable};
use crate::store::home::{Seams, refuse_exposed};
use crate::store::keys::record::{KeyRecord, Rotated, Scopes};
use crate::store::keys::secret;
use crate::sys::disk::{FileStat, read_whole};

/// `keys.json`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Table {
    version: u64,
    pub(super) first_owner: OwnerId,
    pub(super) keys: Vec<Stored>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(flatten)]
    pub(super) record: KeyRecord,
    /// SHA-256 of the key's text, in hexadecimal.
    #[serde(with = "hash_text")]
    pub(super) hash: [u8; 32],
}

impl Stored {
    /// Another one took its place: it is good until then at most.
    pub(super) fn ends_by(&mut self, until: Timestamp) {
        self.record.rotated.get_or_insert(Rotated { own_end: self.record.expires_at });
        self.record.expires_at = Some(self.record.expires_at.map_or(until, |expires| expires.min(until)));
    }
}

/// The first table. The token file comes first: if a crash comes between, the next start takes the key from it.
pub(super) fn first(seams: &Seams, token: &Path) -> Result<Table, StoreError> {
    let doing = || StoreError::io("writing the token file");
    let key = match read_whole(seams.disk.as_ref(), token, 256) {
        Ok(bytes) => match std::str::from_utf8(&bytes).map(str::trim) {
            Ok(text) if secret::is_key(text) => Secret::new(text),
            _ => return Err(StoreError::Damaged(format!("{} holds no key; remove it to get a new one", token.display()))),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = secret::make(seams);
            write_token(seams, token, &key)?;
            key
        }
        Err(e) => return Err(doing()(e)),
    };
    let owner = OwnerId::random(seams.random.as_ref());
    let record = KeyRecord {
        id: KeyId::random(seams.random.as_ref()),
        owner,
        name: "first".to_owned(),
        scopes: Scopes::ALL,
        created_at: seams.clock.now(),
        expires_at: None,
        rate_limit_per_minute: None,
        budget: None,
        rotated: None,
        revoked: false,
    };
    Ok(Table { version: 1, first_owner: owner, keys: vec![Stored { record, hash: sha256(key.reveal().as_bytes()) }] })
}

/// The key in the token file, where there is one.
pub(super) fn token(seams: &Seams, token: &Path) -> Option<Secret> {
    let bytes = read_whole(seams.disk.as_ref(), token, 256).ok()?;
    std::str::from_utf8(&bytes).ok().map(|text| Secret::new(text.trim()))
}

/// Puts a key into the token file.
pub(super) fn write_token(seams: &Seams, token: &Path, key: &Secret) -> Result<(), StoreError> {
    let text = format!("{}\n", key.reveal());
    atomic::replace(seams.disk.as_ref(), token, text.as_bytes(), Durable::Yes).map_err(StoreError::io("writing the token file"))
}

pub(super) fn read(seams: &Seams, file: &Path) -> Result<Option<(Table, FileStat)>, StoreError> {
    let doing = || StoreError::io("reading keys.json");
    let Some(stat) = seams.disk.stat(file).map_err(doing())? else { return Ok(None) };
    refuse_exposed(file, stat.mode)?;
    let bytes = read_whole(seams.disk.as_ref(), file, KEYS_FILE_BYTES_MAX).map_err(doing())?;
    Ok(Some((parse(&bytes, file)?, stat)))
}

/// What the file says; `file` is for the error.
pub(super) fn parse(bytes: &[u8], file: &Path) -> Result<Table, StoreError> {
    let table: Table = serde_json::from_slice(bytes).map_err(|e| {
        // The error's own text may quote the file.
        StoreError::Damaged(format!("{} is damaged at line {}; restore it from a backup", file.display(), e.line()))
    })?;
    if table.version == 1 { Ok(table) } else { Err(StoreError::Newer { found: table.version }) }
}

pub(super) fn write(seams: &Seams, file: &Path, table: &Table) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec_pretty(table).map_err(|e| StoreError::Damaged(e.to_string()))?;
    bytes.push(b'\n');
    atomic::replace(seams.disk.as_ref(), file, &bytes, Durable::Yes).map_err(StoreError::io("writing keys.json"))
}

mod hash_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&crate::base::digest::hex(hash))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(d)?;
        let mut hash = [0; 32];
        let digits = text.as_bytes();
        for (out, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let value = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *out = value.ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits"))?;
        }
        if digits.len() == 64 { Ok(hash) } else { Err(serde::de::Error::custom("expected 64 hexadecimal digits")) }
    }
}
