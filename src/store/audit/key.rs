//! The key that signs checkpoints: 32 random bytes in `<home>/audit.key` (0600), made at first use.

use std::path::Path;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::base::digest::hex;
use crate::store::StoreError;
use crate::store::atomic::{self, Durable};
use crate::store::home::{Seams, refuse_exposed};
use crate::sys::disk::{Disk, read_whole};

/// Signs and names itself.
pub(crate) struct Signer(Ed25519KeyPair);

impl Signer {
    /// Reads `<home>/audit.key`, or makes it.
    ///
    /// # Errors
    /// `Exposed`, `Damaged` where it is no key, `DiskFull`, `Io`.
    pub(crate) fn open(home: &Path, seams: &Seams) -> Result<Self, StoreError> {
        if let Some(signer) = Self::read(seams.disk.as_ref(), home)? {
            return Ok(signer);
        }
        let mut seed = [0; 32];
        seams.random.fill(&mut seed);
        atomic::replace(seams.disk.as_ref(), &home.join("audit.key"), &seed, Durable::Yes)
            .map_err(StoreError::io("writing the audit key"))?;
        Self::read(seams.disk.as_ref(), home)?.ok_or(StoreError::NotFound)
    }
    /// Reads the key; `None` where there is none yet.
    pub(crate) fn read(disk: &dyn Disk, home: &Path) -> Result<Option<Self>, StoreError> {
        let path = home.join("audit.key");
        let Some(stat) = disk.stat(&path).map_err(StoreError::io("looking at the audit key"))? else { return Ok(None) };
        refuse_exposed(&path, stat.mode)?;
        let seed = read_whole(disk, &path, 32).map_err(StoreError::io("reading the audit key"))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| {
            StoreError::Damaged(format!("{} is not 32 bytes; restore it, or remove it to sign with a new key", path.display()))
        })?;
        Ok(Some(Self(pair)))
    }
    /// The public key in hexadecimal.
    pub(crate) fn public(&self) -> String {
        hex(self.0.public_key().as_ref())
    }
    /// Signs that record `n` has this hash.
    pub(crate) fn sign(&self, n: u64, hash: &[u8; 32]) -> String {
        hex(self.0.sign(&signed(n, hash)).as_ref())
    }
}

/// The signature says that record `n` has this hash.
pub(crate) fn is_signed(public: &[u8; 32], n: u64, hash: &[u8; 32], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(&signed(n, hash), signature).is_ok()
}

fn signed(n: u64, hash: &[u8; 32]) -> Vec<u8> {
    [b"oxios-edge audit 1\n".as_slice(), &n.to_be_bytes(), hash].concat()
}
