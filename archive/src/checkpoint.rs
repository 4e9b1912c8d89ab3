//! Checkpoints: signed tree heads (c2sp.org/tlog-checkpoint), and the keys that sign and verify them
//! (c2sp.org/signed-note, Ed25519).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, StandardSigner, StandardVerifier, Verifier as _, VerifierList, key_id};
use tlog_tiles::Checkpoint;
use zeroize::Zeroizing;

use crate::hash::Hash;
use crate::tree::TreeHead;

/// The byte that says Ed25519 in a key (c2sp.org/signed-note).
const ED25519: u8 = 1;

/// The longest note that is read: a checkpoint has about 300 bytes, and each witness adds about 200.
pub const MAX_NOTE: usize = 64 << 10;

/// Signs the tree heads of one log.
pub struct CheckpointSigner {
    signer: StandardSigner,
    origin: String,
    verifier_key: String,
}

impl std::fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointSigner")
            .field("verifier_key", &self.verifier_key)
            .finish_non_exhaustive()
    }
}

/// Verifies the tree heads of one log.
#[derive(Clone)]
pub struct CheckpointVerifier {
    verifier: StandardVerifier,
    text: String,
}

impl std::fmt::Debug for CheckpointVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CheckpointVerifier")
            .field(&self.text)
            .finish()
    }
}

/// A text that is no key of a signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Not a signer key.
    #[error("it is not a signer key: PRIVATE+KEY+<name>+<id>+<base64>")]
    Signer,
    /// Not a verifier key.
    #[error("it is not a verifier key: <name>+<id>+<base64>")]
    Verifier,
}

/// Why a note is no checkpoint that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is not a signed note.
    #[error("it is not a signed note")]
    NotANote,
    /// Its text is not a tree head.
    #[error("it is a signed note, but no checkpoint")]
    NotACheckpoint,
    /// It is a checkpoint of another log.
    #[error("it is a checkpoint of {found:?}, not of {expected:?}")]
    OtherLog {
        /// The log that the verifier is for.
        expected: String,
        /// The log that it names.
        found: String,
    },
    /// The signature is missing or does not verify.
    #[error("it is not signed by {0}")]
    NotSigned(String),
    /// It cannot be signed.
    #[error("it cannot be signed")]
    Unsignable,
}

impl CheckpointSigner {
    /// The signer of the log `origin` whose Ed25519 key has this seed (RFC 8032 section 5.1.5): the key's text, for
    /// `checkpoint.key`.
    #[must_use]
    pub fn text_from_seed(origin: &str, seed: &[u8; 32]) -> Zeroizing<String> {
        let public = ed25519_dalek::SigningKey::from_bytes(seed).verifying_key();
        let id = key_id(origin, &with_algorithm(public.as_bytes()));
        let key = Zeroizing::new(with_algorithm(seed));
        let key = Zeroizing::new(STANDARD.encode(&*key));
        Zeroizing::new(format!("PRIVATE+KEY+{origin}+{id:08x}+{}", key.as_str()))
    }

    /// Reads a signer key.
    ///
    /// # Errors
    /// [`KeyTextError::Signer`].
    pub fn parse(text: &str) -> Result<CheckpointSigner, KeyTextError> {
        let signer = StandardSigner::new(text).map_err(|_| KeyTextError::Signer)?;
        // The text is whole, or it would not have been read.
        let mut parts = text.splitn(5, '+').skip(2);
        let (Some(origin), Some(_id), Some(key)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyTextError::Signer);
        };
        let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| KeyTextError::Signer)?);
        let seed: &[u8; 32] = key
            .get(1..)
            .and_then(|seed| seed.try_into().ok())
            .ok_or(KeyTextError::Signer)?;
        let public = with_algorithm(
            ed25519_dalek::SigningKey::from_bytes(seed)
                .verifying_key()
                .as_bytes(),
        );
        let verifier_key = format!(
            "{origin}+{:08x}+{}",
            key_id(origin, &public),
            STANDARD.encode(&public)
        );
        Ok(CheckpointSigner {
            signer,
            origin: origin.to_owned(),
            verifier_key,
        })
    }

    /// The log that it signs for.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What an auditor needs to verify: [`CheckpointVerifier::parse`] reads it.
    #[must_use]
    pub fn verifier_key(&self) -> &str {
        &self.verifier_key
    }

    /// The verifier of its checkpoints.
    ///
    /// # Errors
    /// None in practice: what is signed can be verified.
    pub fn verifier(&self) -> Result<CheckpointVerifier, KeyTextError> {
        CheckpointVerifier::parse(&self.verifier_key)
    }

    /// Signs a tree head: the checkpoint as it is kept.
    ///
    /// # Errors
    /// [`CheckpointError::Unsignable`] if the origin is no name for a log, which [`CheckpointSigner::parse`] refuses.
    pub fn sign(&self, head: TreeHead) -> Result<Vec<u8>, CheckpointError> {
        let root = tlog_tiles::Hash(head.root.0);
        let checkpoint = Checkpoint::new(&self.origin, head.size, root, "")
            .map_err(|_| CheckpointError::Unsignable)?;
        let mut note =
            Note::new(&checkpoint.to_bytes(), &[]).map_err(|_| CheckpointError::Unsignable)?;
        note.add_sigs(&[&self.signer])
            .map_err(|_| CheckpointError::Unsignable)?;
        Ok(note.to_bytes())
    }
}

impl CheckpointVerifier {
    /// Reads a verifier key.
    ///
    /// # Errors
    /// [`KeyTextError::Verifier`].
    pub fn parse(text: &str) -> Result<CheckpointVerifier, KeyTextError> {
        let text = text.trim();
        let verifier = StandardVerifier::new(text).map_err(|_| KeyTextError::Verifier)?;
        Ok(CheckpointVerifier {
            verifier,
            text: text.to_owned(),
        })
    }

    /// The log that it verifies.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.verifier.name()
    }

    /// The verifier key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tree head of a checkpoint of this log, if its signature verifies. Signatures of others (witnesses) are let be.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(&self, note: &[u8]) -> Result<TreeHead, CheckpointError> {
        if note.len() > MAX_NOTE {
            return Err(CheckpointError::NotANote);
        }
        let note = Note::from_bytes(note).map_err(|_| CheckpointError::NotANote)?;
        let checkpoint =
            Checkpoint::from_bytes(note.text()).map_err(|_| CheckpointError::NotACheckpoint)?;
        if checkpoint.origin() != self.origin() {
            return Err(CheckpointError::OtherLog {
                expected: self.origin().to_owned(),
                found: checkpoint.origin().to_owned(),
            });
        }
        let known = VerifierList::new(vec![Box::new(self.verifier.clone())]);
        note.verify(&known)
            .map_err(|_| CheckpointError::NotSigned(self.text.clone()))?;
        Ok(TreeHead {
            size: checkpoint.size(),
            root: Hash(checkpoint.hash().0),
        })
    }
}

fn with_algorithm(key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(33);
    bytes.push(ED25519);
    bytes.extend_from_slice(key);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(size: u64) -> TreeHead {
        TreeHead {
            size,
            root: Hash::of_leaf(b"line"),
        }
    }

    fn signer(seed: u8) -> CheckpointSigner {
        let text =
            CheckpointSigner::text_from_seed("sealpost/local/archiver/encrypted_logs", &[seed; 32]);
        CheckpointSigner::parse(&text).unwrap()
    }

    #[test]
    fn a_signed_tree_head_verifies_with_its_key_alone() {
        for seed in 0..=255 {
            let signer = signer(seed);
            let note = signer.sign(head(7)).unwrap();
            assert_eq!(signer.verifier().unwrap().verify(&note).unwrap(), head(7));
        }
        let note = String::from_utf8(signer(1).sign(head(7)).unwrap()).unwrap();
        assert!(
            note.starts_with("sealpost/local/archiver/encrypted_logs\n7\n"),
            "{note}"
        );
        assert!(
            note.contains("\n\n— sealpost/local/archiver/encrypted_logs "),
            "{note}"
        );
        let other = signer(2).verifier().unwrap();
        assert!(matches!(
            other.verify(note.as_bytes()),
            Err(CheckpointError::NotSigned(_))
        ));
        let changed = note.replacen("\n7\n", "\n8\n", 1);
        let own = signer(1).verifier().unwrap();
        assert!(matches!(
            own.verify(changed.as_bytes()),
            Err(CheckpointError::NotSigned(_))
        ));
    }

    #[test]
    fn a_checkpoint_of_another_log_is_told_apart() {
        let text = CheckpointSigner::text_from_seed("elsewhere", &[1; 32]);
        let note = CheckpointSigner::parse(&text)
            .unwrap()
            .sign(head(1))
            .unwrap();
        assert!(matches!(
            signer(1).verifier().unwrap().verify(&note),
            Err(CheckpointError::OtherLog { .. })
        ));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let verifier = signer(1).verifier().unwrap();
        assert_eq!(verifier.verify(b""), Err(CheckpointError::NotANote));
        assert_eq!(
            verifier.verify(&vec![b'\n'; MAX_NOTE + 1]),
            Err(CheckpointError::NotANote)
        );
        for text in ["", "x", "PRIVATE+KEY+a+00000000+AQ==", "a+00000000+AQ=="] {
            assert_eq!(
                CheckpointSigner::parse(text).unwrap_err(),
                KeyTextError::Signer
            );
            assert_eq!(
                CheckpointVerifier::parse(text).unwrap_err(),
                KeyTextError::Verifier
            );
        }
    }

    #[test]
    fn the_signing_key_is_not_shown() {
        let text = CheckpointSigner::text_from_seed("log", &[1; 32]);
        let shown = format!("{:?}", CheckpointSigner::parse(&text).unwrap());
        assert!(!shown.contains("AQEB"), "{shown}");
        assert!(shown.contains("log+"), "{shown}");
    }
}
